"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import activations, conv, linear, losses, regularisation, softmax

__all__ = ["activations", "conv", "linear", "losses", "regularisation", "softmax"]
