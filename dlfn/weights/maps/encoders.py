"""BERT as Hugging Face has it."""

from collections.abc import Collection, Mapping
from typing import Any

from dlfn import nn
from dlfn.weights.maps.mapped import ACTIVATIONS, Mapped, path, tokens
from dlfn.weights.maps.settings import Settings
from dlfn.weights.names import Names, ignored
from dlfn.weights.pytorch import linear, norm

__all__ = ["bert"]


def bert(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """BERT's encoder, with its pooler if there is one: ``transformers.BertModel``.

    Args:
        config: a ``config.json``: ``vocab_size``, ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads``,
            ``intermediate_size``, ``hidden_act``, ``max_position_embeddings``, ``type_vocab_size``, ``layer_norm_eps``.
        arrays: the names in the file, which tell whether there is a pooler; without them there is.

    Raises:
        InputError: on settings that are missing or not known.
    """
    settings = Settings(config)
    settings.only("position_embedding_type", "absolute")
    settings.only("is_decoder", False)
    settings.only("add_cross_attention", False)
    width, layers = settings.size("hidden_size"), settings.size("num_hidden_layers")
    pooler = not arrays or any(name.startswith("pooler.") for name in arrays)
    model = nn.models.bert(
        settings.size("vocab_size"),
        context=settings.size("max_position_embeddings"),
        types=settings.size("type_vocab_size"),
        layers=layers,
        heads=settings.size("num_attention_heads"),
        width=width,
        ratio=settings.size("intermediate_size") / width,
        activation=settings.one_of("hidden_act", ACTIVATIONS),
        eps=settings.number("layer_norm_eps", 1e-12),
        pooler=pooler,
    )
    names: Names = {
        "embeddings.word_embeddings.weight": "embedding/table",
        "embeddings.token_type_embeddings.weight": "types/table",
        "embeddings.position_embeddings.weight": "body/positions/table",
        "embeddings.position_ids": ignored,
        **path(norm(), "embeddings.LayerNorm", "body/norm"),
        **(path(linear(), "pooler.dense", "pooler") if pooler else {}),
    }
    theirs, ours = "encoder.layer.{i}", "body/blocks/{i}"
    for name, own in {
        "attention.self.query": "attention/attention/q",
        "attention.self.key": "attention/attention/k",
        "attention.self.value": "attention/attention/v",
        "attention.output.dense": "attention/attention/o",
        "intermediate.dense": "mlp/mlp/up",
        "output.dense": "mlp/mlp/down",
    }.items():
        names |= path(linear(), f"{theirs}.{name}", f"{ours}/{own}")
    for name, own in {"attention.output.LayerNorm": "attention_norm", "output.LayerNorm": "mlp_norm"}.items():
        names |= path(norm(), f"{theirs}.{name}", f"{ours}/{own}")
    return Mapped(model, names, tokens())
