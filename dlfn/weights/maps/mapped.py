"""What a map of a ``config.json`` is."""

from typing import Any, NamedTuple

import jax

from dlfn import nn
from dlfn.weights.names import Names, To, under

__all__ = ["ACTIVATIONS", "Mapped", "path", "tokens"]


class Mapped(NamedTuple):
    """A model and where its params are in a file.

    Attributes:
        model: the layers.
        names: as for :func:`dlfn.weights.import_state`.
        inputs: the shape and dtype of an input, as ``init`` takes it.
    """

    model: nn.Layer
    names: Names
    inputs: Any


# Names of Hugging Face's for functions that are here.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh", "mish": "mish",
}  # fmt: skip


def tokens() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, 2), "int32")


def path(names: Names, prefix: str, inner: str) -> dict[str | tuple[str, ...], str | To]:
    """Names of a module, and the path of the layer that it is."""
    return under(names, f"{prefix}.", inner)
