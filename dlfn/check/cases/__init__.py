"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import (
    activations,
    attention,
    conv,
    heads,
    linear,
    losses,
    normalisation,
    pooling,
    recurrent,
    regularisation,
    softmax,
)

__all__ = [
    "activations",
    "attention",
    "conv",
    "heads",
    "linear",
    "losses",
    "normalisation",
    "pooling",
    "recurrent",
    "regularisation",
    "softmax",
]
