r"""Cross-entropy of class ids, row by row, for ops that have all logits at once or a chunk of them at a time.

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
from dlfn.ops.support.arguments import describe, require_int, require_number
from dlfn.ops.support.compiled import capped, peak
from dlfn.ops.support.platforms import ByPlatform
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
    inverse: jax.Array  # 1 / the sum of all e_j; nan where the row's label is out of range


def are_ids(labels):
    """Whether the labels are class ids, and not distributions."""
    return not jnp.issubdtype(labels.dtype, jnp.floating)


def check_ids(op, labels, name, rows, reduction, ignore_label, hint=""):
    """Checks that there is a class id for every row of the argument ``rows``, which is called ``name``, and that there
    is something to reduce. ``hint`` ends the message about labels that are no class ids."""
    if not isinstance(labels, jax.Array) or labels.dtype == jnp.bool_ or not are_ids(labels):
        raise InputError(f"{op}: labels is {describe(labels)}, and must be an array of class ids{hint}")
    if labels.shape != rows.shape[:-1]:
        raise InputError(
            f"{op}: labels is {describe(labels)} for {name} {describe(rows)}, and must have the shape "
            f"{list(rows.shape[:-1])}"
        )
    check_reduction(op, reduction, rows.shape[:-1])
    require_int(op, "ignore_label", ignore_label, "an int")


def check_smoothing(op, label_smoothing):
    require_number(op, "label_smoothing", label_smoothing, "a number in [0, 1)", lambda part: 0 <= part < 1)


def class_ids(labels, rows, classes, ignore_label):
    """The class of every row as an index in range, which rows count, and which of these have a label out of range.

    ``rows`` has the leading axes and the sharding of the logits, and one more axis.
    """
    if labels.dtype != jnp.int64:
        labels = labels.astype(jnp.int32)
    labels = sharded_along(labels, rows, labels.ndim)
    index = jnp.clip(labels, 0, classes - 1)
    valid = labels != ignore_label
    return index, valid, valid & (index != labels)


def counting(rows, valid):
    """The rows that count, and zeros in place of the others. These may hold nan, and 0 times nan is nan, so multiplying
    their results by 0 would not do."""
    return jnp.where(valid[..., None], rows, jnp.zeros_like(rows))


def reduce_valid(losses, valid, reduction):
    """The losses of the rows that count, reduced, and the number that the sum was divided by: for a mean, the number of
    rows that count, or 1 if none does; otherwise 1."""
    losses = jnp.where(valid, losses, jnp.zeros_like(losses))
    if reduction != "mean":
        return reduce(losses, reduction), jnp.ones((), losses.dtype)
    n = jnp.maximum(jnp.sum(valid), 1).astype(losses.dtype)
    return jnp.sum(losses) / n, n


def cut(z):
    """z with the largest finite numbers in place of infinities, as inf - inf would be nan."""
    big = jnp.finfo(z.dtype).max
    return jnp.clip(z, -big, big)


def sum_of_others(z, index, m, first=None):
    """The sum of e_j over the classes j other than the row's own.

    Here and below, if z is a block of the classes, ``first`` is the class that it begins with.
    """
    return jnp.sum(_exp_of_others(z, index, m, first), axis=-1)


def counting_losses(z, index, valid, wrong, label_smoothing):
    """:func:`class_losses`, with zeros in place of the rows that do not count."""
    # Maximum first, select afterwards: XLA on CPU would write the selected rows to memory to take their maximum.
    top = jnp.where(valid, peak(z, -1), jnp.zeros_like(z[..., 0]))
    return class_losses(counting(z, valid), index, wrong, label_smoothing, top=top)


def class_losses(z, index, wrong, label_smoothing, sum_of_others=sum_of_others, top=None):
    """The loss of every row, and what :func:`logits_gradient` needs to know of it.

    ``top`` is the largest logit of every row, if it is known already. ``sum_of_others`` is a function like the one
    above, for callers that sum over blocks of classes.
    """
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
    """The cotangent of the logits, given that of every row's loss.

    If z is a block of the classes, so is the result, and ``classes`` is the number of all classes.
    """
    m, others, inverse = statistics
    per_row = dy * inverse
    e = _exp_of_others(z, index, m, first) * per_row[..., None]
    at_k = -others * per_row
    if label_smoothing:
        share = dy * (label_smoothing / (classes or z.shape[-1]))
        e, at_k = e - share[..., None], at_k + (dy * label_smoothing - share)
    return _with_entry(e, index, at_k, first)


def _exp_of_others(z, index, m, first):
    """e_j, with 0 for the class of the row. Forward and backward pass share this expression, so that XLA computes it
    once for both."""
    return _with_entry(jnp.exp(capped(z) - m[..., None]), index, jnp.zeros_like(m), first)


# These functions read or write one entry of every row. On a CPU that is cheaper entry by entry than by a masked pass
# over the classes. Elsewhere the mask fuses with the operations around it, and for sharded classes it is the only way.
# In a block of the classes most rows have no entry, so that is done by a mask, too.


def _entry(z, index):
    return _masked_entry(z, index) if is_explicit(z) else _ENTRY(z, index)


def _masked_entry(z, index):
    return jnp.sum(jnp.where(_is_class(index, z), z, jnp.zeros_like(z)), axis=-1)


def _gathered_entry(z, index):
    return jnp.take_along_axis(z, index[..., None], axis=-1, mode="promise_in_bounds")[..., 0]


def _with_entry(e, index, value, first):
    if first is not None:
        return _with_masked_entry(e, index - first, value)
    return (_with_masked_entry if is_explicit(e) else _WITH_ENTRY)(e, index, value)


def _with_masked_entry(e, index, value):
    return jnp.where(_is_class(index, e), value[..., None], e)


def _with_scattered_entry(e, index, value):
    rows = tuple(range(index.ndim))
    numbers = lax.ScatterDimensionNumbers((), (index.ndim,), (index.ndim,), rows, rows)
    return lax.scatter(e, index[..., None], value, numbers, unique_indices=True, mode="promise_in_bounds")


_ENTRY = ByPlatform(_gathered_entry, accelerator=_masked_entry)
_WITH_ENTRY = ByPlatform(_with_scattered_entry, accelerator=_with_masked_entry)


def _is_class(index, z):
    sharding = jax.typeof(z).sharding if is_explicit(z) else None
    return lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1, out_sharding=sharding) == index[..., None]
