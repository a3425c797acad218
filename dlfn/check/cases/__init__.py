"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import activations, heads, linear, losses, regularisation, softmax

__all__ = ["activations", "heads", "linear", "losses", "regularisation", "softmax"]
