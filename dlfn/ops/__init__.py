"""Differentiable functions of arrays, each with a hand-derived backward pass: one room per family of ops."""

from dlfn.ops.activations.exponential_units import celu, elu, selu
from dlfn.ops.activations.gated import geglu, glu, swiglu
from dlfn.ops.activations.piecewise import hard_sigmoid, hard_swish, hard_tanh, leaky_relu, prelu, relu6
from dlfn.ops.activations.smooth import (
    gelu,
    log_sigmoid,
    mish,
    relu,
    sigmoid,
    silu,
    softplus,
    softsign,
    squareplus,
    tanh,
)
from dlfn.ops.elementary.dropout import dropout
from dlfn.ops.elementary.functions import atan2, hypot, sqrt, xlogy
from dlfn.ops.elementary.powers import power
from dlfn.ops.elementary.softmax import log_softmax, logsumexp, softmax, softmax_jacobian
from dlfn.ops.linear_algebra.eigen import eigh, matrix_function
from dlfn.ops.linear_algebra.embedding import embedding
from dlfn.ops.linear_algebra.linear import linear
from dlfn.ops.linear_algebra.linear_systems import inverse, solve
from dlfn.ops.linear_algebra.norms import cosine_similarity, global_norm, norm
from dlfn.ops.linear_algebra.products import dot, matmul
from dlfn.ops.losses.binary import binary_cross_entropy, binary_focal_loss, hinge
from dlfn.ops.losses.contrastive import info_nce
from dlfn.ops.losses.cross_entropy import softmax_cross_entropy
from dlfn.ops.losses.ctc import ctc_loss
from dlfn.ops.losses.divergences import kl_divergence
from dlfn.ops.losses.focal import softmax_focal_loss
from dlfn.ops.losses.linear_cross_entropy import linear_cross_entropy
from dlfn.ops.losses.normal_kl import normal_kl
from dlfn.ops.losses.penalties import l1_penalty, l2_penalty
from dlfn.ops.losses.regression import huber, log_cosh, mae, mse
from dlfn.ops.normalisation.batch_norm import batch_norm, batch_norm_inference
from dlfn.ops.normalisation.channel_norm import group_norm, instance_norm
from dlfn.ops.normalisation.layer_norm import layer_norm, rms_norm
from dlfn.ops.normalisation.weight_norm import spectral_norm, spectral_quotient, weight_norm
from dlfn.ops.probability.descriptive import covariance, mean, std, variance
from dlfn.ops.probability.information import cross_entropy, entropy, entropy_from_logits, relative_entropy
from dlfn.ops.probability.joint_tables import conditional_entropy, mutual_information
from dlfn.ops.probability.log_densities import exponential_log_prob, normal_log_prob, uniform_log_prob
from dlfn.ops.probability.log_masses import bernoulli_log_prob, binomial_log_prob
from dlfn.ops.probability.poisson import poisson_log_prob
from dlfn.ops.recurrent.gru import gru, gru_step
from dlfn.ops.recurrent.lstm import lstm, lstm_step
from dlfn.ops.recurrent.rnn import rnn, rnn_step
from dlfn.ops.spatial.average_pooling import adaptive_avg_pool, avg_pool, global_avg_pool
from dlfn.ops.spatial.conv import conv, conv_output_size, flip_kernel
from dlfn.ops.spatial.conv_transpose import conv_transpose
from dlfn.ops.spatial.max_pooling import adaptive_max_pool, max_pool
from dlfn.ops.transformer.attention import attention
from dlfn.ops.transformer.positions import alibi_bias, alibi_slopes, rope, sinusoidal_positions

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "alibi_bias",
    "alibi_slopes",
    "atan2",
    "attention",
    "avg_pool",
    "batch_norm",
    "batch_norm_inference",
    "bernoulli_log_prob",
    "binary_cross_entropy",
    "binary_focal_loss",
    "binomial_log_prob",
    "celu",
    "conditional_entropy",
    "conv",
    "conv_output_size",
    "conv_transpose",
    "cosine_similarity",
    "covariance",
    "cross_entropy",
    "ctc_loss",
    "dot",
    "dropout",
    "eigh",
    "elu",
    "embedding",
    "entropy",
    "entropy_from_logits",
    "exponential_log_prob",
    "flip_kernel",
    "geglu",
    "gelu",
    "global_avg_pool",
    "global_norm",
    "glu",
    "group_norm",
    "gru",
    "gru_step",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hinge",
    "huber",
    "hypot",
    "info_nce",
    "instance_norm",
    "inverse",
    "kl_divergence",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_cross_entropy",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "lstm",
    "lstm_step",
    "mae",
    "matmul",
    "matrix_function",
    "max_pool",
    "mean",
    "mish",
    "mse",
    "mutual_information",
    "norm",
    "normal_kl",
    "normal_log_prob",
    "poisson_log_prob",
    "power",
    "prelu",
    "relative_entropy",
    "relu",
    "relu6",
    "rms_norm",
    "rnn",
    "rnn_step",
    "rope",
    "selu",
    "sigmoid",
    "silu",
    "sinusoidal_positions",
    "softmax",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "softmax_jacobian",
    "softplus",
    "softsign",
    "solve",
    "spectral_norm",
    "spectral_quotient",
    "sqrt",
    "squareplus",
    "std",
    "swiglu",
    "tanh",
    "uniform_log_prob",
    "variance",
    "weight_norm",
    "xlogy",
]
