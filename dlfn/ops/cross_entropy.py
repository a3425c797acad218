r"""Softmax cross-entropy, from logits."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from dlfn.core import InputError, Op
from dlfn.ops._common import (
    check_reduction,
    describe,
    is_explicit,
    like,
    reduce,
    require_float,
    require_rank,
    upcast,
    upcast_alike,
    weight_of_each,
)

__all__ = ["softmax_cross_entropy"]


@Op
def softmax_cross_entropy(logits, labels, *, reduction="mean", ignore_label=-100):
    r"""Cross-entropy of softmax(logits) and labels along the last axis.

    For a class id k (integer) :math:`L = \log \sum_j e^{z_j} - z_k`, for a distribution y (floating point)
    :math:`L = \sum_k y_k (\log \sum_j e^{z_j} - z_k)`. With :math:`p = \operatorname{softmax}(z)`, and y the one-hot
    row of a class id,

    .. math::
        \frac{\partial L}{\partial z_k} = p_k \sum_j y_j - y_k = p_k - y_k \text{ if } \sum_j y_j = 1, \qquad
        \frac{\partial L}{\partial y_k} = \log \sum_j e^{z_j} - z_k.

    Where :math:`p_k` rounds to 1, the difference :math:`p_k - y_k` has no digits left. It is computed from what is not
    class k, with :math:`e_j = e^{z_j - \max z}`:

    .. math::
        p_k \sum_j y_j - y_k = p_k \Big(\sum_j y_j - y_k\Big) - y_k (1 - p_k), \qquad
        1 - p_k = \sum_{j \ne k} e_j \Big/ \sum_j e_j,

    and the loss as :math:`(\max z - z_k) + \log(1 + \sum_{j \ne i} e_j)`, i being the largest entry. The backward pass
    keeps the arguments and a few numbers per row, never the probabilities.

    Args:
        logits: (..., K).
        labels: class ids (...), integers from 0 to K - 1, or distributions (..., K) in floating point.
        reduction: "mean" over the rows, "sum" or "none".
        ignore_label: rows with this class id have loss 0 and gradient 0 and do not count in the mean; if that is all of
            them, the mean is 0. Any other class id out of range gives nan in loss and gradient.

    Returns:
        A scalar, or with "none" one loss per row. A class of logit -inf costs inf, unless its label is 0.

    Raises:
        InputError: on scalar or integer logits, labels that fit neither case, an unknown reduction, and a mean over
            nothing.

    Source: 000 sections 8 and 9, 001 section 6, 002 section 13.2, 003 section 4.

    >>> import jax, jax.numpy as jnp
    >>> logits = jnp.array([[20.0, 0.0], [1.0, 1.0]])
    >>> dz = jax.grad(softmax_cross_entropy)(logits, jnp.array([0, 1]))
    >>> print(f"{dz[0, 0]:.4e} {dz[1, 0]}")  # p − y, in the first row by more than a rounded p tells
    -1.0306e-09 0.25
    >>> softmax_cross_entropy(logits, jnp.array([-100, 1]))
    Array(0.6931472, dtype=float32)
    """
    m = jnp.max(logits, axis=-1, keepdims=True)
    costs = jnp.log(jnp.sum(jnp.exp(logits - m), axis=-1, keepdims=True)) + m - logits
    if not _is_ids(labels):
        return reduce(jnp.sum(labels * costs, axis=-1), reduction)
    index, valid, wrong = _ids(labels, logits, ignore_label)
    losses = jnp.take_along_axis(costs, index[..., None], axis=-1)[..., 0]
    losses = jnp.where(wrong, jnp.nan, jnp.where(valid, losses, jnp.zeros_like(losses)))
    return reduce(losses, reduction) if reduction != "mean" else jnp.sum(losses) / _count(valid, losses.dtype)


def _is_ids(labels):
    return not jnp.issubdtype(labels.dtype, jnp.floating)


def _ids(labels, logits, ignore_label):
    """The class of every row as an index in range, which rows count, and which of them have no such class."""
    if labels.dtype != jnp.int64:
        labels = labels.astype(jnp.int32)
    if is_explicit(logits):
        rows = jax.typeof(logits).sharding
        labels = jax.sharding.reshard(labels, NamedSharding(rows.mesh, PartitionSpec(*rows.spec[:-1])))
    index = jnp.clip(labels, 0, logits.shape[-1] - 1)
    valid = labels != ignore_label
    return index, valid, valid & (index != labels)


def _count(valid, dtype):
    return jnp.maximum(jnp.sum(valid), 1).astype(dtype)


@softmax_cross_entropy.def_check
def _softmax_cross_entropy_check(logits, labels, *, reduction, ignore_label):
    op = "softmax_cross_entropy"
    require_float(op, "logits", logits)
    require_rank(op, "logits", logits, "an axis of classes")
    if not isinstance(labels, jax.Array) or labels.dtype == jnp.bool_:
        raise InputError(f"{op}: labels is {describe(labels)}, and must be an array of class ids or of distributions")
    if not isinstance(ignore_label, int):
        raise InputError(f"{op}: ignore_label is {ignore_label!r}, and must be an int")
    ids = _is_ids(labels)
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


@softmax_cross_entropy.def_forward
def _softmax_cross_entropy_forward(logits, labels, *, reduction, ignore_label):
    if _is_ids(labels):
        return _ids_forward(logits, labels, reduction, ignore_label)
    return _distribution_forward(logits, labels, reduction)


@softmax_cross_entropy.def_backward
def _softmax_cross_entropy_backward(residuals, dy, *, reduction, ignore_label):
    if _is_ids(residuals[1]):
        return _ids_backward(residuals, dy, reduction, ignore_label)
    return _distribution_backward(residuals, dy, reduction)


def _largest(z):
    """max z, and the same cut to the finite range. (..., 1)"""
    top = jnp.max(z, axis=-1, keepdims=True)
    return top, _cut(top)


def _cut(z):
    """z without infinities: inf - inf would be nan."""
    big = jnp.finfo(z.dtype).max
    return jnp.clip(z, -big, big)


def _ids_forward(logits, labels, reduction, ignore_label):
    z = upcast(logits)
    index, valid, wrong = _ids(labels, z, ignore_label)
    top, m = _largest(z)
    others = jnp.minimum(jnp.sum(_exp_of_others(z, index, m), axis=-1), _INFINITE)
    z_k = jnp.where(wrong, jnp.nan, _entry(z, index))
    top, m = top[..., 0], m[..., 0]
    e_k = jnp.exp(_cut(z_k) - m)
    s = jnp.minimum(others + e_k, _INFINITE)
    s = jnp.where(s == 0, jnp.ones_like(s), s)
    losses = jnp.where(z_k == top, jnp.log1p(others), (top - z_k) + jnp.log(s))
    losses = jnp.where(z_k == -jnp.inf, jnp.inf, losses)
    losses = jnp.where(valid, losses, jnp.zeros_like(losses))
    count = _count(valid, z.dtype) if reduction == "mean" else jnp.ones((), z.dtype)
    y = reduce(losses, reduction) if reduction != "mean" else jnp.sum(losses) / count
    return y.astype(logits.dtype), (logits, labels, m, others, s, count)


def _ids_backward(residuals, dy, reduction, ignore_label):
    logits, labels, m, others, s, count = residuals
    z = upcast(logits)
    index, valid, _ = _ids(labels, z, ignore_label)
    per_row = dy.astype(z.dtype) / (count * s)
    per_row = jnp.where(valid, per_row, jnp.zeros_like(per_row))
    e = jnp.minimum(_exp_of_others(z, index, m[..., None]), _INFINITE)
    return _with_entry(e * per_row[..., None], index, -others * per_row).astype(logits.dtype), None


# What stands for exp(inf), so that quotients of it are finite.
_INFINITE = 2.0**64


def _exp_of_others(z, index, m):
    """e_j, with 0 for the class of the row. Written the same in forward and backward, XLA computes it once for both."""
    return _with_entry(jnp.exp(z - m), index, jnp.zeros(index.shape, z.dtype))


# One entry per row. On a CPU it is cheaper to read and write it alone than in a masked pass over the classes; elsewhere
# the mask fuses with its neighbours, and sharded classes allow nothing else.


def _entry(z, index):
    if _one_by_one(z):
        return jnp.take_along_axis(z, index[..., None], axis=-1, mode="promise_in_bounds")[..., 0]
    return jnp.sum(jnp.where(_is_class(index, z), z, jnp.zeros_like(z)), axis=-1)


def _with_entry(e, index, value):
    if not _one_by_one(e):
        return jnp.where(_is_class(index, e), value[..., None], e)
    rows = tuple(range(index.ndim))
    numbers = lax.ScatterDimensionNumbers((), (index.ndim,), (index.ndim,), rows, rows)
    return lax.scatter(e, index[..., None], value, numbers, unique_indices=True, mode="promise_in_bounds")


def _one_by_one(z):
    return jax.default_backend() == "cpu" and not is_explicit(z)


def _is_class(index, z):
    sharding = jax.typeof(z).sharding if is_explicit(z) else None
    return lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1, out_sharding=sharding) == index[..., None]


def _distribution_forward(logits, labels, reduction):
    z, y = upcast_alike(logits, labels)
    top, m = _largest(z)
    e, largest = _exp_below(z, top, m)
    ties = jnp.sum(largest.astype(z.dtype), axis=-1, keepdims=True)
    others = jnp.sum(e, axis=-1, keepdims=True) + (ties - 1)
    mass = jnp.sum(y, axis=-1, keepdims=True)
    below = jnp.sum(jnp.where((y == 0) | largest, jnp.zeros_like(z), y * (top - z)), axis=-1)
    normaliser = jnp.where(mass == 0, jnp.zeros_like(mass), mass * _log_total(top, others))
    losses = below + normaliser[..., 0]
    return reduce(losses, reduction).astype(jnp.result_type(logits, labels)), (logits, labels, top, m, others, mass)


def _distribution_backward(residuals, dy, reduction):
    logits, labels, top, m, others, mass = residuals
    z, y = upcast_alike(logits, labels)
    dy = weight_of_each(dy, reduction, z.shape[:-1], z.dtype)
    dy = jnp.expand_dims(dy, -1) if reduction == "none" else dy
    e, largest = _exp_below(z, top, m)
    dy_z = jnp.where(top == -jnp.inf, jnp.zeros_like(top), dy)
    per_row = dy_z / (1 + others)
    # For the largest entries 0 and exp(0), which still have to move with each of several equal ones.
    nothing = _cut(z) - m
    one = 1 + nothing * (1 + nothing / 2)
    dz = jnp.where(largest, per_row * ((mass * one - y) - y * others), e * (per_row * mass) - y * dy_z)
    dy_labels = dy * (jnp.where(largest, -nothing, top - z) + _log_total(top, others))
    return like(dz, jax.typeof(logits)), like(dy_labels, jax.typeof(labels))


def _exp_below(z, top, m):
    """e_j, with 0 for the largest entries, and which these are."""
    largest = z == top
    return jnp.where(largest, jnp.zeros_like(z), jnp.exp(z - m)), largest


def _log_total(top, others):
    return jnp.where(top == -jnp.inf, jnp.inf, jnp.log1p(others))
