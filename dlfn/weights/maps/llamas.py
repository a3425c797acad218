"""Llama, Mistral, Qwen2 and Qwen3 as Hugging Face has them."""

from collections.abc import Collection, Mapping
from typing import Any

from dlfn import nn
from dlfn.core import InputError
from dlfn.weights.maps.mapped import Mapped, path, tokens
from dlfn.weights.maps.settings import Settings
from dlfn.weights.names import Names, To, ignored
from dlfn.weights.pytorch import linear
from dlfn.weights.rules import Equal, Joined, transpose

__all__ = ["llama"]

_GATED = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}
_NORM: Names = {"weight": "scale"}


def llama(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """``transformers.LlamaForCausalLM``, and by ``model_type`` those of ``"mistral"``, ``"qwen2"`` and ``"qwen3"``.

    Args:
        config: a ``config.json``: ``vocab_size``, ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads``,
            ``num_key_value_heads``, ``head_dim``, ``intermediate_size``, ``hidden_act``, ``rms_norm_eps``,
            ``rope_theta`` and ``rope_scaling``, or ``rope_parameters`` with both, ``sliding_window``,
            ``attention_bias``, ``mlp_bias``, ``tie_word_embeddings``, ``max_position_embeddings``.
        arrays: the names in the file, which tell whether a tied head is there a second time; without them it is not.

    Raises:
        InputError: on settings that are missing or not known.
    """
    settings = Settings(config)
    kind = settings.one_of("model_type", {name: name for name in ("llama", "mistral", "qwen2", "qwen3")}, "llama")
    settings.only("pretraining_tp", 1)
    width, heads = settings.size("hidden_size"), settings.size("num_attention_heads")
    tied = settings.flag("tie_word_embeddings", False)
    bias = settings.flag("attention_bias", False)
    qkv_bias = kind == "qwen2" or bias
    mlp_bias = settings.flag("mlp_bias", False)
    model = nn.models.llama(
        settings.size("vocab_size"),
        context=settings.size("max_position_embeddings", None),
        layers=settings.size("num_hidden_layers"),
        heads=heads,
        kv_heads=settings.size("num_key_value_heads", heads),
        head_dim=settings.size("head_dim", width // heads),
        width=width,
        ratio=settings.size("intermediate_size") / width,
        positions=_rope(settings),
        window=_window(settings, kind),
        qk_norm=kind == "qwen3",
        qkv_bias=qkv_bias,
        bias=bias,
        mlp_bias=mlp_bias,
        activation=settings.one_of("hidden_act", _GATED, "silu"),
        eps=settings.number("rms_norm_eps", 1e-6),
        tied=tied,
    )
    theirs, ours = "model.layers.{i}", "body/blocks/{i}"
    attention, mlp = f"{ours}/attention", f"{ours}/mlp"
    names: Names = {
        **path(_NORM, f"{theirs}.input_layernorm", f"{attention}/norm"),
        **path(_NORM, f"{theirs}.post_attention_layernorm", f"{mlp}/norm"),
        **path(_NORM, "model.norm", "body/norm"),
        f"{theirs}.self_attn.rotary_emb.inv_freq": ignored,
        "model.rotary_emb.inv_freq": ignored,
        **path(linear(bias=mlp_bias), f"{theirs}.mlp.down_proj", f"{mlp}/mlp/down"),
    }
    for part in "qkvo":
        own = linear(bias=bias if part == "o" else qkv_bias)
        names |= path(own, f"{theirs}.self_attn.{part}_proj", f"{attention}/attention/{part}")
    if kind == "qwen3":
        for part in "qk":
            names |= path(_NORM, f"{theirs}.self_attn.{part}_norm", f"{attention}/attention/{part}_norm")
    both = (f"{theirs}.mlp.up_proj", f"{theirs}.mlp.gate_proj")  # values, then gates
    names[tuple(f"{name}.weight" for name in both)] = To(f"{mlp}/mlp/up/w", Joined(2, then=transpose))
    if mlp_bias:
        names[tuple(f"{name}.bias" for name in both)] = To(f"{mlp}/mlp/up/b", Joined(2))
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    if tied and head in arrays:
        names[embedding, head] = To("embedding/table", Equal(2))
    else:
        names[embedding] = "embedding/table"
        if not tied:
            names |= path(linear(bias=False), "lm_head", "head")
    return Mapped(model, names, tokens())


def _rope(settings: Settings) -> nn.Rope:
    given = settings.table("rope_parameters") or settings.table("rope_scaling")
    base = settings.number("rope_theta", 10000.0)
    fraction = settings.number("partial_rotary_factor", 1.0)
    if given is None:
        return nn.Rope(base, fraction=fraction)
    base, fraction = given.number("rope_theta", base), given.number("partial_rotary_factor", fraction)
    key = "type" if "type" in given.names() and "rope_type" not in given.names() else "rope_type"
    scaling = given.one_of(key, {"default": None, "linear": _linear, "llama3": _llama3, "yarn": _yarn}, "default")
    context = settings.size("original_max_position_embeddings", settings.size("max_position_embeddings", 2048))
    return nn.Rope(base, fraction=fraction, scaling=scaling and scaling(given, context))


def _linear(given: Settings, context: int) -> nn.LinearScaling:
    return nn.LinearScaling(given.number("factor"))


def _llama3(given: Settings, context: int) -> nn.Llama3Scaling:
    names = "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"
    return nn.Llama3Scaling(*map(given.number, names))


def _yarn(given: Settings, context: int) -> nn.YarnScaling:
    mscale = given.number("mscale", None)
    all_dim = given.number("mscale_all_dim", None)
    both = {"mscale": mscale, "mscale_all_dim": all_dim} if mscale and all_dim else {}
    return nn.YarnScaling(
        given.number("factor"),
        given.number("original_max_position_embeddings", context),
        beta_fast=given.number("beta_fast", 32.0),
        beta_slow=given.number("beta_slow", 1.0),
        attention_factor=given.number("attention_factor", None),
        truncate=given.flag("truncate", True),
        **both,
    )


def _window(settings: Settings, kind: str) -> int | None:
    window = settings.size("sliding_window", None)
    if window is None or kind == "llama":
        return None
    if kind == "mistral":
        return window
    kinds = settings.get("layer_types", None)
    if kinds is None and settings.flag("use_sliding_window", False):
        count, first = settings.size("num_hidden_layers"), settings.get("max_window_layers", 28)
        kinds = ["sliding_attention" if index >= first else "full_attention" for index in range(count)]
    found = set(kinds or ["full_attention"])
    if found == {"full_attention"}:
        return None
    if found == {"sliding_attention"}:
        return window
    raise InputError(
        f"config: layer_types has {', '.join(sorted(map(str, found)))}, and must be either full_attention or "
        "sliding_attention for all layers"
    )
