r"""Linear algebra on top of the ops: eigenvalues of general matrices, principal components, transforms of the plane.

The transforms are homogeneous matrices, products of which compose: ``translation(t) @ rotation(theta)`` turns first.
Points are (x, y), and a positive angle turns the x axis towards the y axis.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from dlfn import ops
from dlfn.core import InputError
from dlfn.ops.linear_algebra.eigen import signs
from dlfn.ops.linear_algebra.linear_systems import require_square
from dlfn.ops.support.arguments import describe, require_float
from dlfn.ops.support.dtypes import sum_dtype
from dlfn.ops.support.scaled import or_one

__all__ = ["PCA", "eig", "rotation", "scaling", "transform_points", "translation"]


def eig(a: Any) -> tuple[jax.Array, jax.Array]:
    r"""Eigenvalues and eigenvectors of general square matrices, :math:`A = Q \Lambda Q^{-1}`.

    A value, for the CPU: of eigenvectors it has no derivative. For symmetric matrices :func:`dlfn.ops.eigh` has all.

    Args:
        a: (..., n, n).

    Returns:
        The eigenvalues in LAPACK's order, (..., n), and the eigenvectors in columns, (..., n, n), both complex. Where
        eigenvectors do not span the space, such as of [[1, 1], [0, 1]], Q is singular and the decomposition none.

    Raises:
        InputError: on an argument that is not floating point, on matrices that are not square, and where a is not on
            the CPU (inside ``jit``: where that is not the default backend).

    Source: 004 linear algebra.

    >>> eigenvalues, q = eig(jnp.array([[0.0, -1.0], [1.0, 0.0]]))
    >>> print(eigenvalues)
    [0.+1.j 0.-1.j]
    """
    a = jnp.asarray(a)
    require_square("eig", a)
    platform = jax.default_backend() if isinstance(a, Tracer) else next(iter(a.devices())).platform
    if platform != "cpu":
        raise InputError(
            f"eig: a is on a {platform} device, and general eigenvalues are computed on the CPU alone; pass "
            'jax.device_put(a, jax.devices("cpu")[0]), or use dlfn.ops.eigh if a is symmetric'
        )
    eigenvalues, q = jnp.linalg.eig(a.astype(sum_dtype(a.dtype)))
    return eigenvalues, q


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PCA:
    r"""Principal components, fitted: :math:`X - \bar X = U \Sigma V^\top`, :math:`Z = (X - \bar X) V_k`.

    A pytree of arrays, made by :meth:`fit`; all methods work under ``jit`` and ``vmap``.

    Attributes:
        mean: (features,).
        components: (k, features): the rows are the first k columns of V, orthonormal, the most variance first. Of each,
            the largest component is positive: the first, where more than one are equal up to the root of the dtype's
            precision.
        explained_variance: (k,), the variances :math:`\sigma_i^2 / (N - 1)` along the components.
        explained_variance_ratio: (k,), these over the total variance; 0 for data without variance.

    Source: 004 linear algebra.

    >>> x = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    >>> pca = PCA.fit(x, 1)
    >>> print(pca.components.round(3), pca.explained_variance_ratio.round(3))
    [[0.707 0.707]] [1.]
    >>> print((pca.transform(x).ravel() + 0.0).round(3))
    [-1.414  0.     1.414]
    """

    mean: jax.Array
    components: jax.Array
    explained_variance: jax.Array
    explained_variance_ratio: jax.Array

    @classmethod
    def fit(cls, x: Any, components: int | None = None) -> "PCA":
        """Principal components of (examples, features).

        Args:
            x: two examples at least.
            components: k, from 1 to the smaller of both sizes, which is the default.

        Raises:
            InputError: on data that is not floating point, on other than two axes, on fewer than two examples or no
                features, and on a k that is too large.
        """
        x = jnp.asarray(x)
        require_float("PCA", "x", x)
        if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
            raise InputError(
                f"PCA: x is {describe(x)}, and must be (examples, features) with two examples and one feature at least"
            )
        most = min(x.shape)
        k = most if components is None else components
        if not (isinstance(k, int) and 1 <= k <= most):
            raise InputError(
                f"PCA: components is {components!r}, and must be an int from 1 to {most} for {describe(x)}"
            )
        return cls(*_principal(x, k))

    def transform(self, x: Any) -> jax.Array:
        """Coordinates along the components.

        Args:
            x: (..., features).

        Returns:
            (..., k), in the common dtype with the fit.

        Raises:
            InputError: on an argument that is not floating point, or has another number of features than the fit.
        """
        x = self._checked("x", x, self.mean.shape[0])
        return ops.linear(x - self.mean, self.components.T)

    def inverse_transform(self, z: Any) -> jax.Array:
        """The points that have these coordinates, and lie in the space of the components.

        Args:
            z: (..., k).

        Returns:
            (..., features), in the common dtype with the fit.

        Raises:
            InputError: on an argument that is not floating point, or has another number of coordinates than the fit.

        >>> pca = PCA.fit(jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), 1)
        >>> print(pca.inverse_transform(jnp.zeros(1)))
        [2. 2.]
        """
        z = self._checked("z", z, self.components.shape[0])
        return ops.linear(z, self.components) + self.mean

    def _checked(self, name: str, x: Any, size: int) -> jax.Array:
        x = jnp.asarray(x)
        require_float("PCA", name, x)
        if x.ndim == 0 or x.shape[-1] != size:
            raise InputError(f"PCA: {name} is {describe(x)}, and must be (..., {size}), as in the fit")
        return x


@functools.partial(jax.jit, static_argnames="k")
def _principal(x, k):
    wide = x.astype(sum_dtype(x.dtype))
    mean = jnp.mean(wide, axis=0)
    _, scale, v = jnp.linalg.svd(wide - mean, full_matrices=False)
    variance = scale**2 / (x.shape[0] - 1)
    total = jnp.sum(variance)
    ratio = variance / or_one(total)
    return [part.astype(x.dtype) for part in (mean, (v * signs(v.T).T)[:k], variance[:k], ratio[:k])]


def rotation(theta: Any) -> jax.Array:
    r"""The rotation by an angle in radians,
    :math:`\begin{bmatrix} \cos\theta & -\sin\theta & 0 \\ \sin\theta & \cos\theta & 0 \\ 0 & 0 & 1 \end{bmatrix}`.

    Args:
        theta: (...), of any shape.

    Returns:
        (..., 3, 3).

    Raises:
        InputError: on integers.

    Source: 004 linear algebra.

    >>> print(transform_points(rotation(jnp.pi / 2), jnp.array([[1.0, 0.0]])).round())
    [[-0.  1.]]
    """
    theta = jnp.asarray(theta)
    require_float("rotation", "theta", theta)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    return _matrix(theta, ((cos, -sin, 0.0), (sin, cos, 0.0)))


def scaling(s: Any) -> jax.Array:
    r"""Scaling along the axes, :math:`\operatorname{diag}(s_x, s_y, 1)`.

    Args:
        s: (..., 2): :math:`(s_x, s_y)`; or a scalar for both.

    Returns:
        (..., 3, 3).

    Raises:
        InputError: on integers, and on a last axis of another size.

    Source: 004 linear algebra.

    >>> print(scaling(2.0))
    [[2. 0. 0.]
     [0. 2. 0.]
     [0. 0. 1.]]
    """
    s = jnp.asarray(s)
    require_float("scaling", "s", s)
    s = jnp.broadcast_to(s, (2,)) if s.ndim == 0 else s
    _require_plane("scaling", "s", s)
    return _matrix(s[..., 0], ((s[..., 0], 0.0, 0.0), (0.0, s[..., 1], 0.0)))


def translation(t: Any) -> jax.Array:
    r"""Translation by a vector,
    :math:`\begin{bmatrix} 1 & 0 & t_x \\ 0 & 1 & t_y \\ 0 & 0 & 1 \end{bmatrix}`.

    Args:
        t: (..., 2): :math:`(t_x, t_y)`.

    Returns:
        (..., 3, 3).

    Raises:
        InputError: on integers, and on a last axis of another size.

    Source: 004 linear algebra.

    >>> print(transform_points(translation([1.0, 2.0]), jnp.array([[0.0, 0.0], [5.0, 5.0]])))
    [[1. 2.]
     [6. 7.]]
    """
    t = jnp.asarray(t)
    require_float("translation", "t", t)
    _require_plane("translation", "t", t)
    return _matrix(t[..., 0], ((1.0, 0.0, t[..., 0]), (0.0, 1.0, t[..., 1])))


def transform_points(matrix: Any, points: Any) -> jax.Array:
    r"""Points of the plane moved by homogeneous matrices, :math:`(x', y', w') = M (x, y, 1)` to :math:`(x', y') / w'`.

    Of products of rotations, scalings and translations w′ is 1; of other matrices it makes perspective.

    Args:
        matrix: (..., 3, 3).
        points: (..., points, 2). The leading axes of both broadcast.

    Returns:
        (..., points, 2), in the common dtype.

    Raises:
        InputError: on integers, and on other shapes.

    Source: 004 linear algebra.

    >>> square = jnp.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    >>> print(transform_points(scaling([2.0, 1.0]), square)[0])
    [2. 1.]
    """
    matrix, points = jnp.asarray(matrix), jnp.asarray(points)
    require_float("transform_points", "matrix", matrix)
    require_float("transform_points", "points", points)
    require_homogeneous("transform_points", matrix)
    if points.ndim < 2:
        raise InputError(f"transform_points: points is {describe(points)}, and must be (..., points, 2)")
    _require_plane("transform_points", "points", points)
    turned = jnp.swapaxes(matrix, -1, -2)
    moved = ops.matmul(points, turned[..., :2, :]) + turned[..., 2:, :]
    return moved[..., :2] / moved[..., 2:]


def require_homogeneous(function: str, matrix: jax.Array) -> None:
    if matrix.shape[-2:] != (3, 3):
        raise InputError(
            f"{function}: matrix is {describe(matrix)}, and must be (..., 3, 3), as dlfn.linalg.rotation makes it"
        )


def _require_plane(function: str, name: str, x: jax.Array) -> None:
    if x.ndim == 0 or x.shape[-1] != 2:
        raise InputError(f"{function}: {name} is {describe(x)}, and must have the shape (..., 2), for x and y")


def _matrix(example: jax.Array, rows: Any) -> jax.Array:
    """Entries of the shape and dtype of the example, or numbers, as matrices, with the last row (0, 0, 1)."""
    entries = [jnp.full_like(example, entry) if isinstance(entry, float) else entry for entry in sum(rows, ())]
    last = [jnp.full_like(example, entry) for entry in (0.0, 0.0, 1.0)]
    return jnp.stack([*entries, *last], axis=-1).reshape(*example.shape, 3, 3)
