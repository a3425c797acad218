r"""Softmax cross-entropy, from logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.core import InputError
from dlfn.ops.losses._class_ids import (
    are_ids,
    check_smoothing,
    class_ids,
    counting,
    counting_losses,
    cut,
    logits_gradient,
    reduce_valid,
)
from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import describe, require_distribution, require_float, require_int, require_rank
from dlfn.ops.support.compiled import apart
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["softmax_cross_entropy"]


@Op
def softmax_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"] | Float[ArrayLike, "*batch classes"],
    *,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    ignore_label: int = -100,
) -> Float[Array, ""] | Float[Array, "*batch"]:
    r"""Cross-entropy of softmax(logits) and labels along the last axis.

    For a class id k (integer) :math:`L = \log \sum_j e^{z_j} - z_k`, for a distribution y (floating point)
    :math:`L = \sum_k y_k (\log \sum_j e^{z_j} - z_k)`. With :math:`p = \operatorname{softmax}(z)`, and y the one-hot
    row of a class id,

    .. math::
        \frac{\partial L}{\partial z_k} = p_k \sum_j y_j - y_k = p_k - y_k \text{ if } \sum_j y_j = 1, \qquad
        \frac{\partial L}{\partial y_k} = \log \sum_j e^{z_j} - z_k.

    Where :math:`p_k` rounds to 1, the difference :math:`p_k - y_k` has no digits left. It is computed from the other
    classes, with :math:`e_j = e^{z_j - \max z}`:

    .. math::
        p_k \sum_j y_j - y_k = p_k \Big(\sum_j y_j - y_k\Big) - y_k (1 - p_k), \qquad
        1 - p_k = \sum_{j \ne k} e_j \Big/ \sum_j e_j,

    and the loss as :math:`(\max z - z_k) + \log(1 + \sum_{j \ne i} e_j)`, i being the largest entry. The backward pass
    keeps the arguments and a few numbers per row, never the probabilities.

    Args:
        logits: (..., K).
        labels: class ids (...), integers from 0 to K - 1, or distributions (..., K) in floating point.
        reduction: "mean" over the rows, "sum" or "none".
        label_smoothing: :math:`\epsilon` in [0, 1); the labels become :math:`(1 - \epsilon)\, y + \epsilon / K`
            (Szegedy et al. 2016, *Rethinking the Inception Architecture for Computer Vision*).
        ignore_label: rows with this class id have loss 0 and gradient 0 and do not count in the mean; if all rows have
            it, the mean is 0. Any other class id out of range gives nan in loss and gradient.

    Returns:
        A scalar, or with "none" one loss per row. It is inf where a class with logit -inf has a label other than 0.

    Raises:
        InputError: on scalar or integer logits, labels that fit neither case, known distributions with negative
            entries, an unknown reduction, and a mean over nothing.

    Source: Bridle 1990, *Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships
    to Statistical Pattern Recognition*; 000 sections 8 and 9, 001 section 6, 002 section 13.2, 003 section 4.

    >>> import jax, jax.numpy as jnp
    >>> logits = jnp.array([[20.0, 0.0], [1.0, 1.0]])
    >>> dz = jax.grad(softmax_cross_entropy)(logits, jnp.array([0, 1]))
    >>> print(f"{dz[0, 0]:.4e} {dz[1, 0]}")  # p − y; in the first row p rounds to 1
    -1.0306e-09 0.25
    >>> softmax_cross_entropy(logits, jnp.array([-100, 1]))
    Array(0.6931472, dtype=float32)
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    m = jnp.max(logits, axis=-1, keepdims=True)
    costs = jnp.log(jnp.sum(jnp.exp(logits - m), axis=-1, keepdims=True)) + m - logits
    if not are_ids(labels):
        y = (1 - label_smoothing) * labels + label_smoothing / labels.shape[-1]
        return reduce(jnp.sum(y * costs, axis=-1), reduction)
    index, valid, wrong = class_ids(labels, logits, logits.shape[-1], ignore_label)
    losses = jnp.take_along_axis(costs, index[..., None], axis=-1)[..., 0]
    losses = (1 - label_smoothing) * losses + label_smoothing * jnp.mean(costs, axis=-1)
    return reduce_valid(jnp.where(wrong, jnp.nan, losses), valid, reduction)[0]


@softmax_cross_entropy.def_forward
def _softmax_cross_entropy_forward(logits, labels, *, reduction, label_smoothing, ignore_label):
    if are_ids(labels):
        z = upcast(logits)
        index, valid, wrong = class_ids(labels, z, z.shape[-1], ignore_label)
        losses, statistics = counting_losses(z, index, valid, wrong, label_smoothing)
        y, n = reduce_valid(losses, valid, reduction)
        return y.astype(logits.dtype), (logits, labels, statistics, n)
    z, y = upcast_alike(logits, labels)
    y = _smoothed(y, label_smoothing)
    top = jnp.max(z, axis=-1, keepdims=True)
    m = cut(top)
    e, largest = _exp_below(z, top, m)
    ties = jnp.sum(largest.astype(z.dtype), axis=-1, keepdims=True)
    others = jnp.sum(e, axis=-1, keepdims=True) + (ties - 1)
    mass = jnp.sum(y, axis=-1, keepdims=True)
    below = jnp.sum(jnp.where((y == 0) | largest, jnp.zeros_like(z), y * (top - z)), axis=-1)
    normaliser = jnp.where(mass == 0, jnp.zeros_like(mass), mass * _log_total(top, others))
    losses = below + normaliser[..., 0]
    return reduce(losses, reduction).astype(jnp.result_type(logits, labels)), (logits, labels, top, m, others, mass)


@softmax_cross_entropy.def_backward
def _softmax_cross_entropy_backward(residuals, dy, *, reduction, label_smoothing, ignore_label):
    logits, labels, *rest = residuals
    if are_ids(labels):
        statistics, n = rest
        z = upcast(logits)
        index, valid, _ = class_ids(labels, z, z.shape[-1], ignore_label)
        dy = jnp.where(valid, dy.astype(z.dtype) / n, jnp.zeros_like(statistics.m))
        return logits_gradient(counting(z, valid), index, statistics, dy, label_smoothing).astype(logits.dtype), None
    top, m, others, mass = rest
    z, y = upcast_alike(logits, labels)
    y = _smoothed(y, label_smoothing)
    dy = weight_of_each(dy, reduction, z.shape[:-1], z.dtype)
    dy = jnp.expand_dims(dy, -1) if reduction == "none" else dy
    e, largest = _exp_below(z, top, m)
    dy_z = jnp.where(top == -jnp.inf, jnp.zeros_like(top), dy)
    per_row = dy_z / (1 + others)
    # For the largest entries z - m is 0 and its exponential 1. Both are written as functions of z, since their
    # derivatives are not 0 where several entries are the largest.
    nothing = jnp.where(largest, apart(cut(z), m, largest, -1), jnp.zeros_like(z))
    one = 1 + nothing * (1 + nothing / 2)
    dz = jnp.where(largest, per_row * ((mass * one - y) - y * others), e * (per_row * mass) - y * dy_z)
    dy_labels = (1 - label_smoothing) * dy * (jnp.where(largest, -nothing, top - z) + _log_total(top, others))
    return like(dz, jax.typeof(logits)), like(dy_labels, jax.typeof(labels))


@softmax_cross_entropy.def_check
def _softmax_cross_entropy_check(logits, labels, *, reduction, label_smoothing, ignore_label):
    op = "softmax_cross_entropy"
    require_float(op, "logits", logits)
    require_rank(op, "logits", logits, "an axis of classes")
    if not isinstance(labels, jax.Array) or labels.dtype == jnp.bool_:
        raise InputError(f"{op}: labels is {describe(labels)}, and must be an array of class ids or of distributions")
    require_int(op, "ignore_label", ignore_label, "an int")
    check_smoothing(op, label_smoothing)
    ids = are_ids(labels)
    if labels.shape != (logits.shape[:-1] if ids else logits.shape):
        fix = ""
        if ids and labels.shape == logits.shape:
            fix = "; if these are one-hot rows, pass labels.astype(logits.dtype)"
        elif not ids and labels.shape == logits.shape[:-1]:
            fix = "; if these are class ids, pass labels.astype(jnp.int32)"
        raise InputError(
            f"{op}: labels is {describe(labels)} for logits {describe(logits)}, and must be class ids, integers of "
            f"shape {list(logits.shape[:-1])}, or distributions, floating point of shape {list(logits.shape)}{fix}"
        )
    check_reduction(op, reduction, logits.shape[:-1])
    if logits.shape[-1] == 0:
        raise InputError(f"{op}: logits is {describe(logits)}, and must have at least one class")
    if not ids:
        require_distribution(op, "labels", labels, None)  # rows may be weighted, or 0 in order not to count


def _smoothed(y, label_smoothing):
    return (1 - label_smoothing) * y + label_smoothing / y.shape[-1] if label_smoothing else y


def _exp_below(z, top, m):
    """e_j, with 0 for the largest entries, and which these are."""
    largest = z == top
    return jnp.where(largest, jnp.zeros_like(z), jnp.exp(z - m)), largest


def _log_total(top, others):
    """The logarithm of the sum of all e_j, and inf in a row of -inf."""
    return jnp.where(top == -jnp.inf, jnp.inf, jnp.log1p(others))
