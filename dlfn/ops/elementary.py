r"""Elementary functions of one or two arrays, with gradients that are finite at their corners.

Arguments broadcast against each other. Half types are computed in float32.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from dlfn.ops._common import Static, in_shape_of, like, require_broadcast, require_float, sum_dtype, upcast
from dlfn.ops._information import x_log_y
from dlfn.ops._op import Op
from dlfn.ops._scaled import finite, or_one, root, root_or_one, scale

__all__ = ["atan2", "hypot", "power", "sqrt", "xlogy"]


def _of_two(
    value: Callable[..., Any], slopes: Callable[..., Any], *, integer: bool = False, of_value: bool = False
) -> Callable[[Callable[..., Any]], Op]:
    """Makes an Op of a definition f(a, b), by f and its two partial derivatives.

    Args:
        value: f of a and b in float32 or float64.
        slopes: both derivatives, of the same a and b.
        integer: whether b may be an integer array, which has no cotangent.
        of_value: whether ``slopes`` takes f as well.
    """

    def decorate(definition: Callable[..., Any]) -> Op:
        op = definition.__name__
        names = tuple(inspect.signature(definition).parameters)

        def check(a, b):
            require_float(op, names[0], a)
            if not (integer and jnp.issubdtype(b.dtype, jnp.integer)):
                require_float(op, names[1], b)
            require_broadcast(op, **dict(zip(names, (a, b))))

        def widened(a, b):
            dtype = sum_dtype(_common_dtype(a, b))
            return a.astype(dtype), b if jnp.issubdtype(b.dtype, jnp.integer) else b.astype(dtype)

        def forward(a, b):
            y = value(*widened(a, b)).astype(_common_dtype(a, b))
            # Rounded to a half type, it would add that rounding to the derivatives'.
            kept = [y] * (of_value and y.dtype.itemsize >= 4)
            return y, (a, b, kept, Static((jax.typeof(a), jax.typeof(b))))

        def backward(residuals, dy):
            a, b, kept, kinds = residuals
            wide = widened(a, b)
            dy = dy.astype(wide[0].dtype)
            if of_value:
                wide = *wide, kept[0] if kept else value(*wide)
            parts = zip(slopes(*wide), kinds.value)
            return tuple(
                None if slope is None else like(in_shape_of(dy * slope, kind.shape), kind) for slope, kind in parts
            )

        return Op(definition, forward, backward, check=check)

    return decorate


def _common_dtype(a, b):
    return a.dtype if jnp.issubdtype(b.dtype, jnp.integer) else jnp.result_type(a, b)


@Op
def sqrt(x):
    r"""Square root, whose derivative at 0 is 0 by convention.

    Derivative: :math:`1 / (2 \sqrt x)` for x > 0, and 0 at 0, so that ``where(x > 0, sqrt(x), 0)`` has a finite
    gradient: that of :func:`jax.numpy.sqrt` is multiplied there by 0, and 0 times infinity is nan. For x < 0 value and
    derivative are nan, but a cotangent of 0, of a value that was not used, stays 0. ``power(x, 0.5)`` has the slope
    :math:`+\infty` at 0 instead, the limit.

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


@sqrt.def_check
def _sqrt_check(x):
    require_float("sqrt", "x", x)


@sqrt.def_forward
def _sqrt_forward(x):
    y = jnp.sqrt(upcast(x)).astype(x.dtype)
    # Rounded to a half type, the root would add that rounding to the derivative's.
    return y, (y, None) if y.dtype.itemsize >= 4 else (None, x)


@sqrt.def_backward
def _sqrt_backward(residuals, dy):
    y, x = residuals
    y = jnp.sqrt(upcast(x)) if y is None else y
    # What is not used, such as a nan that where leaves out, has no slope.
    none = (y == 0) | ((y != y) & (dy == 0))
    return ((upcast(dy) * (0.5 / jnp.where(none, jnp.full_like(y, jnp.inf), y))).astype(dy.dtype),)


def _scaled(a, b):
    """a and b in multiples of a power of two, for the larger to be from 1 to 4, and its inverse."""
    a, b = finite(a), finite(b)
    k = scale(jnp.maximum(jnp.abs(a), jnp.abs(b)))
    return a * k, b * k, k


def _hypot_value(x, y):
    u, v, k = _scaled(x, y)
    return jnp.where(jnp.isinf(x) | jnp.isinf(y), jnp.inf, root(u * u + v * v) * scale(k))


def _hypot_slopes(x, y):
    u, v, _ = _scaled(x, y)
    r = root_or_one(u * u + v * v)
    return u / r, v / r


@_of_two(_hypot_value, _hypot_slopes)
def hypot(x, y):
    r"""Length of the hypotenuse, :math:`r = \sqrt{x^2 + y^2}`.

    Derivatives: :math:`x / r` and :math:`y / r`; at (0, 0), where there are none, 0 by convention. x and y are divided
    by a power of two first, so that no square over- or underflows.

    Args:
        x: floating point, any shape.
        y: floating point; broadcasts against x.

    Returns:
        The shape that x and y broadcast to, in their common dtype.

    Raises:
        InputError: on integers, and shapes that do not broadcast.

    Source: peers.

    >>> import jax
    >>> print(hypot(3e20, 4e20), *jax.grad(hypot, (0, 1))(3e20, 4e20), *jax.grad(hypot, (0, 1))(0.0, 0.0))
    5e+20 0.6 0.8 0.0 0.0
    """
    return jnp.sqrt(x**2 + y**2)


def _atan2_slopes(y, x):
    v, u, k = _scaled(y, x)
    square = or_one(u * u + v * v)
    return u / square * k, -v / square * k


@_of_two(jnp.arctan2, _atan2_slopes)
def atan2(y, x):
    r"""Angle of the point (x, y) from the x axis, in :math:`[-\pi, \pi]`.

    Derivatives: :math:`x / r^2` in y and :math:`-y / r^2` in x, with :math:`r^2 = x^2 + y^2`; at (0, 0), where there
    are none, 0 by convention. As in ``hypot``, no square over- or underflows.

    Args:
        y: floating point, any shape.
        x: floating point; broadcasts against y.

    Returns:
        Radians, in the shape that y and x broadcast to and their common dtype.

    Raises:
        InputError: on integers, and shapes that do not broadcast.

    Source: peers.

    >>> import jax
    >>> print(f"{atan2(1.0, 1.0):.4f}", jax.grad(atan2)(1.0, 1.0), jax.grad(atan2)(0.0, 0.0))
    0.7854 0.5 0.0
    """
    return jnp.arctan2(y, x)


def _power_below(base, exponent):
    """x^(n - 1), and x where n is 0."""
    return jnp.power(base, jnp.where(exponent == 0, jnp.ones_like(exponent), exponent - 1))


@jax.custom_jvp
def _power_below_of(base, exponent, y):
    """The same, as y / x where n - 1 is rounded, below 1/2 and above 2/eps, unless n is 0 or y has left the range."""
    rounded = (exponent < 0.5) | (exponent > 2 / jnp.finfo(base.dtype).eps)
    rounded = rounded & (exponent != 0) & (y != 0) & jnp.isfinite(y)
    return jnp.where(rounded, y / base, _power_below(base, exponent))


@functools.partial(_power_below_of.defjvp, symbolic_zeros=True)
def _power_below_of_jvp(primals, tangents):
    # Not that of the quotient: there is 1 / x² in it. What does not move has no part, as log x of a base below 0.
    moving = [i for i in (0, 1) if not isinstance(tangents[i], SymbolicZero)]

    def below(*moved):
        both = list(primals[:2])
        for i, value in zip(moving, moved, strict=True):
            both[i] = value
        return _power_below(*both)

    value = _power_below_of(*primals)
    if not moving:
        return value, jnp.zeros_like(value)
    return value, jax.jvp(below, [primals[i] for i in moving], [tangents[i] for i in moving])[1]


def _power_slopes(base, exponent, y):
    constant = exponent == 0
    whole = jnp.issubdtype(exponent.dtype, jnp.integer)
    in_base = exponent * (_power_below(base, exponent) if whole else _power_below_of(base, exponent, y))
    in_base = jnp.where(constant, jnp.zeros_like(base), in_base)
    if whole:
        return in_base, None
    # 0 where the slope in the exponent is to be.
    log = jnp.log(jnp.where((y == 0) | (constant & (base == 0)), jnp.ones_like(base), base))
    return in_base, y * log


@_of_two(jnp.power, _power_slopes, integer=True, of_value=True)
def power(base, exponent):
    r"""Power, :math:`y = x^n`.

    Derivatives: :math:`n x^{n-1}` in the base, as :math:`n y / x` for those n of which n - 1 is rounded, and
    :math:`x^n \log x` in the exponent. At the corners:

    =============  ===========================  ==========================  ============================================
    base           value                        slope in the base           slope in the exponent
    =============  ===========================  ==========================  ============================================
    0, n = 0       1                            0                           0, by convention: 0ⁿ jumps there
    0, n > 0       0                            0, 1, +∞ for n >, =, < 1    0
    0, n < 0       +∞                           −∞                          −∞
    below 0        of a whole n: :math:`x^n`    :math:`n x^{n-1}`           nan: for other n there is no value
    below 0        of another n: nan            nan                         nan
    =============  ===========================  ==========================  ============================================

    The slope :math:`+\infty` of n < 1 is the limit; that of :func:`sqrt` at 0 is 0, by convention.

    Args:
        base: floating point, any shape.
        exponent: floating point, or integer, for which there is no gradient; broadcasts against base.

    Returns:
        The shape that both broadcast to, in their common dtype, or in that of base for an integer exponent.

    Raises:
        InputError: on an integer base, and shapes that do not broadcast.

    Source: 000 section 1, 004 calculus; peers.

    >>> import jax
    >>> print(power(2.0, 3.0), *jax.grad(power, (0, 1))(2.0, 3.0), *jax.grad(power, (0, 1))(0.0, 0.0))
    8.0 12.0 5.5451775 0.0 0.0
    """
    return jnp.power(base, exponent)


def _xlogy_slopes(x, y):
    corner = (x == 0) & (y == 0)
    y = jnp.where(corner, jnp.ones_like(y), y)
    return jnp.log(y), x / y


@_of_two(lambda x, y: x_log_y(x, y, y == y), _xlogy_slopes)
def xlogy(x, y):
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

    Source: 004 information theory; peers.

    >>> import jax
    >>> print(xlogy(0.0, 0.0), *jax.grad(xlogy, (0, 1))(0.0, 0.0), *jax.grad(xlogy, (0, 1))(2.0, 1.0))
    0.0 0.0 0.0 0.0 2.0
    """
    return x * jnp.log(y)
