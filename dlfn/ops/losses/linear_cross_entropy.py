r"""The cross-entropy of an affine map's logits, which are never all in memory."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.core import InputError
from dlfn.ops.linear_algebra.linear import linear
from dlfn.ops.losses._class_ids import (
    check_ids,
    check_smoothing,
    class_ids,
    counting,
    reduce_valid,
)
from dlfn.ops.losses._head import ON_ACCELERATORS, ON_CPUS, Chunks, Head
from dlfn.ops.losses._reductions import Reduction
from dlfn.ops.losses.cross_entropy import softmax_cross_entropy
from dlfn.ops.support.arguments import describe, require_float, require_int, require_rank
from dlfn.ops.support.dtypes import Static, sum_dtype
from dlfn.ops.support.op import Op
from dlfn.ops.support.platforms import ByPlatform
from dlfn.ops.support.sharding import like

__all__ = ["linear_cross_entropy"]

_FOR_DISTRIBUTIONS = "; for distributions use softmax_cross_entropy(linear(x, w, b), labels)"


@Op
def linear_cross_entropy(
    x: Float[ArrayLike, "*batch features"],
    w: Float[ArrayLike, "features classes"] | Float[ArrayLike, "classes features"],
    labels: Integer[ArrayLike, "*batch"],
    b: Float[ArrayLike, " classes"] | None = None,
    *,
    classes_first: bool = False,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    ignore_label: int = -100,
    chunk: int | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, ""] | Float[Array, "*batch"]:
    r"""``softmax_cross_entropy(linear(x, w, b), labels)`` without the array of all logits: N rows and K classes have
    N K of them, in language models far more than there are parameters.

    .. math:: L = \operatorname{cross\,entropy}(\operatorname{softmax}(x w + b), \text{labels})

    The rows are taken a chunk at a time. With z the logits of a chunk and :math:`g = \partial \ell / \partial z` those
    of its summed losses (see :func:`~dlfn.ops.softmax_cross_entropy`),

    .. math::
        \frac{\partial \ell}{\partial x} = g w^\top, \qquad
        \frac{\partial \ell}{\partial w} = \sum_{\text{chunks}} x^\top g, \qquad
        \frac{\partial \ell}{\partial b} = \sum_{\text{chunks}} \sum_{\text{rows}} g .

    For a mean or a sum the cotangent of the loss is one number that only scales them. So the forward pass computes them
    beside the losses, while it has z, and they are the residuals: that makes three matrix products in all. With
    ``reduction="none"`` the forward pass keeps three numbers per row and the backward pass computes z again, which
    makes four. Where nothing is differentiated, compilation removes the gradients, and one is left.

    Args:
        x: (..., in).
        w: (in, K), or (K, in) with ``classes_first``, as the table of an embedding is.
        labels: class ids (...), integers from 0 to K - 1.
        b: (K,), or None for no bias.
        classes_first: the layout of w.
        reduction: "mean" over the rows, "sum" or "none".
        label_smoothing: as in :func:`~dlfn.ops.softmax_cross_entropy`.
        ignore_label: as in :func:`~dlfn.ops.softmax_cross_entropy`.
        chunk: rows per chunk; by default as many as have 8 million logits, but 256 at least, and on GPUs and TPUs 134
            million logits, but 2048 rows at least. Sharded arrays on a mesh of explicit axes are one chunk.
        precision: of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        A scalar, or with "none" one loss per row. Half types are summed in float32. A CPU multiplies them
        in float32 too; elsewhere g is rounded to them first.

    Raises:
        InputError: on arguments that are not floating point, labels that are not class ids of x's leading dimensions,
            shapes that do not fit, a chunk that is not a positive int, an unknown reduction, and a mean over nothing.

    Source: Wijmans et al. 2024, *Cut Your Losses in Large-Vocabulary Language Models*; 000 sections 8, 9 and 12, 001
    sections 6 and 7.

    >>> import jax, jax.numpy as jnp
    >>> x, table = jnp.array([[1.0, 2.0], [0.0, 1.0]]), jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> loss, dx = jax.value_and_grad(linear_cross_entropy)(x, table, jnp.array([2, 0]), classes_first=True)
    >>> print(f"{loss:.4f} {dx[0, 0]:.4f} {dx[0, 1]:.4f}")
    0.6348 -0.1224 -0.0450
    """
    w = jnp.asarray(w)
    z = linear.definition(x, w.T if classes_first else w, b, precision=precision)
    return softmax_cross_entropy.definition(
        z, labels, reduction=reduction, label_smoothing=label_smoothing, ignore_label=ignore_label
    )


@linear_cross_entropy.def_forward
def _linear_cross_entropy_forward(x, w, labels, b, *, reduction, **settings):
    y, kept = _run(x, w, labels, b, reduction=reduction, **settings)
    if reduction == "none":
        return y, ((x, w, labels, b), kept)
    return y, (kept, Static(jax.tree.map(jax.typeof, (x, w, b))))


@linear_cross_entropy.def_backward
def _linear_cross_entropy_backward(residuals, dy, *, reduction, **settings):
    if reduction == "none":
        arguments, statistics = residuals
        return _run_back(*arguments, statistics, dy, **settings)
    (*gradients, n), kinds = residuals
    scale = dy.astype(n.dtype) / n
    dx, dw, db = (None if g is None else like(g * scale, kind) for g, kind in zip(gradients, kinds.value))
    return dx, dw, None, db


@linear_cross_entropy.def_check
def _linear_cross_entropy_check(x, w, labels, b, *, classes_first, reduction, label_smoothing, ignore_label, chunk):
    op = "linear_cross_entropy"
    for name, value in (("x", x), ("w", w), ("b", b)):
        if name != "b" or value is not None:
            require_float(op, name, value)
    require_rank(op, "x", x, "a feature axis")
    if not isinstance(classes_first, bool):
        raise InputError(f"{op}: classes_first is {classes_first!r}, and must be True or False")
    layout = "(classes, in)" if classes_first else "(in, classes)"
    if w.ndim != 2 or x.shape[-1] != w.shape[classes_first]:
        hint = ""
        if w.ndim == 2 and x.shape[-1] == w.shape[not classes_first]:
            hint = f"; pass classes_first={not classes_first}"
        raise InputError(
            f"{op}: x is {describe(x)} and w is {describe(w)}, and w must be {layout} with in = {x.shape[-1]}{hint}"
        )
    classes = w.shape[not classes_first]
    if classes == 0:
        raise InputError(f"{op}: w is {describe(w)}, {layout}, and must have at least one class")
    if b is not None and b.shape != (classes,):
        raise InputError(f"{op}: b is {describe(b)}, and must have the shape {[classes]}, as w is {describe(w)}")
    check_ids(op, labels, "x", x, reduction, ignore_label, _FOR_DISTRIBUTIONS)
    check_smoothing(op, label_smoothing)
    if chunk is not None:
        require_int(op, "chunk", chunk, "a positive number of rows, or None", lambda rows: rows > 0)


_by_platform = ByPlatform.with_plans(ON_CPUS, ON_ACCELERATORS)


@_by_platform
def _run(x, w, labels, b, *, reduction, label_smoothing, **settings):
    """The loss, and what is kept: the gradients of a sum of losses and what a mean divides it by, or the statistics of
    every row."""
    dtype = _common_dtype(x, w, b)
    x, head, chunks, (index, valid, wrong) = _setting(x, w, labels, b, **settings)

    def of_losses(carry, rows):
        x, index, _, wrong = rows
        return carry, head.losses(head.logits(x), index, wrong, label_smoothing)

    def with_gradients(totals, rows):
        x, index, valid, wrong = rows
        z = head.logits(x)
        losses, statistics = head.losses(z, index, wrong, label_smoothing)
        totals, dx = head.backward(totals, x, z, index, statistics, valid.astype(z.dtype), label_smoothing)
        return totals, (losses, dx)

    rows = x, index, valid, wrong
    if reduction == "none":
        _, (losses, statistics) = chunks.scan(of_losses, (), rows)
        return reduce_valid(losses, valid, reduction)[0].astype(dtype), statistics
    (dw, db), (losses, dx) = chunks.scan(with_gradients, head.totals(), rows)
    y, n = reduce_valid(losses, valid, reduction)
    return y.astype(dtype), (dx, dw, db, n)


@_by_platform
def _run_back(x, w, labels, b, statistics, dy, *, label_smoothing, **settings):
    """The cotangents of all arguments where there is a loss for every row."""
    kinds = jax.tree.map(jax.typeof, (x, w, b))
    x, head, chunks, (index, valid, _) = _setting(x, w, labels, b, **settings)
    dy = jnp.where(valid, dy.astype(statistics.m.dtype), jnp.zeros_like(statistics.m))

    def step(totals, rows):
        x, index, statistics, dy = rows
        # Rows that fill up the last chunk have zeros for statistics. With m = 0 their exponentials might be inf; with
        # m = inf they are 0.
        statistics = statistics._replace(m=jnp.where(statistics.inverse == 0, jnp.inf, statistics.m))
        return head.backward(totals, x, head.logits(x), index, statistics, dy, label_smoothing)

    (dw, db), dx = chunks.scan(step, head.totals(), (x, index, statistics, dy))
    return like(dx, kinds[0]), like(dw, kinds[1]), None, None if db is None else like(db, kinds[2])


def _setting(x, w, labels, b, *, classes_first, ignore_label, chunk, precision, plan):
    """The rows, the head and the chunks to compute with, and of every row what :func:`class_ids` says."""
    dtype = _common_dtype(x, w, b)
    dtype = dtype if plan.half else sum_dtype(dtype)
    x = x.astype(dtype)
    head = Head(w, b, dtype, classes_first, precision, plan)
    index, valid, wrong = class_ids(labels, x, head.classes, ignore_label)
    x = counting(x, valid)
    return x, head, Chunks(x, head.classes, chunk, plan), (index, valid, wrong)


def _common_dtype(*arrays):
    return jnp.result_type(*(array for array in arrays if array is not None))
