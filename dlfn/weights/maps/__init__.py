"""Models of other libraries, from their ``config.json``: each function takes the dictionary and returns a model of the
layers here, and the map of names of its file."""

from dlfn.weights.maps.encoders import bert
from dlfn.weights.maps.families import FAMILIES, of_config
from dlfn.weights.maps.gpt import gpt2
from dlfn.weights.maps.llamas import llama
from dlfn.weights.maps.mapped import Mapped
from dlfn.weights.maps.residual import resnet
from dlfn.weights.maps.vision import timm_vit, vit

__all__ = ["FAMILIES", "Mapped", "bert", "gpt2", "llama", "of_config", "resnet", "timm_vit", "vit"]
