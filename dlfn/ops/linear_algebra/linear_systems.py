r"""Inverse matrices and systems of linear equations, by LU factors with row exchanges.

LAPACK has no half types, so matrices of those are factored in float32.

**Singular matrices.** A singular matrix is an error where its numbers are known, which they are not inside ``jit``,
``vmap`` and :func:`dlfn.backprop`. There it gives inf and nan in its own results, and the rest of a batch has the right
ones. Whether a matrix is singular is judged by the cancellation in the sums of :math:`A^{-1} A = I`: where
:math:`\max_i \sum_j |A^{-1}_{ij}| |A_{ji}|`, which does not change when rows or columns are scaled, is
:math:`1/\epsilon` or more, no digit of a result is certain.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.linalg import lu_factor, lu_solve
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_broadcast, require_float
from dlfn.ops.support.dtypes import Static, sum_dtype, upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = ["inverse", "require_square", "solve"]


@Op
def inverse(a: Float[ArrayLike, "*batch n n"]) -> Float[Array, "*batch n n"]:
    r"""Inverse of square matrices, :math:`Y = A^{-1}` with :math:`A Y = I`.

    From :math:`dA\, Y + A\, dY = 0`, :math:`dY = -Y\, dA\, Y`, and so

    .. math::
        \bar A = -Y^\top \bar Y Y^\top.

    Args:
        a: (..., n, n).

    Returns:
        Of the shape and dtype of a. For :math:`A^{-1} b` use :func:`solve`, which is more accurate.

    Raises:
        InputError: on an argument that is not floating point, on matrices that are not square, and on singular ones, as
            :mod:`dlfn.ops.linear_algebra.linear_systems` defines them.

    Source: Giles 2008, *Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic
    Differentiation*; 004 linear algebra.

    >>> import jax, jax.numpy as jnp
    >>> inverse(jnp.array([[2.0, 0.0], [0.0, 4.0]]))
    Array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    >>> inverse(jnp.array([[1.0, 2.0], [2.0, 4.0]]))
    Traceback (most recent call last):
    dlfn.core.errors.InputError: inverse: a is singular to the precision of float32; add a multiple of the identity to it, or use jnp.linalg.lstsq for the solution of least squares
    """  # noqa: E501
    return jnp.linalg.inv(a)


@inverse.def_forward
def _inverse_forward(a):
    wide = upcast(a)
    identity = jnp.zeros_like(wide) + jnp.eye(a.shape[-1], dtype=wide.dtype)
    y = _solved(wide, _factored(wide), identity)
    return y.astype(a.dtype), (y, Static(a.dtype))


@inverse.def_backward
def _inverse_backward(residuals, dy):
    y, static = residuals
    turned = y.mT
    return (-(turned @ dy.astype(y.dtype) @ turned).astype(static.value),)


@inverse.def_check
def _inverse_check(a):
    require_square("inverse", a)
    _require_regular("inverse", a)


@Op
def solve(
    a: Float[ArrayLike, "*#batch n n"], b: Float[ArrayLike, "*#batch n k"] | Float[ArrayLike, " n"]
) -> Float[Array, "*batch n k"] | Float[Array, "*batch n"]:
    r"""Solution of the linear equations :math:`A X = B`.

    From :math:`dA\, X + A\, dX = dB`,

    .. math::
        \bar B = A^{-\top} \bar X, \qquad \bar A = -\bar B X^\top.

    The backward pass keeps A, its LU factors, and X: its system is solved by the factors of the forward pass.

    Args:
        a: (..., n, n).
        b: (..., n, k), k right-hand sides in columns, or (n,) for a single one. The leading axes of a and b broadcast.

    Returns:
        X: (..., n, k) in the common dtype, or (..., n) if b is (n,).

    Raises:
        InputError: on arguments that are not floating point, on matrices that are not square, on shapes that do not
            fit, and on singular matrices, as :mod:`dlfn.ops.linear_algebra.linear_systems` defines them.

    Source: Giles 2008, *Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic
    Differentiation*; 004 linear algebra.

    >>> import jax, jax.numpy as jnp
    >>> a, b = jnp.array([[2.0, 0.0], [0.0, 4.0]]), jnp.array([1.0, 1.0])
    >>> print(solve(a, b), jax.grad(lambda b: solve(a, b).sum())(b))
    [0.5  0.25] [0.5  0.25]
    """
    return jnp.linalg.solve(a, b)


@solve.def_forward
def _solve_forward(a, b):
    wide_a, wide_b = upcast(a, b)
    factors = _factored(wide_a)
    x = _solved(wide_a, factors, wide_b[:, None] if b.ndim == 1 else wide_b)
    y = x[..., 0] if b.ndim == 1 else x
    return y.astype(jnp.result_type(a, b)), (a, factors, x, Static(jax.typeof(b)))


@solve.def_backward
def _solve_backward(residuals, dx):
    a, factors, x, static = residuals
    b = static.value
    dx = (dx[..., None] if b.ndim == 1 else dx).astype(x.dtype)
    db = _solved(a.astype(x.dtype), factors, dx, transposed=True)
    da = in_shape_of(-(db @ x.mT), a.shape)
    db = in_shape_of(db[..., 0] if b.ndim == 1 else db, b.shape)
    return like(da, jax.typeof(a)), like(db, b)


@solve.def_check
def _solve_check(a, b):
    require_square("solve", a)
    require_float("solve", "b", b)
    size = b.shape[-2] if b.ndim > 1 else b.shape[0] if b.ndim else None
    if size != a.shape[-1]:
        hint = "; pass b[..., None] for one right-hand side per matrix" if b.shape == a.shape[:-1] else ""
        raise InputError(
            f"solve: a is {describe(a)} and b is {describe(b)}: b must have the shape (..., {a.shape[-1]}, k), or "
            f"({a.shape[-1]},){hint}"
        )
    require_broadcast("solve", 2, a=a, b=b)
    _require_regular("solve", a)


def require_square(op, a):
    require_float(op, "a", a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise InputError(f"{op}: a is {describe(a)}, and its last two axes must be those of a square matrix")


def _require_regular(op, a):
    a = lax.stop_gradient(a)  # without the tracer of jax.grad, inside which the numbers are known
    if isinstance(a, Tracer) or not a.size or not a.is_fully_addressable:
        return
    matrices, dtype = np.asarray(a, np.float64), sum_dtype(a.dtype)
    unsure = ~(_cancellation(matrices) < 1 / jnp.finfo(dtype).eps) & np.isfinite(matrices).all((-1, -2))
    if unsure.any():
        place = f"[{', '.join(map(str, np.argwhere(unsure)[0]))}]" if a.ndim > 2 else ""
        raise InputError(
            f"{op}: a{place} is singular to the precision of {dtype}; add a multiple of the identity to it, or use "
            "jnp.linalg.lstsq for the solution of least squares"
        )


def _cancellation(matrices):
    """The number by which the module's docstring judges a matrix, for each matrix; inf where it has no inverse."""
    with np.errstate(all="ignore"):
        try:
            inverses = np.linalg.inv(matrices)
        except np.linalg.LinAlgError:
            if matrices.ndim == 2:
                return np.asarray(np.inf)
            return np.stack([_cancellation(matrix) for matrix in matrices])
        return np.max(np.sum(np.abs(inverses) * np.abs(matrices.swapaxes(-1, -2)), axis=-1), axis=-1)


def _factored(a):
    """The LU factors as constants to autodiff: :func:`_by_factors` has the derivative in the matrix itself."""
    return lu_factor(lax.stop_gradient(a))


def _solved(a, factors, b, transposed=False):
    """The solution by the LU factors of a, the leading axes of a and b broadcast."""
    lead = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, lu, b = (x if x.shape[:-2] == lead else jnp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, factors[0], b))
    pivots = factors[1] if lu is factors[0] else jnp.broadcast_to(factors[1], (*lead, a.shape[-1]))
    return _by_factors(a, lu, pivots, b, transposed=transposed)


@Op
def _by_factors(a, lu, pivots, b, *, transposed):
    """The solution of A x = b, or of Aᵀ x = b, by the factors of A. It is an op of its own so that the second
    derivatives of ``inverse`` and ``solve`` follow from this equation too, and not from the LU factorisation's."""
    del lu, pivots
    return jnp.linalg.solve(a.mT if transposed else a, b)


@_by_factors.def_forward
def _by_factors_forward(a, lu, pivots, b, *, transposed):
    x = lu_solve((lu, pivots), b, int(transposed))
    return x, (a, lu, pivots, x)


@_by_factors.def_backward
def _by_factors_backward(residuals, dx, *, transposed):
    a, lu, pivots, x = residuals
    db = _by_factors(a, lu, pivots, dx, transposed=not transposed)
    da = -(x @ db.mT) if transposed else -(db @ x.mT)
    return da, None, None, db
