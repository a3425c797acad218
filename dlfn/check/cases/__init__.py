"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import (
    activations,
    contrastive,
    ctc,
    divergences,
    heads,
    linear,
    losses,
    penalties,
    regularisation,
    softmax,
)

__all__ = [
    "activations",
    "contrastive",
    "ctc",
    "divergences",
    "heads",
    "linear",
    "losses",
    "penalties",
    "regularisation",
    "softmax",
]
