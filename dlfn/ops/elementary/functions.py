r"""Elementary functions of one or two arrays, with gradients that are finite at their corners.

Arguments broadcast against each other. Half types are computed in float32.
"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.elementary._of_two import of_two
from dlfn.ops.support.arguments import require_float
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.limits import x_log_y
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import finite, root, unit_factor

__all__ = ["atan2", "hypot", "sqrt", "xlogy"]


@Op
def sqrt(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Square root, :math:`y = \sqrt x`, whose derivative at 0 is 0 by convention.

    Derivative: :math:`1 / (2 \sqrt x)` for x > 0, and 0 at 0, so that ``where(x > 0, sqrt(x), 0)`` has a finite
    gradient. The derivative of :func:`jax.numpy.sqrt` at 0 is infinite, and multiplied by the cotangent 0 it is nan.
    For x < 0 value and derivative are nan, but where the value was not used, so that its cotangent is 0, the gradient
    is 0. ``power(x, 0.5)`` instead has the limit :math:`+\infty` as its slope at 0.

    Args:
        x: floating point, any shape.

    Returns:
        Of the shape and dtype of x.

    Raises:
        InputError: on integers.

    Source: 004 numerical stability.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([0.0, 4.0])
    >>> for root in (sqrt, jnp.sqrt):
    ...     print(jax.grad(lambda x: jnp.where(x > 0, root(x), 0).sum())(x))
    [0.   0.25]
    [ nan 0.25]
    """
    return jnp.sqrt(x)


@sqrt.def_forward
def _sqrt_forward(x):
    y = jnp.sqrt(upcast(x)).astype(x.dtype)
    # A root rounded to a half type would add its rounding error to that of the derivative.
    return y, (y, None) if y.dtype.itemsize >= 4 else (None, x)


@sqrt.def_backward
def _sqrt_backward(residuals, dy):
    y, x = residuals
    y = jnp.sqrt(upcast(x)) if y is None else y
    # The gradient is 0 at 0, and where a nan was not used, such as one that jnp.where did not select.
    none = (y == 0) | ((y != y) & (dy == 0))
    return ((upcast(dy) * (0.5 / jnp.where(none, jnp.full_like(y, jnp.inf), y))).astype(dy.dtype),)


@sqrt.def_check
def _sqrt_check(x):
    require_float("sqrt", "x", x)


def _hypot_value(x, y):
    u, v, k = _scaled(x, y)
    return jnp.where(jnp.isinf(x) | jnp.isinf(y), jnp.inf, root(u * u + v * v) * unit_factor(k))


def _hypot_slopes(x, y):
    u, v, _ = _scaled(x, y)
    r = root(_or_infinite(u * u + v * v))
    return u / r, v / r


@of_two(_hypot_value, _hypot_slopes)
def hypot(x: Float[ArrayLike, "*#shape"], y: Float[ArrayLike, "*#shape"]) -> Float[Array, "*shape"]:
    r"""Length of the hypotenuse, :math:`r = \sqrt{x^2 + y^2}`.

    Derivatives: :math:`x / r` and :math:`y / r`; at (0, 0), where there are none, 0 by convention. x and y are first
    divided by a power of two near the larger of them, so that the squares do not over- or underflow.

    Args:
        x: floating point, any shape.
        y: floating point; broadcasts against x.

    Returns:
        The shape that x and y broadcast to, in their common dtype.

    Raises:
        InputError: on integers, and shapes that do not broadcast.

    Source: ``jax.numpy.hypot``, ``torch.hypot``.

    >>> import jax
    >>> print(hypot(3e20, 4e20), *jax.grad(hypot, (0, 1))(3e20, 4e20), *jax.grad(hypot, (0, 1))(0.0, 0.0))
    5e+20 0.6 0.8 0.0 0.0
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    return jnp.sqrt(x**2 + y**2)


def _atan2_slopes(y, x):
    v, u, k = _scaled(y, x)
    square = _or_infinite(u * u + v * v)
    return u / square * k, -v / square * k


@of_two(jnp.arctan2, _atan2_slopes)
def atan2(y: Float[ArrayLike, "*#shape"], x: Float[ArrayLike, "*#shape"]) -> Float[Array, "*shape"]:
    r"""Angle of the point (x, y) from the x axis, in :math:`[-\pi, \pi]`.

    Derivatives: :math:`x / r^2` in y and :math:`-y / r^2` in x, with :math:`r^2 = x^2 + y^2`; at (0, 0), where there
    are none, 0 by convention. As in ``hypot``, the squares do not over- or underflow.

    Args:
        y: floating point, any shape.
        x: floating point; broadcasts against y.

    Returns:
        Radians, in the shape that y and x broadcast to and their common dtype.

    Raises:
        InputError: on integers, and shapes that do not broadcast.

    Source: ``jax.numpy.arctan2``, ``torch.atan2``.

    >>> import jax
    >>> print(f"{atan2(1.0, 1.0):.4f}", jax.grad(atan2)(1.0, 1.0), jax.grad(atan2)(0.0, 0.0))
    0.7854 0.5 0.0
    """
    return jnp.arctan2(y, x)


def _xlogy_slopes(x, y):
    corner = (x == 0) & (y == 0)
    y = jnp.where(corner, jnp.ones_like(y), y)
    return jnp.log(y), x / y


@of_two(lambda x, y: x_log_y(x, y, y == y), _xlogy_slopes)
def xlogy(x: Float[ArrayLike, "*#shape"], y: Float[ArrayLike, "*#shape"]) -> Float[Array, "*shape"]:
    r"""The product :math:`x \log y`, which is 0 where x is, even at y = 0.

    Derivatives: :math:`\log y` and :math:`x / y`; at (0, 0), where there are no limits, 0 by convention. Elsewhere at
    y = 0 they are infinite, as is the value.

    Args:
        x: floating point, any shape.
        y: floating point, 0 or more; broadcasts against x. Below 0 it gives nan, unless x is 0.

    Returns:
        The shape that x and y broadcast to, in their common dtype.

    Raises:
        InputError: on integers, and shapes that do not broadcast.

    Source: 004 information theory; ``jax.scipy.special.xlogy``, ``torch.xlogy``.

    >>> import jax
    >>> print(xlogy(0.0, 0.0), *jax.grad(xlogy, (0, 1))(0.0, 0.0), *jax.grad(xlogy, (0, 1))(2.0, 1.0))
    0.0 0.0 0.0 0.0 2.0
    """
    return jnp.asarray(x) * jnp.log(y)


def _scaled(a, b):
    """a k, b k and k, a power of two for which the larger of a k and b k is near 1."""
    a, b = finite(a), finite(b)
    k = unit_factor(jnp.maximum(jnp.abs(a), jnp.abs(b)))
    return a * k, b * k, k


def _or_infinite(square):
    """The square, or infinity where it is 0: the quotients by it, and their derivatives, are then 0 at (0, 0)."""
    return jnp.where(square == 0, jnp.full_like(square, jnp.inf), square)
