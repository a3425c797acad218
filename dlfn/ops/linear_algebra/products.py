r"""Products of matrices and of vectors.

Half types are multiplied and summed in float32, and their gradients are summed over broadcast axes in float32.
"""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_broadcast, require_float, require_rank
from dlfn.ops.support.dtypes import Static, sum_dtype, upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.shapes import as_rows, in_shape_of
from dlfn.ops.support.sharding import is_explicit, like

__all__ = ["dot", "matmul"]


@Op
def matmul(
    a: Float[ArrayLike, "*#batch m k"] | Float[ArrayLike, " k"],
    b: Float[ArrayLike, "*#batch k n"] | Float[ArrayLike, " k"],
    *,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "..."]:
    r"""Matrix product of the last two axes, :math:`C = A B`.

    With :math:`\bar C = \partial L / \partial C`,

    .. math::
        \bar A = \bar C B^\top, \qquad \bar B = A^\top \bar C,

    because :math:`C_{mn} = \sum_k A_{mk} B_{kn}` depends on :math:`A_{mk}` through :math:`B_{kn}`, and on
    :math:`B_{kn}` through :math:`A_{mk}`. Where a leading axis of A or B was broadcast, the sum over it is part of the
    product: the cotangents of the repeated matrices are never stored. Where b is one matrix, the leading axes of a are
    flattened, so that forward and backward are one matrix product each.

    Args:
        a: (..., m, k), or (k,) for a row.
        b: (..., k, n), or (k,) for a column. The leading axes of a and b broadcast.
        precision: that of all three products, as in :func:`jax.numpy.matmul`.

    Returns:
        (..., m, n) in the common dtype; without m where a is (k,), and without n where b is (k,).

    Raises:
        InputError: on scalars, on arguments that are not floating point, and on shapes that do not fit.

    Source: Giles 2008, *Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic
    Differentiation*; 004 linear algebra.

    >>> import jax, jax.numpy as jnp
    >>> a, b = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])
    >>> print(matmul(a, b), jax.grad(lambda a: matmul(a, b).sum())(a))
    [[11.]] [[3. 4.]]
    """
    return jnp.matmul(a, b, precision=precision)


@matmul.def_forward
def _matmul_forward(a, b, *, precision):
    dtype = jnp.result_type(a, b)
    left, right = _as_matrices(a.astype(dtype), b.astype(dtype))
    lead = left.shape[:-1]
    flat = right.ndim == 2 and not is_explicit(left, right)
    c = jnp.matmul(as_rows(left) if flat else left, right, precision=precision, preferred_element_type=sum_dtype(dtype))
    c = c.reshape(*lead, right.shape[-1]) if flat else c
    if a.ndim == 1:
        c = jnp.squeeze(c, -2)
    return (jnp.squeeze(c, -1) if b.ndim == 1 else c).astype(dtype), (a, b, Static(dtype))


@matmul.def_backward
def _matmul_backward(residuals, dc, *, precision):
    a, b, static = residuals
    left, right = _as_matrices(a.astype(static.value), b.astype(static.value))
    if b.ndim == 1:
        dc = jnp.expand_dims(dc, -1)
    if a.ndim == 1:
        dc = jnp.expand_dims(dc, -2)
    if right.ndim == 2 and not is_explicit(a, b, dc):
        left, dc = as_rows(left), as_rows(dc)
    batch = dc.ndim - 2
    m, k, n = batch, batch + 1, batch + 2
    da = _summed(left, (m, k), right, (k, n), dc, (m, n), precision)
    db = _summed(right, (k, n), left, (m, k), dc, (m, n), precision)
    return da.astype(a.dtype).reshape(a.shape), db.astype(b.dtype).reshape(b.shape)


@matmul.def_check
def _matmul_check(a, b):
    for name, value in (("a", a), ("b", b)):
        require_float("matmul", name, value)
        require_rank("matmul", name, value, "the axis that is summed over")
    _require_equal("matmul", a, a.shape[-1], b, b.shape[-2] if b.ndim > 1 else b.shape[0], "the columns", "the rows")
    require_broadcast("matmul", 2, a=a, b=b)


@Op
def dot(a: Float[ArrayLike, "*#batch n"], b: Float[ArrayLike, "*#batch n"]) -> Float[Array, "*batch"]:
    r"""Dot product of vectors along the last axis, :math:`a \cdot b = \sum_i a_i b_i`.

    .. math::
        \frac{\partial L}{\partial a_i} = \bar y\, b_i, \qquad \frac{\partial L}{\partial b_i} = \bar y\, a_i

    Args:
        a: (..., n).
        b: (..., n). The leading axes of a and b broadcast.

    Returns:
        (...), in the common dtype.

    Raises:
        InputError: on scalars, on arguments that are not floating point, and on shapes that do not fit.

    Source: 004 linear algebra.

    >>> import jax, jax.numpy as jnp
    >>> a, b = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
    >>> print(dot(a, b), jax.grad(dot)(a, b))
    11.0 [3. 4.]
    """
    return jnp.sum(jnp.asarray(a) * jnp.asarray(b), axis=-1)


@dot.def_forward
def _dot_forward(a, b):
    wide_a, wide_b = upcast(a, b)
    return jnp.sum(wide_a * wide_b, axis=-1).astype(jnp.result_type(a, b)), (a, b)


@dot.def_backward
def _dot_backward(residuals, dy):
    a, b = residuals
    wide_a, wide_b, dy = upcast(a, b, dy)
    dy = dy[..., None]
    da, db = in_shape_of(dy * wide_b, a.shape), in_shape_of(dy * wide_a, b.shape)
    return like(da, jax.typeof(a)), like(db, jax.typeof(b))


@dot.def_check
def _dot_check(a, b):
    for name, value in (("a", a), ("b", b)):
        require_float("dot", name, value)
        require_rank("dot", name, value, "an axis of components")
    _require_equal("dot", a, a.shape[-1], b, b.shape[-1], "the components", "those")
    require_broadcast("dot", 1, a=a, b=b)


def _require_equal(op, a, size, b, other, which, of_which):
    if size != other:
        hint = ""
        if a.ndim > 1 and b.ndim > 1 and b.shape[-1] == a.shape[-1]:
            hint = "; pass jnp.swapaxes(b, -1, -2) if its columns are meant"
        raise InputError(
            f"{op}: a is {describe(a)} and b is {describe(b)}: {which} of a, {size}, must be as many as {of_which} of "
            f"b, {other}{hint}"
        )


def _as_matrices(a, b):
    return a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b


def _summed(target, target_axes, other, other_axes, dc, dc_axes, precision):
    """The cotangent of ``target``, in its shape: the product of ``other`` and dc, summed over the axes that ``target``
    does not have. Axes have numbers, as :func:`jax.numpy.einsum` takes them: a leading axis has that of its place in
    dc, and m, k and n have the three numbers after those."""
    batch = dc.ndim - 2
    target_lead, other_lead = (_leading(x, dc) for x in (target, other))
    narrow = jnp.squeeze(other, tuple(i for i in range(other.ndim - 2) if i + batch + 2 - other.ndim not in other_lead))
    out_sharding = None
    if is_explicit(target):
        # The result of a sum over a sharded axis can be sharded in several ways, and JAX has to be told which: a
        # cotangent is sharded as its argument.
        kind = jax.typeof(target).sharding
        spec = [kind.spec[i - batch - 2] for i in target_lead]
        out_sharding = NamedSharding(kind.mesh, PartitionSpec(*spec, *kind.spec[-2:]))
    return jnp.einsum(
        narrow,
        (*other_lead, *other_axes),
        dc,
        (*range(batch), *dc_axes),
        (*target_lead, *target_axes),
        precision=precision,
        preferred_element_type=sum_dtype(target.dtype),
        out_sharding=out_sharding,
    ).reshape(target.shape)


def _leading(x, dc):
    """The numbers of the leading axes of dc that x has too and that were not broadcast from size 1."""
    missing = dc.ndim - x.ndim
    return [i + missing for i in range(x.ndim - 2) if x.shape[i] != 1 or dc.shape[i + missing] == 1]
