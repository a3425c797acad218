"""Whole models, as functions of their settings; the batch is the first axis of what they take."""

from dlfn.nn.models import sharding
from dlfn.nn.models.autoencoders import VAE, Reconstruction, vae
from dlfn.nn.models.convolutional import cnn, resnet
from dlfn.nn.models.decoders import llama
from dlfn.nn.models.encoders import TextEncoder, bert
from dlfn.nn.models.language import LanguageModel, gpt, lstm
from dlfn.nn.models.perceptrons import mlp
from dlfn.nn.models.vision import vit

__all__ = [
    "VAE", "LanguageModel", "Reconstruction", "TextEncoder", "bert", "cnn", "gpt", "llama", "lstm", "mlp", "resnet",
    "sharding", "vae", "vit",
]  # fmt: skip
