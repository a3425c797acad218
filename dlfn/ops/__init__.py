"""Differentiable functions of arrays, each with a hand-derived backward pass."""

from dlfn.ops.activations import gelu, relu, sigmoid, silu, softplus, tanh
from dlfn.ops.conv import conv, conv_output_size, flip_kernel
from dlfn.ops.conv_transpose import conv_transpose
from dlfn.ops.cross_entropy import softmax_cross_entropy
from dlfn.ops.dropout import dropout
from dlfn.ops.linear import linear
from dlfn.ops.losses import binary_cross_entropy, mse
from dlfn.ops.softmax import log_softmax, logsumexp, softmax, softmax_jacobian

__all__ = [
    "binary_cross_entropy",
    "conv",
    "conv_output_size",
    "conv_transpose",
    "dropout",
    "flip_kernel",
    "gelu",
    "linear",
    "log_softmax",
    "logsumexp",
    "mse",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softmax_jacobian",
    "softplus",
    "tanh",
]
