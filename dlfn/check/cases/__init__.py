"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import (
    activations,
    attention,
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
    "heads",
    "linear",
    "losses",
    "normalisation",
    "pooling",
    "recurrent",
    "regularisation",
    "softmax",
]
from dlfn.check.cases import activations, conv, linear, losses, regularisation, softmax

__all__ = ["activations", "conv", "linear", "losses", "regularisation", "softmax"]
