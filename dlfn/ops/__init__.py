"""Differentiable functions of arrays, each with a hand-derived backward pass."""

from dlfn.ops.activations import gelu, log_sigmoid, mish, relu, sigmoid, silu, softplus, softsign, squareplus, tanh
from dlfn.ops.cross_entropy import softmax_cross_entropy
from dlfn.ops.dropout import dropout
from dlfn.ops.exponential_units import celu, elu, selu
from dlfn.ops.gated import geglu, glu, swiglu
from dlfn.ops.linear import linear
from dlfn.ops.losses import binary_cross_entropy, mse
from dlfn.ops.piecewise import hard_sigmoid, hard_swish, hard_tanh, leaky_relu, prelu, relu6
from dlfn.ops.softmax import log_softmax, logsumexp, softmax, softmax_jacobian

__all__ = [
    "binary_cross_entropy",
    "celu",
    "dropout",
    "elu",
    "geglu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mish",
    "mse",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softmax_jacobian",
    "softplus",
    "softsign",
    "squareplus",
    "swiglu",
    "tanh",
]
