r"""Cross-entropy of class ids, row by row, for ops that have the logits whole or a chunk at a time.

With k the class of the row and :math:`e_j = e^{z_j - \max z}`, the loss is
:math:`(\max z - z_k) + \log \sum_j e_j`. Its gradient is :math:`p_j = e_j / \sum_i e_i` at the other classes, and at
class k :math:`p_k - 1 = -\sum_{j \ne k} e_j / \sum_j e_j`, which keeps its digits where :math:`p_k` rounds to 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core import InputError
from dlfn.ops.losses._reductions import check_reduction, reduce
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.compiled import capped, peak
from dlfn.ops.support.sharding import is_explicit, sharded_along

__all__ = [
    "Statistics",
    "are_ids",
    "check_ids",
    "check_smoothing",
    "class_ids",
    "class_losses",
    "counting",
    "counting_losses",
    "cut",
    "logits_gradient",
    "reduce_valid",
    "sum_of_others",
]


class Statistics(NamedTuple):
    """What the backward pass needs to know of each row."""

    m: jax.Array  # max z, cut to the finite range
    others: jax.Array  # the sum of e_j over j other than k
    inverse: jax.Array  # 1 / the sum of all e_j; nan where the row has no such class


def are_ids(labels):
    return not jnp.issubdtype(labels.dtype, jnp.floating)


def check_ids(op, labels, name, rows, reduction, ignore_label, hint=""):
    """That there is a class id for every row of the argument ``rows``, and something to reduce."""
    if not isinstance(labels, jax.Array) or labels.dtype == jnp.bool_ or not are_ids(labels):
        raise InputError(f"{op}: labels is {describe(labels)}, and must be an array of class ids{hint}")
    if labels.shape != rows.shape[:-1]:
        raise InputError(
            f"{op}: labels is {describe(labels)} for {name} {describe(rows)}, and must have the shape "
            f"{list(rows.shape[:-1])}"
        )
    check_reduction(op, reduction, rows.shape[:-1])
    if not isinstance(ignore_label, int):
        raise InputError(f"{op}: ignore_label is {ignore_label!r}, and must be an int")


def check_smoothing(op, label_smoothing):
    if not (isinstance(label_smoothing, int | float) and 0 <= label_smoothing < 1):
        raise InputError(f"{op}: label_smoothing is {label_smoothing!r}, and must be a number in [0, 1)")


def class_ids(labels, rows, classes, ignore_label):
    """The class of every row as an index in range, which rows count, and which of them have no such class. ``rows``
    has the leading dimensions of the logits, and their sharding, and one more."""
    if labels.dtype != jnp.int64:
        labels = labels.astype(jnp.int32)
    labels = sharded_along(labels, rows, labels.ndim)
    index = jnp.clip(labels, 0, classes - 1)
    valid = labels != ignore_label
    return index, valid, valid & (index != labels)


def counting(rows, valid):
    """The rows that count, and zeros for the others, whatever they hold: 0 times a nan of theirs would be nan."""
    return jnp.where(valid[..., None], rows, jnp.zeros_like(rows))


def reduce_valid(losses, valid, reduction):
    """The losses of the rows that count, reduced, and by how many rows the mean divides (1 if it is none)."""
    losses = jnp.where(valid, losses, jnp.zeros_like(losses))
    if reduction != "mean":
        return reduce(losses, reduction), jnp.ones((), losses.dtype)
    n = jnp.maximum(jnp.sum(valid), 1).astype(losses.dtype)
    return jnp.sum(losses) / n, n


def cut(z):
    """z without infinities: inf - inf would be nan."""
    big = jnp.finfo(z.dtype).max
    return jnp.clip(z, -big, big)


def sum_of_others(z, index, m, first=None):
    """Of e_j. ``first`` here and below: of a block of the classes, that which it begins with."""
    return jnp.sum(_exp_of_others(z, index, m, first), axis=-1)


def counting_losses(z, index, valid, wrong, label_smoothing):
    """:func:`class_losses` of the rows that count."""
    # XLA on CPU would write the rows that count to memory before it takes a maximum over them.
    top = jnp.where(valid, peak(z, -1), jnp.zeros_like(z[..., 0]))
    return class_losses(counting(z, valid), index, wrong, label_smoothing, top=top)


def class_losses(z, index, wrong, label_smoothing, sum_of_others=sum_of_others, top=None):
    """The loss of every row, and what :func:`logits_gradient` needs to know of it. ``top`` is the largest logit where
    that is known."""
    top = peak(z, -1) if top is None else top
    m = cut(top)
    others = sum_of_others(z, index, m)
    z_k = jnp.where(wrong, jnp.nan, _entry(z, index))
    e_k = jnp.exp(cut(z_k) - m)
    s = others + e_k
    s = jnp.where(s == 0, jnp.ones_like(s), s)
    losses = jnp.where(z_k == top, jnp.log1p(others), (top - z_k) + jnp.log(s))
    losses = jnp.where(z_k == -jnp.inf, jnp.inf, losses)
    if label_smoothing:
        to_all = jnp.log(s) + jnp.mean(m[..., None] - capped(z), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * to_all
    return losses, Statistics(m, others, 1 / s)


def logits_gradient(z, index, statistics, dy, label_smoothing, first=None, classes=None):
    """The cotangent of the logits, given that of every row's loss; of a block of ``classes``, theirs."""
    m, others, inverse = statistics
    per_row = dy * inverse
    e = _exp_of_others(z, index, m, first) * per_row[..., None]
    at_k = -others * per_row
    if label_smoothing:
        share = dy * (label_smoothing / (classes or z.shape[-1]))
        e, at_k = e - share[..., None], at_k + (dy * label_smoothing - share)
    return _with_entry(e, index, at_k, first)


def _exp_of_others(z, index, m, first):
    """e_j, with 0 for the class of the row. Written the same in forward and backward, XLA computes it once for both."""
    return _with_entry(jnp.exp(capped(z) - m[..., None]), index, jnp.zeros_like(m), first)


# One entry per row. On a CPU it is cheaper to read and write it alone than in a masked pass over the classes; elsewhere
# the mask fuses with its neighbours, and sharded classes allow nothing else. A block has the entries of few rows.


def _entry(z, index):
    if _one_by_one(z):
        return jnp.take_along_axis(z, index[..., None], axis=-1, mode="promise_in_bounds")[..., 0]
    return jnp.sum(jnp.where(_is_class(index, z), z, jnp.zeros_like(z)), axis=-1)


def _with_entry(e, index, value, first):
    if first is not None:
        index = index - first
    if first is not None or not _one_by_one(e):
        return jnp.where(_is_class(index, e), value[..., None], e)
    rows = tuple(range(index.ndim))
    numbers = lax.ScatterDimensionNumbers((), (index.ndim,), (index.ndim,), rows, rows)
    return lax.scatter(e, index[..., None], value, numbers, unique_indices=True, mode="promise_in_bounds")


def _one_by_one(z):
    return jax.default_backend() == "cpu" and not is_explicit(z)


def _is_class(index, z):
    sharding = jax.typeof(z).sharding if is_explicit(z) else None
    return lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1, out_sharding=sharding) == index[..., None]
