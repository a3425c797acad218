r"""Eigenvalues and eigenvectors of symmetric matrices, and functions of such matrices.

**Equal eigenvalues.** The eigenvectors of equal eigenvalues may be any basis of the space that they span, and the
formula of their gradient divides by the gap between the eigenvalues, which is 0. Two eigenvalues count as equal here
when they are no further apart than :math:`8 \sqrt n \epsilon \max |\lambda|`. That is a few times LAPACK's rounding
error, and a quotient by a smaller gap would be noise. The gradient of :func:`eigh` has 0 in place of these quotients:

- This is right for a function of eigenvalues alone, such as :math:`\sum f(\lambda)`, and for one that depends on the
  eigenvectors of equal eigenvalues only through the space that they span, such as the projection onto it: the exact
  terms are 0.
- A function that depends on the choice of the basis has no gradient, and 0 is a convention.
- :math:`Q f(\Lambda) Q^\top` does not depend on the basis, and has a gradient. But the part of it within the space
  contains f′, which does not appear in any cotangent of :math:`\lambda` and Q, so that no rule for eigh can find it, in
  any library. (At :math:`A = I`, for a cotangent of the product with zeros on its diagonal, the cotangent of
  :math:`\lambda` is 0, and that of Q contains only f(1).) :func:`matrix_function` has this gradient, at equal
  eigenvalues too.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.linear_algebra.linear_systems import require_square
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.dtypes import Static, upcast
from dlfn.ops.support.op import Op

__all__ = ["eigh", "matrix_function", "signs"]

# Gauss's quadrature rules of four and of three points, each as pairs of a place in [0, 1] and its weight, which are
# Python numbers so that they do not widen the dtype.
_QUADRATURES = tuple(
    tuple(zip(((1 + nodes) / 2).tolist(), (weights / 2).tolist()))
    for nodes, weights in map(np.polynomial.legendre.leggauss, (4, 3))
)


@Op
def eigh(a: Float[ArrayLike, "*batch n n"]) -> tuple[Float[Array, "*batch n"], Float[Array, "*batch n n"]]:
    r"""Eigendecomposition of symmetric matrices, :math:`A = Q \Lambda Q^\top`.

    With :math:`A q_j = \lambda_j q_j`, :math:`d\lambda_j = q_j^\top dA\, q_j` and
    :math:`q_i^\top dq_j = q_i^\top dA\, q_j / (\lambda_j - \lambda_i)` for :math:`i \ne j`, so

    .. math::
        \bar A = Q \Big(\operatorname{diag} \bar\lambda + F \odot Q^\top \bar Q\Big) Q^\top,
        \qquad F_{ij} = \frac{1}{\lambda_j - \lambda_i}, \quad F_{jj} = 0,

    of which the symmetric part is taken. F is 0 between equal eigenvalues, for the reasons that
    :mod:`dlfn.ops.linear_algebra.eigen` gives.

    Only the symmetric part :math:`\frac12 (A + A^\top)` of a is read, and the gradient is symmetric. Half types are
    decomposed in float32.

    Args:
        a: (..., n, n).

    Returns:
        The eigenvalues in ascending order, (..., n), and the eigenvectors in columns, (..., n, n). The largest
        component of each eigenvector is positive; where several are equally large, up to the square root of the dtype's
        precision, the first of them is.

    Raises:
        InputError: on an argument that is not floating point, and on matrices that are not square.

    Source: Giles 2008, *Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic
    Differentiation*; 004 linear algebra.

    >>> import jax, jax.numpy as jnp
    >>> eigenvalues, q = eigh(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> print(eigenvalues)
    [1. 3.]
    >>> print(q.round(3))
    [[ 0.707  0.707]
     [-0.707  0.707]]
    >>> jax.grad(lambda a: jnp.sum(eigh(a)[0] ** 2))(jnp.eye(2))  # of the sum of squares of a, at equal eigenvalues
    Array([[2., 0.],
           [0., 2.]], dtype=float32)
    """
    eigenvalues, q = jnp.linalg.eigh(a)
    return eigenvalues, q * signs(q)


@eigh.def_forward
def _eigh_forward(a):
    eigenvalues, q = jnp.linalg.eigh(upcast(a))
    q = q * signs(q)
    return (eigenvalues.astype(a.dtype), q.astype(a.dtype)), (eigenvalues, q, Static(a.dtype))


@eigh.def_backward
def _eigh_backward(residuals, dy):
    eigenvalues, q, static = residuals
    d_eigenvalues, dq = (cotangent.astype(q.dtype) for cotangent in dy)
    gap = eigenvalues[..., None, :] - eigenvalues[..., :, None]
    equal = _equal(eigenvalues, gap)
    inside = jnp.where(equal, jnp.zeros_like(gap), q.mT @ dq / jnp.where(equal, jnp.ones_like(gap), gap))
    inside = inside + d_eigenvalues[..., None] * jnp.eye(q.shape[-1], dtype=q.dtype)
    return (_symmetric(q @ inside @ q.mT).astype(static.value),)


@eigh.def_check
def _eigh_check(a):
    require_square("eigh", a)


@Op
def matrix_function(
    a: Float[ArrayLike, "*batch n n"], *, function: Callable[[Array], tuple[Array, Array]]
) -> Float[Array, "*batch n n"]:
    r"""Function of symmetric matrices, :math:`f(A) = Q f(\Lambda) Q^\top`, such as their exponential or root.

    .. math::
        \bar A = Q \Big(\Gamma \odot Q^\top \bar Y Q\Big) Q^\top, \qquad
        \Gamma_{ij} = \frac{f(\lambda_i) - f(\lambda_j)}{\lambda_i - \lambda_j}
        = \int_0^1 f'(\lambda_j + t (\lambda_i - \lambda_j))\, dt,

    (Daleckii and Krein), because :math:`Y = f(A)` commutes with A: :math:`dA\, Y + A\, dY = dY\, A + Y\, dA`, between
    :math:`q_i` and :math:`q_j`. At equal eigenvalues the integral is :math:`f'(\lambda)`. Where eigenvalues are
    close the quotient loses digits, and the integral, by Gauss's rule with four points, takes its place where its
    estimated error is smaller.

    Only the symmetric part of a is read, and the gradient is symmetric. Second derivatives are right where all
    eigenvalues differ.

    Args:
        a: (..., n, n).
        function: takes an array of eigenvalues and returns the pair :math:`(f(\lambda), f'(\lambda))`, elementwise; the
            rules of :mod:`dlfn.calculus` give such pairs. Every new function object is compiled again, so define it
            once.

    Returns:
        Of the shape and dtype of a.

    Raises:
        InputError: on an argument that is not floating point, on matrices that are not square, and on a function that
            does not return a pair.

    Source: Higham 2008, *Functions of Matrices: Theory and Computation*, section 3.2; 004 linear algebra.

    >>> import jax, jax.numpy as jnp
    >>> def exp(eigenvalues):
    ...     return jnp.exp(eigenvalues), jnp.exp(eigenvalues)
    >>> print(matrix_function(jnp.zeros((2, 2)), function=exp))
    [[1. 0.]
     [0. 1.]]
    >>> jax.grad(lambda a: matrix_function(a, function=exp)[0, 1])(jnp.zeros((2, 2)))
    Array([[0. , 0.5],
           [0.5, 0. ]], dtype=float32)
    """
    eigenvalues, q = jnp.linalg.eigh(a)
    return q * function(eigenvalues)[0][..., None, :] @ q.mT


@matrix_function.def_forward
def _matrix_function_forward(a, *, function):
    eigenvalues, q = jnp.linalg.eigh(upcast(a))
    values, _ = _evaluated(function, eigenvalues)
    y = _symmetric(q * values[..., None, :] @ q.mT)
    return y.astype(a.dtype), (eigenvalues, q, Static(a.dtype))


@matrix_function.def_backward
def _matrix_function_backward(residuals, dy, *, function):
    eigenvalues, q, static = residuals
    inside = _divided_differences(function, eigenvalues) * (q.mT @ dy.astype(q.dtype) @ q)
    return (_symmetric(q @ inside @ q.mT).astype(static.value),)


@matrix_function.def_check
def _matrix_function_check(a, *, function):
    require_square("matrix_function", a)
    if not callable(function):
        raise InputError(f"matrix_function: function is {function!r:.60}, and must be a function of eigenvalues")


def _evaluated(function, x):
    pair = function(x)
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(jnp.shape(part) == x.shape for part in pair)):
        raise InputError(
            "matrix_function: function must return the pair (f(x), f'(x)) of arrays of the shape of x, "
            f"{list(x.shape)}, and returned {describe(pair)}"
        )
    return pair


def _divided_differences(function, x):
    r"""The matrix :math:`\Gamma`, whose entry at (i, j) is the mean of f′ between the eigenvalues i and j of x."""
    values, _ = _evaluated(function, x)
    one, other = x[..., :, None], x[..., None, :]
    gap = one - other
    equal = gap == 0
    safe = jnp.where(equal, jnp.ones_like(gap), gap)
    quotient = (values[..., :, None] - values[..., None, :]) / safe
    rounding = jnp.finfo(x.dtype).eps * (jnp.abs(values[..., :, None]) + jnp.abs(values[..., None, :])) / jnp.abs(safe)
    mean, rougher = (
        sum(weight * _evaluated(function, other + place * gap)[1] for place, weight in rule) for rule in _QUADRATURES
    )
    better = equal | (jnp.abs(mean - rougher) < rounding)
    return jnp.where(lax.stop_gradient(better), mean, quotient)


def signs(q):
    """The factors, 1 or -1, that make the largest component of each column positive. LAPACK's own signs differ from
    machine to machine."""
    size = jnp.abs(q)
    large = size >= (1 - float(jnp.finfo(q.dtype).eps) ** 0.5) * jnp.max(size, axis=-2, keepdims=True, initial=0.0)
    rows = q.shape[-2]
    row = jnp.arange(rows)[:, None]
    first = row == jnp.min(jnp.where(large, row, rows), axis=-2, keepdims=True, initial=rows)
    return lax.stop_gradient(jnp.sum(jnp.where(first, jnp.sign(q), 0), axis=-2, keepdims=True))


def _equal(x, gap):
    """Which pairs of eigenvalues count as equal, as the module's docstring has it; each one equals itself."""
    size = jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0.0)[..., None]
    return lax.stop_gradient(jnp.abs(gap) <= 8 * x.shape[-1] ** 0.5 * jnp.finfo(x.dtype).eps * size)


def _symmetric(x):
    return (x + x.mT) / 2
