r"""The affine map :math:`z = x w + b`, for any number of leading dimensions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float, require_rank
from dlfn.ops.support.dtypes import Static, dot, sum_dtype
from dlfn.ops.support.op import Op
from dlfn.ops.support.shapes import as_rows
from dlfn.ops.support.sharding import is_explicit, like

__all__ = ["linear"]


@Op
def linear(
    x: Float[ArrayLike, "*batch in"],
    w: Float[ArrayLike, "in out"],
    b: Float[ArrayLike, " out"] | None = None,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "*batch out"]:
    r"""Affine map of the last axis, :math:`z = x w + b`.

    With :math:`\delta = \partial L / \partial z` and the sums over all rows of x,

    .. math::
        \frac{\partial L}{\partial x} = \delta w^\top, \qquad
        \frac{\partial L}{\partial w} = \sum x^\top \delta, \qquad
        \frac{\partial L}{\partial b} = \sum \delta,

    because :math:`z_{no} = \sum_i x_{ni} w_{io} + b_o` depends on :math:`x_{ni}` through :math:`w_{io}`, on
    :math:`w_{io}` through :math:`x_{ni}`, and on :math:`b_o` with slope 1.

    Examples are rows here. For the documents' column vectors :math:`z = W x + b` pass :math:`w = W^\top`, and likewise
    for :math:`Z = X W^\top + b`.

    The leading dimensions are flattened, so that forward and backward are one matrix product each. Half types are
    multiplied and summed in float32, and so is the gradient of b: a running bfloat16 sum of ones stops at 256.

    Args:
        x: (..., in).
        w: (in, out).
        b: (out,), or None for no bias.
        precision: that of all three matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        (..., out), in the common dtype of the arguments.

    Raises:
        InputError: on a scalar x, an argument that is not floating point, and shapes that do not fit.

    Source: 002 section 1, 003 sections 1 and 3; the backward pass is 000 section 12, 001 section 7, 003 section 5.

    >>> import jax, jax.numpy as jnp
    >>> x, w, b = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([5.0])
    >>> linear(x, w, b)
    Array([[16.]], dtype=float32)
    >>> jax.grad(lambda w: linear(x, w, b).sum())(w)
    Array([[1.],
           [2.]], dtype=float32)
    """
    z = jnp.matmul(x, w, precision=precision)
    return z if b is None else z + b


@linear.def_forward
def _linear_forward(x, w, b, *, precision):
    dtype = jnp.result_type(x, w, *([] if b is None else [b]))
    residuals = x, w, Static((dtype, None if b is None else jax.typeof(b)))
    x, w = x.astype(dtype), w.astype(dtype)
    rows = x if is_explicit(x, w) else as_rows(x)
    z = dot(rows, w, ((rows.ndim - 1,), (0,)), precision)
    if b is not None:
        z = z + b.astype(z.dtype)
    return z.astype(dtype).reshape(*x.shape[:-1], w.shape[1]), residuals


@linear.def_backward
def _linear_backward(residuals, dz, *, precision):
    x, w, static = residuals
    dtype, b_kind = static.value
    xs, ws = x.astype(dtype), w.astype(dtype)
    explicit = is_explicit(x, w, dz)
    if not explicit:
        xs, dz = as_rows(xs), as_rows(dz)
    rows = tuple(range(dz.ndim - 1))
    # The result of a sum over a sharded axis can be sharded in several ways, and JAX has to be told which: a cotangent
    # is sharded as its argument.
    dx = dot(dz, ws, ((dz.ndim - 1,), (1,)), precision, jax.typeof(x).sharding if explicit else None)
    dw = dot(xs, dz, (rows, rows), precision, jax.typeof(w).sharding if explicit else None)
    db = None if b_kind is None else like(jnp.sum(dz, axis=rows, dtype=sum_dtype(dtype)), b_kind)
    return dx.astype(x.dtype).reshape(x.shape), dw.astype(w.dtype), db


@linear.def_check
def _linear_check(x, w, b):
    for name, value in (("x", x), ("w", w), ("b", b)):
        if name != "b" or value is not None:
            require_float("linear", name, value)
    require_rank("linear", "x", x, "a feature axis")
    if w.ndim != 2:
        raise InputError(f"linear: w is {describe(w)}, and must have two axes (in, out)")
    if x.shape[-1] != w.shape[0]:
        hint = "; pass w.T, as w is (in, out)" if x.shape[-1] == w.shape[1] else ""
        raise InputError(
            f"linear: x is {describe(x)} and w is {describe(w)}: the last axis of x must have the size of the first "
            f"axis of w{hint}"
        )
    if b is not None and b.shape != w.shape[1:]:
        raise InputError(
            f"linear: b is {describe(b)}, and must have the shape {list(w.shape[1:])}, as w is {describe(w)}"
        )
