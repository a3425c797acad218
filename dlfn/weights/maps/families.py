"""Which map a ``config.json`` is for."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from dlfn.core import InputError
from dlfn.weights.maps.encoders import bert
from dlfn.weights.maps.gpt import gpt2
from dlfn.weights.maps.llamas import llama
from dlfn.weights.maps.mapped import Mapped
from dlfn.weights.maps.residual import BLOCKS, resnet
from dlfn.weights.maps.settings import Settings
from dlfn.weights.maps.vision import timm_vit, vit

__all__ = ["FAMILIES", "of_config"]

# By the model_type of Hugging Face: the map, and the architectures that it is for.
FAMILIES: dict[str, tuple[Callable[..., Mapped], tuple[str, ...]]] = {
    "bert": (bert, ("BertModel",)),
    "gpt2": (gpt2, ("GPT2LMHeadModel",)),
    "llama": (llama, ("LlamaForCausalLM",)),
    "mistral": (llama, ("MistralForCausalLM",)),
    "qwen2": (llama, ("Qwen2ForCausalLM",)),
    "qwen3": (llama, ("Qwen3ForCausalLM",)),
    "vit": (vit, ("ViTForImageClassification",)),
}


def of_config(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """The model of a ``config.json``, and the map of its file.

    Args:
        config: the dictionary. With ``model_type`` it is one of Hugging Face's transformers, with ``architecture`` one
            of timm's or torchvision's.
        arrays: the names in the file, where they tell more than the configuration.

    Raises:
        InputError: on a model that is not known, with those that are; and on its settings.

    >>> mapped = of_config({
    ...     "model_type": "llama", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
    ...     "num_attention_heads": 2, "intermediate_size": 12, "rms_norm_eps": 1e-5,
    ... })
    >>> mapped.names["model.layers.{i}.self_attn.q_proj.weight"].paths
    ('body/blocks/{i}/attention/attention/q/w',)
    """
    settings = Settings(config)
    if "model_type" in settings.names():
        family, architectures = settings.one_of("model_type", FAMILIES)
        given = settings.get("architectures", None)
        if given and not set(given) <= set(architectures):
            raise InputError(
                f"config: architectures = {list(given)}, and known for model_type = {config['model_type']!r} is "
                f"{', '.join(architectures)}"
            )
        return family(config, arrays)
    if "architecture" in settings.names():
        return (resnet if str(config["architecture"]) in BLOCKS else timm_vit)(config, arrays)
    raise InputError(
        "config has neither model_type, as Hugging Face's, nor architecture, as timm's; known are model_type "
        f"{', '.join(FAMILIES)}, and architecture {', '.join(BLOCKS)} and vit_SIZE_patchP_N"
    )
