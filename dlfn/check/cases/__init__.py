"""The registry's entries, by family of ops: importing them registers them."""

from dlfn.check.cases import activations, linear, losses, normalisation, regularisation, softmax

__all__ = ["activations", "linear", "losses", "normalisation", "regularisation", "softmax"]
from dlfn.check.cases import activations, linear, losses, pooling, regularisation, softmax

__all__ = ["activations", "linear", "losses", "pooling", "regularisation", "softmax"]
from dlfn.check.cases import activations, linear, losses, recurrent, regularisation, softmax

__all__ = ["activations", "linear", "losses", "recurrent", "regularisation", "softmax"]
from dlfn.check.cases import activations, attention, linear, losses, regularisation, softmax

__all__ = ["activations", "attention", "linear", "losses", "regularisation", "softmax"]
from dlfn.check.cases import activations, heads, linear, losses, regularisation, softmax

__all__ = ["activations", "heads", "linear", "losses", "regularisation", "softmax"]
