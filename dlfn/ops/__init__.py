"""Differentiable functions of arrays, each with a hand-derived backward pass."""

from dlfn.ops.activations import gelu, relu, sigmoid, silu, softplus, tanh
from dlfn.ops.binary_losses import binary_cross_entropy, binary_focal_loss, hinge
from dlfn.ops.contrastive import info_nce
from dlfn.ops.cross_entropy import softmax_cross_entropy
from dlfn.ops.ctc import ctc_loss
from dlfn.ops.divergences import kl_divergence
from dlfn.ops.dropout import dropout
from dlfn.ops.embedding import embedding
from dlfn.ops.focal import softmax_focal_loss
from dlfn.ops.linear import linear
from dlfn.ops.linear_cross_entropy import linear_cross_entropy
from dlfn.ops.losses import huber, log_cosh, mae, mse
from dlfn.ops.penalties import l1_penalty, l2_penalty
from dlfn.ops.softmax import log_softmax, logsumexp, softmax, softmax_jacobian

__all__ = [
    "binary_cross_entropy",
    "binary_focal_loss",
    "ctc_loss",
    "dropout",
    "embedding",
    "gelu",
    "hinge",
    "huber",
    "info_nce",
    "kl_divergence",
    "l1_penalty",
    "l2_penalty",
    "linear",
    "linear_cross_entropy",
    "log_cosh",
    "log_softmax",
    "logsumexp",
    "mae",
    "mse",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "softmax_jacobian",
    "softplus",
    "tanh",
]
