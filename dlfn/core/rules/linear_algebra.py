r"""Factorisations of matrices and triangular systems, for stacks of matrices, real or complex.

In all of this file, what stands for a cotangent :math:`\bar A` is such that the result moves by
:math:`\mathrm{Re}\,\mathrm{tr}(\bar A^H dA)`, as in the literature; :func:`_matrix_rule` takes the conjugate, which is
JAX's (see :mod:`dlfn.core.rules.complex_numbers`). Products are of full precision, also where matrix units are not.

Sources: Giles 2008, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation", for
eigenvalues and singular values; Murray 2016, "Differentiation of the Cholesky decomposition"; Walter and Lehmann 2010,
"Algorithmic differentiation of linear algebra functions with application in optimum experimental design (extended
version)", for QR and LU; Wan and Zhang 2019, "Automatic differentiation for complex valued SVD".
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import linalg

from dlfn.core.rules.table import NoRule, is_complex, rule

_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _dot(*factors):
    return functools.reduce(_product, factors)


def _adjoint(a):
    return jnp.conj(jnp.swapaxes(a, -1, -2))


def _identity(stack, n, dtype, start=0):
    """Ones on the diagonal of each matrix of a stack, from ``start`` on."""
    return jnp.broadcast_to(jnp.diag((jnp.arange(n) >= start).astype(dtype)), (*stack, n, n))


def _diagonal(values):
    *stack, n = values.shape
    return values[..., None] * _identity(stack, n, values.dtype)


def _imaginary_diagonal(a):
    """What a complex matrix has on its diagonal besides real numbers; zero for a real matrix."""
    diagonal = jnp.diagonal(a, axis1=-2, axis2=-1)
    return _diagonal(diagonal - diagonal.real.astype(a.dtype))


def _matrix_rule(name):
    """Registers a rule that takes and returns conjugates of JAX's cotangents."""

    def register(function):
        @rule(name)
        @functools.wraps(function)
        def conjugated(g, *operands, **params):
            return _conjugate(function(_conjugate(g), *operands, **params))

        return function

    return register


def _conjugate(cotangents):
    return jax.tree.map(lambda a: jnp.conj(a) if not isinstance(a, str) and is_complex(a) else a, cotangents)


def _solve(a, b, **options):
    return linalg.triangular_solve(a, b, **options)


# Triangular and tridiagonal systems: where op(A) X = B, B̄ = op(A)⁻ᴴ X̄, and the cotangent of op(A) is −B̄ Xᴴ


@_matrix_rule("triangular_solve")
def _triangular_solve(g, x, a, b, *, left_side, lower, transpose_a, conjugate_a, unit_diagonal):
    options = dict(left_side=left_side, lower=lower, unit_diagonal=unit_diagonal)
    db = _solve(a, g, transpose_a=not transpose_a, conjugate_a=not conjugate_a, **options)
    da = -_dot(db, _adjoint(x)) if left_side else -_dot(_adjoint(x), db)
    da = jnp.swapaxes(da, -1, -2) if transpose_a else da
    da = jnp.conj(da) if conjugate_a else da
    return jnp.tril(da, -unit_diagonal) if lower else jnp.triu(da, unit_diagonal), db


@_matrix_rule("tridiagonal_solve")
def _tridiagonal_solve(g, x, lower, diagonal, upper, b, **options):
    """Row i is ``lower[i] x[i-1] + diagonal[i] x[i] + upper[i] x[i+1] = b[i]``."""
    end = [(0, 0)] * (lower.ndim - 1)
    before, after = [*end, (1, 0)], [*end, (0, 1)]
    below, above = jnp.pad(upper[..., :-1], before), jnp.pad(lower[..., 1:], after)
    db = linalg.tridiagonal_solve(jnp.conj(below), jnp.conj(diagonal), jnp.conj(above), g, **options)
    row = lambda i, j: -jnp.sum(db[..., i, :] * jnp.conj(x[..., j, :]), -1)  # noqa: E731
    every, first, rest = slice(None), slice(-1), slice(1, None)
    return jnp.pad(row(rest, first), before), row(every, every), jnp.pad(row(first, rest), after), db


# Factorisations


@_matrix_rule("cholesky")
def _cholesky(g, y, a):
    r"""A = L Lᴴ: :math:`\bar A = L^{-H} \Phi(L^H \bar L) L^{-1}`, where :math:`\Phi` takes the lower triangle, and half
    of its diagonal. What makes A symmetric is an equation of its own, before this one."""
    factor = jnp.tril(y)
    middle = jnp.tril(_dot(_adjoint(factor), g))
    middle = middle - _diagonal(jnp.diagonal(middle, axis1=-2, axis2=-1)) / 2
    left = _solve(factor, middle, left_side=True, lower=True, transpose_a=True, conjugate_a=True)
    return _solve(factor, left, lower=True)


@_matrix_rule("lu")
def _lu(gs, ys, a):
    r"""P A = L U, with L and U made square by ones on their diagonals: with dX = L⁻¹ P dA U⁻¹ the two factors, which
    share an array, move by L tril(dX, −1) + triu(dX) U."""
    (factors, _, permutation), (m, n) = ys, a.shape[-2:]
    k, stack, kept = min(m, n), a.shape[:-2], [(0, 0)] * (a.ndim - 2)
    lower = jnp.pad(jnp.tril(factors[..., :k], -1), [*kept, (0, 0), (0, m - k)]) + _identity(stack, m, a.dtype)
    upper = jnp.pad(jnp.triu(factors[..., :k, :]), [*kept, (0, n - k), (0, 0)]) + _identity(stack, n, a.dtype, k)
    dx = jnp.tril(_dot(_adjoint(lower), gs[0]), -1) + jnp.triu(_dot(gs[0], _adjoint(upper)))
    options = dict(transpose_a=True, conjugate_a=True)
    dx = _solve(lower, dx, left_side=True, lower=True, unit_diagonal=True, **options)
    return jnp.take_along_axis(_solve(upper, dx, **options), jnp.argsort(permutation)[..., None], -2)


@_matrix_rule("qr")
def _qr(gs, ys, a, *, pivoting, full_matrices, **_):
    """Columns of A beyond its rows are R₂ = Qᴴ A₂, and columns of Q beyond those of A are where the reflections take
    the last unit vectors."""
    (q, r), (m, n), k = ys[:2], a.shape[-2:], min(a.shape[-2:])
    dq, dr = (jnp.zeros_like(y) if g is None else g for g, y in zip(gs[:2], ys[:2], strict=True))
    if full_matrices and m > n:
        dq, q, dr, r = _thin_cotangent(dq, q, n), q[..., :n], dr[..., :n, :], r[..., :n, :]
    a_rest = _dot(q, r[..., k:])
    da = _thin_qr(dq + _dot(a_rest, _adjoint(dr[..., k:])), dr[..., :k, :k], q, r[..., :k, :k])
    da = jnp.concatenate([da, _dot(q, dr[..., k:])], -1)
    return jnp.take_along_axis(da, jnp.argsort(ys[2])[..., None, :], -1) if pivoting else da


def _thin_qr(dq, dr, q, r):
    r"""A = Q R: :math:`\bar A = (\bar Q + Q S) R^{-H}`, where S is Hermitian and has the upper triangle of
    :math:`\bar R R^H - Q^H \bar Q`."""
    middle = _dot(dr, _adjoint(r)) - _dot(_adjoint(q), dq)
    upper = jnp.triu(middle, 1)
    symmetric = upper + _adjoint(upper) + _diagonal(jnp.diagonal(middle, axis1=-2, axis2=-1).real.astype(q.dtype))
    return _solve(r, dq + _dot(q, symmetric), transpose_a=True, conjugate_a=True)


def _thin_cotangent(dq, q, n):
    r"""The cotangent of the first n columns of Q, of which the others are a function: with :math:`Z = Q_{21}
    (Q_{11} - I)^{-1}` they are :math:`Q_2`, and :math:`dQ_2 = dQ_1 Z^H - (Q_1 + Q_2 Z) (dQ_{21} - Z dQ_{11})^H`
    (arXiv:2409.13374, equations 32 and 33)."""
    first, rest, d_rest = q[..., :n], q[..., n:], dq[..., n:]
    less = first[..., :n, :] - _identity(q.shape[:-2], n, q.dtype)
    z = _adjoint(jnp.linalg.solve(_adjoint(less), _adjoint(first[..., n:, :])))
    through = _dot(_adjoint(d_rest), first + _dot(rest, z))
    return dq[..., :n] + _dot(d_rest, z) + jnp.concatenate([_dot(_adjoint(z), through), -through], -2)


# Eigenvalues and singular values. Vectors of equal ones are any that span their space, and have no derivative: nan.


def _inverse_differences(values):
    """1 / (vⱼ − vᵢ) in row i and column j, and 0 on the diagonal."""
    *stack, n = values.shape
    same = _identity(stack, n, values.dtype)
    return 1 / (values[..., None, :] - values[..., :, None] + same) - same


@_matrix_rule("eigh")
def _eigh(gs, ys, a, **_):
    r"""A = V diag(w) Vᴴ: :math:`\bar A = V (\mathrm{diag}(\bar w) + F \circ V^H \bar V) V^H`, where
    :math:`F_{ij} = 1 / (w_j - w_i)`."""
    (dv, dw), (v, w) = gs, ys
    middle = 0
    if dw is not None:
        middle += _diagonal(dw.astype(a.dtype))
    if dv is not None:
        if w.shape[-1] != a.shape[-1]:
            return NoRule("for some of the eigenvectors: the others are missing in it")
        middle += _inverse_differences(w).astype(a.dtype) * _dot(_adjoint(v), dv)
    return _dot(v, middle, _adjoint(v))


@_matrix_rule("svd")
def _svd(gs, ys, a, *, full_matrices, compute_uv, algorithm=None, **_):
    r"""A = U diag(s) Vᴴ. With :math:`F_{ij} = 1 / (s_j^2 - s_i^2)`, :math:`J = F \circ U^H \bar U` and
    :math:`K = F \circ V^H \bar V`

    .. math:: \bar A = U (\mathrm{diag}(\bar s) + (J + J^H) s + s (K + K^H) + D) V^H
        + (I - U U^H) \bar U s^{-1} V^H + U s^{-1} \bar V^H (I - V V^H)

    where D is :math:`i\, \mathrm{Im}\,\mathrm{diag}(U^H \bar U) / s`: a common phase of u and v is free, and JAX moves
    that of u."""
    k, s, (ds, du, dvh) = min(a.shape[-2:]), ys[0], (*gs, None, None)[:3]
    if compute_uv:
        u, vh = ys[1][..., : s.shape[-1]], ys[2][..., : s.shape[-1], :]
    else:
        u, _, vh = linalg.svd(a, full_matrices=False, algorithm=algorithm)
    v = _adjoint(vh)
    if (du is not None or dvh is not None) and (s.shape[-1] != k or (full_matrices and a.shape[-2] != a.shape[-1])):
        return NoRule("for singular vectors unless there are min(m, n): full_matrices=False, without subset_by_index")
    scale, middle, outside = s[..., None, :].astype(a.dtype), 0, 0
    factors = _inverse_differences(s * s).astype(a.dtype)
    if ds is not None:
        middle += _diagonal(ds.astype(a.dtype))
    if du is not None:
        inner = _dot(_adjoint(u), du)
        middle += (factors * inner + _adjoint(factors * inner)) * scale + _imaginary_diagonal(inner) / scale
        outside += _dot((du - _dot(u, inner)) / scale, vh)
    if dvh is not None:
        dv = _adjoint(dvh)
        inner = _dot(vh, dv)
        middle += jnp.swapaxes(scale, -1, -2) * (factors * inner + _adjoint(factors * inner))
        outside += _dot(u, _adjoint((dv - _dot(v, inner)) / scale))
    return _dot(u, middle, vh) + outside


@_matrix_rule("eig")
def _eig(gs, ys, a, **_):
    r"""A V = V diag(w): :math:`\bar A = V^{-H} \mathrm{diag}(\bar w) V^H`, with the vectors found once more. Which
    multiple of an eigenvector comes out is a convention."""
    dw, *dvectors = gs
    if any(dv is not None for dv in dvectors):
        return NoRule("for the eigenvectors of a matrix that is not Hermitian; its eigenvalues have one")
    w, v = linalg.eig(a, compute_left_eigenvectors=False)
    same = jnp.argmin(jnp.abs(ys[0][..., None, :] - w[..., :, None]), -2)  # the order may be another
    v = jnp.take_along_axis(v, same[..., None, :], -1)
    da = jnp.linalg.solve(_adjoint(v), dw[..., None] * _adjoint(v))
    return da if is_complex(a) else da.real
