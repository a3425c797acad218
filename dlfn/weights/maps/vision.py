"""Vision transformers as Hugging Face and timm have them."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import jax

from dlfn import nn
from dlfn.core import InputError
from dlfn.weights.maps.mapped import ACTIVATIONS, Mapped, path
from dlfn.weights.maps.settings import Settings
from dlfn.weights.names import Names, To
from dlfn.weights.pytorch import conv, linear, norm
from dlfn.weights.rules import Split, Squeezed, transpose

__all__ = ["timm_vit", "vit"]

_ATTENTION, _MLP = "blocks/{i}/attention", "blocks/{i}/mlp"


def vit(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """``transformers.ViTForImageClassification``. Images are (N, height, width, channels) here.

    Args:
        config: a ``config.json``: ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads``,
            ``intermediate_size``, ``hidden_act``, ``layer_norm_eps``, ``image_size``, ``patch_size``,
            ``num_channels``, ``qkv_bias``; and ``id2label`` or ``num_labels`` for the number of classes.
        arrays: the names in the file, which are not needed.

    Raises:
        InputError: on settings that are missing or not known.
    """
    settings = Settings(config)
    settings.only("qkv_bias", True)
    width = settings.size("hidden_size")
    labels = settings.get("id2label", None)
    model = nn.models.vit(
        len(labels) if labels else settings.size("num_labels", 2),
        patch=settings.size("patch_size"),
        layers=settings.size("num_hidden_layers"),
        heads=settings.size("num_attention_heads"),
        width=width,
        ratio=settings.size("intermediate_size") / width,
        activation=settings.one_of("hidden_act", ACTIVATIONS),
        eps=settings.number("layer_norm_eps", 1e-12),
    )
    theirs = "vit.encoder.layer.{i}"
    names: Names = {
        "vit.embeddings.cls_token": To("tokens/token", Squeezed((0, 1))),
        "vit.embeddings.position_embeddings": To("tokens/positions", Squeezed(0)),
        **path(conv(), "vit.embeddings.patch_embeddings.projection", "patches"),
        **path(norm(), f"{theirs}.layernorm_before", f"{_ATTENTION}/norm"),
        **path(linear(), f"{theirs}.attention.output.dense", f"{_ATTENTION}/attention/o"),
        **path(norm(), f"{theirs}.layernorm_after", f"{_MLP}/norm"),
        **path(linear(), f"{theirs}.intermediate.dense", f"{_MLP}/mlp/up"),
        **path(linear(), f"{theirs}.output.dense", f"{_MLP}/mlp/down"),
        **path(norm(), "vit.layernorm", "norm"),
        **path(linear(), "classifier", "logits"),
    }
    for name, own in {"query": "q", "key": "k", "value": "v"}.items():
        names |= path(linear(), f"{theirs}.attention.attention.{name}", f"{_ATTENTION}/attention/{own}")
    return Mapped(model, names, _images(settings.size("image_size"), settings.size("num_channels", 3)))


# Width, blocks and heads by timm's names.
_SIZES = {
    "tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "huge": (1280, 32, 16),
}  # fmt: skip


def timm_vit(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """timm's ``vit_{tiny,small,base,large,huge}_patch{size}_{image}``.

    Args:
        config: a ``config.json`` of timm: ``architecture``, ``num_classes``, ``global_pool``, and ``model_args`` with
            ``img_size``, ``embed_dim``, ``depth``, ``num_heads`` and ``mlp_ratio`` where they differ from the name's.
        arrays: the names in the file, which are not needed.

    Raises:
        InputError: on settings that are missing or not known.
    """
    settings = Settings(config)
    architecture = str(settings.get("architecture"))
    match = re.fullmatch(r"vit_([a-z]+)_patch(\d+)_(\d+)", architecture)
    if not match or match[1] not in _SIZES:
        raise InputError(
            f"config: architecture = {architecture!r}, and known are vit_SIZE_patchP_N with SIZE one of "
            f"{', '.join(_SIZES)}"
        )
    settings.only("global_pool", "token")
    width, layers, heads = _SIZES[match[1]]
    own = settings.table("model_args") or Settings({}, "config.model_args")
    known = ("img_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size", "in_chans", "num_classes")
    for name in own.names():
        Settings({"model_args": name}).one_of("model_args", dict.fromkeys(known))
    width = own.size("embed_dim", width)
    model = nn.models.vit(
        own.size("num_classes", settings.size("num_classes", 1000)),
        patch=own.size("patch_size", int(match[2])),
        layers=own.size("depth", layers),
        heads=own.size("num_heads", heads),
        width=width,
        ratio=own.number("mlp_ratio", 4),
        eps=1e-6,
    )
    names: Names = {
        "cls_token": To("tokens/token", Squeezed((0, 1))),
        "pos_embed": To("tokens/positions", Squeezed(0)),
        **path(conv(), "patch_embed.proj", "patches"),
        **path(norm(), "blocks.{i}.norm1", f"{_ATTENTION}/norm"),
        "blocks.{i}.attn.qkv.weight": To([f"{_ATTENTION}/attention/{p}/w" for p in "qkv"], Split(3, then=transpose)),
        "blocks.{i}.attn.qkv.bias": To([f"{_ATTENTION}/attention/{p}/b" for p in "qkv"], Split(3)),
        **path(linear(), "blocks.{i}.attn.proj", f"{_ATTENTION}/attention/o"),
        **path(norm(), "blocks.{i}.norm2", f"{_MLP}/norm"),
        **path(linear(), "blocks.{i}.mlp.fc1", f"{_MLP}/mlp/up"),
        **path(linear(), "blocks.{i}.mlp.fc2", f"{_MLP}/mlp/down"),
        **path(norm(), "norm", "norm"),
        **path(linear(), "head", "logits"),
    }
    return Mapped(model, names, _images(own.size("img_size", int(match[3])), own.size("in_chans", 3)))


def _images(size: int, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, size, size, channels), "float32")
