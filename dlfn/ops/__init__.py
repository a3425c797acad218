"""Differentiable functions of arrays, each with a hand-derived backward pass."""

from dlfn.ops.activations import gelu, relu, sigmoid, silu, softplus, tanh
from dlfn.ops.average_pooling import adaptive_avg_pool, avg_pool, global_avg_pool
from dlfn.ops.cross_entropy import softmax_cross_entropy
from dlfn.ops.dropout import dropout
from dlfn.ops.linear import linear
from dlfn.ops.losses import binary_cross_entropy, mse
from dlfn.ops.max_pooling import adaptive_max_pool, max_pool
from dlfn.ops.softmax import log_softmax, logsumexp, softmax, softmax_jacobian

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "binary_cross_entropy",
    "dropout",
    "gelu",
    "global_avg_pool",
    "linear",
    "log_softmax",
    "logsumexp",
    "max_pool",
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
