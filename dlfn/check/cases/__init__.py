"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import (
    activations,
    attention,
    contrastive,
    conv,
    ctc,
    divergences,
    heads,
    linear,
    losses,
    normalisation,
    penalties,
    pooling,
    positions,
    recurrent,
    regularisation,
    softmax,
)

__all__ = [
    "activations",
    "attention",
    "contrastive",
    "conv",
    "ctc",
    "divergences",
    "heads",
    "linear",
    "losses",
    "normalisation",
    "penalties",
    "pooling",
    "positions",
    "recurrent",
    "regularisation",
    "softmax",
]
from dlfn.check.cases import activations, exponential_units, gated, linear, losses, piecewise, regularisation, softmax

__all__ = ["activations", "exponential_units", "gated", "linear", "losses", "piecewise", "regularisation", "softmax"]
