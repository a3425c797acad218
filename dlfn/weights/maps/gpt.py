"""GPT-2 as Hugging Face has it."""

from collections.abc import Collection, Mapping
from typing import Any

from dlfn import nn
from dlfn.weights.maps.mapped import ACTIVATIONS, Mapped, path, tokens
from dlfn.weights.maps.settings import Settings
from dlfn.weights.names import Names, To, ignored, under
from dlfn.weights.pytorch import norm
from dlfn.weights.rules import Equal, Split

__all__ = ["gpt2"]


def gpt2(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """GPT-2 with its tied head: ``transformers.GPT2LMHeadModel``, whose linear maps are (in, out), as they are here.

    Args:
        config: a ``config.json``: ``vocab_size``, ``n_positions``, ``n_embd``, ``n_layer``, ``n_head``, ``n_inner``,
            ``activation_function``, ``layer_norm_epsilon``.
        arrays: the names in the file, which tell whether they begin with ``transformer.``, and whether the head is
            there a second time; without them they do, and it is not.

    Raises:
        InputError: on settings that are missing or not known.
    """
    settings = Settings(config)
    settings.only("tie_word_embeddings", True)
    settings.only("scale_attn_weights", True)
    settings.only("scale_attn_by_inverse_layer_idx", False)
    settings.only("add_cross_attention", False)
    width = settings.size("n_embd")
    model = nn.models.gpt(
        settings.size("vocab_size"),
        context=settings.size("n_positions", 1024),
        layers=settings.size("n_layer"),
        heads=settings.size("n_head"),
        width=width,
        ratio=settings.size("n_inner", 4 * width) / width,
        bias=True,
        activation=settings.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        eps=settings.number("layer_norm_epsilon", 1e-5),
    )
    attention, mlp = "body/blocks/{i}/attention", "body/blocks/{i}/mlp"
    names: Names = {
        "wpe.weight": "body/positions/table",
        **path(norm(), "ln_f", "body/norm"),
        **path(norm(), "h.{i}.ln_1", f"{attention}/norm"),
        "h.{i}.attn.c_attn.weight": To([f"{attention}/attention/{part}/w" for part in "qkv"], Split(3, axis=1)),
        "h.{i}.attn.c_attn.bias": To([f"{attention}/attention/{part}/b" for part in "qkv"], Split(3)),
        # Masks, which some files have.
        "h.{i}.attn.bias": ignored,
        "h.{i}.attn.masked_bias": ignored,
        **path(_LINEAR, "h.{i}.attn.c_proj", f"{attention}/attention/o"),
        **path(norm(), "h.{i}.ln_2", f"{mlp}/norm"),
        **path(_LINEAR, "h.{i}.mlp.c_fc", f"{mlp}/mlp/up"),
        **path(_LINEAR, "h.{i}.mlp.c_proj", f"{mlp}/mlp/down"),
    }
    prefix = "" if "wte.weight" in arrays else "transformer."
    table, head = f"{prefix}wte.weight", "lm_head.weight"
    tied: Names = {(table, head): To("embedding/table", Equal(2))} if head in arrays else {table: "embedding/table"}
    return Mapped(model, {**tied, **under(names, prefix)}, tokens())


_LINEAR: Names = {"weight": "w", "bias": "b"}  # transformers' Conv1D
