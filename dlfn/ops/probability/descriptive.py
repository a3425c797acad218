r"""Mean, variance, standard deviation and covariance of data, along any axes.

Data are centred in two steps: one of the entries is subtracted, and then the mean of the differences. So a mean that is
large beside the deviation costs no digits, and constant data have a deviation of exactly 0 and gradients of 0. Half
types are summed in float32.

``ddof`` is subtracted from the number n of entries that a variance is divided by: 0 as in document 004 and in numpy, 1
for the unbiased estimate, which is PyTorch's default.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.support.arguments import (
    axes_of,
    describe,
    require_axes,
    require_float,
    require_number,
    require_same_shape,
)
from dlfn.ops.support.compiled import made_anew
from dlfn.ops.support.dtypes import Static, sum_dtype, upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import fitting, in_range, inverse_root, largest, root, square, unit_factor
from dlfn.ops.support.sharding import is_explicit, like, upcast_alike

__all__ = ["covariance", "mean", "std", "variance"]


@Op
def mean(
    x: Float[ArrayLike, "..."], *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Float[Array, "..."]:
    r"""Mean, :math:`\mu = \frac1n \sum_i x_i`.

    .. math:: \frac{\partial L}{\partial x_i} = \frac{\bar \mu}{n}

    Where the sum overflows, the entries are first divided by a power of two.

    Args:
        x: floating point, any shape.
        axis: an int, a tuple of them, or None for all axes.
        keepdims: whether to keep the reduced axes, with size 1.

    Returns:
        The shape of x without the axes.

    Raises:
        InputError: on integers, an axis that x does not have, and a mean over nothing.

    Source: 004 statistics.

    >>> import jax, jax.numpy as jnp
    >>> print(mean(jnp.array([1.0, 5.0])), mean(jnp.array([3e38, 3e38])), jax.grad(mean)(jnp.array([1.0, 5.0])))
    3.0 3e+38 [0.5 0.5]
    """
    return jnp.mean(x, axis, keepdims=keepdims)


@mean.def_forward
def _mean_forward(x, *, axis, keepdims):
    axes = axes_of(axis, x.ndim)
    z = upcast(x)

    def average(z):
        return jnp.sum(z, axes, keepdims=True) / _count(z, axes)

    def scaled():
        k = fitting(largest(z, axes))
        return average(z * k) * unit_factor(k)

    usual = average(z)
    y = lax.cond(jnp.all(jnp.isfinite(usual)), lambda: usual, scaled).astype(x.dtype)
    return y if keepdims else jnp.squeeze(y, axes), Static(jax.typeof(x))


@mean.def_backward
def _mean_backward(residuals, dy, *, axis, keepdims):
    kind = residuals.value
    axes = axes_of(axis, len(kind.shape))
    dy = upcast(dy)
    dy = (dy if keepdims else jnp.expand_dims(dy, axes)) / _count(kind, axes)
    return (like(jnp.broadcast_to(dy, kind.shape), kind),)


@mean.def_check
def _mean_check(x, *, axis):
    _check("mean", x, axis, 0)


@Op
def variance(
    x: Float[ArrayLike, "..."], *, axis: int | tuple[int, ...] | None = None, ddof: float = 0, keepdims: bool = False
) -> Float[Array, "..."]:
    r"""Variance, :math:`\sigma^2 = \frac1n \sum_i (x_i - \mu)^2`, with n - ddof for n.

    .. math:: \frac{\partial L}{\partial x_i} = \frac{2 \bar y}{n} (x_i - \mu),

    as μ, which depends on x too, is multiplied by the sum of the :math:`x_i - \mu`, which is 0.

    Args:
        x: floating point, any shape.
        axis: an int, a tuple of them, or None for all axes.
        ddof: a number less than n.
        keepdims: whether to keep the reduced axes, with size 1.

    Returns:
        The shape of x without the axes.

    Raises:
        InputError: on integers, an axis that x does not have, and n no more than ddof.

    Source: 004 statistics.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([1e4 + 1, 1e4 + 3])
    >>> print(variance(x), variance(x, ddof=1), jax.grad(variance)(x))
    1.0 2.0 [-1.  1.]
    """
    x = jnp.asarray(x)
    axes = axes_of(axis, x.ndim)
    squares = (x - jnp.mean(x, axes, keepdims=True)) ** 2
    return jnp.sum(squares, axes, keepdims=keepdims) / (_count(x, axes) - ddof).astype(x.dtype)


@variance.def_forward
def _variance_forward(x, *, axis, ddof, keepdims):
    return _spread_forward(lambda s, k: s * unit_factor(k) * unit_factor(k), x, axis, ddof, keepdims)


@variance.def_backward
def _variance_backward(residuals, dy, *, axis, ddof, keepdims):
    return (_spread_backward(lambda s, k: 2 * unit_factor(k), residuals, dy, axis, ddof, keepdims),)


@variance.def_check
def _variance_check(x, *, axis, ddof):
    _check("variance", x, axis, ddof)


@Op
def std(
    x: Float[ArrayLike, "..."], *, axis: int | tuple[int, ...] | None = None, ddof: float = 0, keepdims: bool = False
) -> Float[Array, "..."]:
    r"""Standard deviation, :math:`\sigma = \sqrt{\frac1n \sum_i (x_i - \mu)^2}`, with n - ddof for n.

    .. math::
        \frac{\partial L}{\partial x_i} = \frac{\bar \sigma}{n \sigma} (x_i - \mu), \qquad 0 \text{ where } \sigma = 0.

    Where squares over- or underflow, the entries are first divided by a power of two.

    Args:
        x: floating point, any shape.
        axis: an int, a tuple of them, or None for all axes.
        ddof: a number less than n.
        keepdims: whether to keep the reduced axes, with size 1.

    Returns:
        The shape of x without the axes.

    Raises:
        InputError: on integers, an axis that x does not have, and n no more than ddof.

    Source: 004 statistics.

    >>> import jax, jax.numpy as jnp
    >>> print(std(jnp.array([1.0, 3.0])), jax.grad(std)(jnp.array([1.0, 3.0])), jax.grad(std)(jnp.full(2, 0.1)))
    1.0 [-0.5  0.5] [0. 0.]
    """
    x = jnp.asarray(x)
    axes = axes_of(axis, x.ndim)
    squares = (x - jnp.mean(x, axes, keepdims=True)) ** 2
    return jnp.sqrt(jnp.sum(squares, axes, keepdims=keepdims) / (_count(x, axes) - ddof).astype(x.dtype))


@std.def_forward
def _std_forward(x, *, axis, ddof, keepdims):
    return _spread_forward(lambda s, k: root(s) * unit_factor(k), x, axis, ddof, keepdims)


@std.def_backward
def _std_backward(residuals, dy, *, axis, ddof, keepdims):
    return (_spread_backward(lambda s, k: inverse_root(s), residuals, dy, axis, ddof, keepdims),)


@std.def_check
def _std_check(x, *, axis, ddof):
    _check("std", x, axis, ddof)


@Op
def covariance(
    x: Float[ArrayLike, "*shape"],
    y: Float[ArrayLike, "*shape"],
    *,
    axis: int | tuple[int, ...] | None = None,
    ddof: float = 0,
    keepdims: bool = False,
) -> Float[Array, "..."]:
    r"""Covariance, :math:`\operatorname{Cov}(x, y) = \frac1n \sum_i (x_i - \mu_x) (y_i - \mu_y)`, with n - ddof for n.

    .. math::
        \frac{\partial L}{\partial x_i} = \frac{\bar c}{n} (y_i - \mu_y), \qquad
        \frac{\partial L}{\partial y_i} = \frac{\bar c}{n} (x_i - \mu_x).

    Args:
        x: floating point, any shape.
        y: of the shape of x.
        axis: an int, a tuple of them, or None for all axes.
        ddof: a number less than n.
        keepdims: whether to keep the reduced axes, with size 1.

    Returns:
        The shape of x without the axes, in the common dtype of x and y.

    Raises:
        InputError: on integers, different shapes, an axis that x does not have, and n no more than ddof.

    Source: 004 statistics.

    >>> import jax, jax.numpy as jnp
    >>> x, y = jnp.array([1.0, 3.0]), jnp.array([10.0, 2.0])
    >>> print(covariance(x, y), jax.grad(covariance)(x, y))
    -4.0 [ 2. -2.]
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    axes = axes_of(axis, x.ndim)
    products = (x - jnp.mean(x, axes, keepdims=True)) * (y - jnp.mean(y, axes, keepdims=True))
    return jnp.sum(products, axes, keepdims=keepdims) / (_count(x, axes) - ddof).astype(x.dtype)


@covariance.def_forward
def _covariance_forward(x, y, *, axis, ddof, keepdims):
    axes = axes_of(axis, x.ndim)
    u, v = upcast_alike(x, y)

    def of(u, v):
        p, q = _center(u, axes), _center(v, axes)
        return *p, *q, jnp.mean(_centred(u, *p) * _centred(v, *q), axes, keepdims=True)

    def scaled():
        # The factors are no larger than needed: derivatives are fractions of their inverses, and would underflow.
        k, h = (fitting(jnp.maximum(largest(z, axes), 1e-30)) for z in (u, v))
        return k, h, *of(u * k, v * h)

    usual = of(u, v)
    one = jnp.ones_like(usual[0])
    k, h, *rest, product = lax.cond(jnp.all(in_range(jnp.abs(usual[-1]))), lambda: (one, one, *usual), scaled)
    count = _count(u, axes)
    # The product is multiplied by 2^a and then by 2^b, where a and b have one sign, or a is 0: so only the second
    # product may overflow.
    small, big = jnp.minimum(unit_factor(k), unit_factor(h)), jnp.maximum(unit_factor(k), unit_factor(h))
    product = product * jnp.clip(1, small, big) * (jnp.minimum(small, 1) * jnp.maximum(big, 1))
    c = (product * (count / (count - ddof))).astype(jnp.result_type(x, y))
    return c if keepdims else jnp.squeeze(c, axes), (x, y, k, h, *rest)


@covariance.def_backward
def _covariance_backward(residuals, dc, *, axis, ddof, keepdims):
    x, y, k, h, *center = residuals
    p, q = center[:2], center[2:]
    axes = axes_of(axis, x.ndim)
    u, v = upcast_alike(x, y)
    dc = dc.astype(u.dtype)
    weight = (dc if keepdims else jnp.expand_dims(dc, axes)) / (_count(u, axes) - ddof)
    dx, dy = weight * unit_factor(h) * _centred(v * h, *q), weight * unit_factor(k) * _centred(u * k, *p)
    return like(dx, jax.typeof(x)), like(dy, jax.typeof(y))


@covariance.def_check
def _covariance_check(x, y, *, axis, ddof):
    require_float("covariance", "y", y)
    _check("covariance", x, axis, ddof)
    require_same_shape("covariance", "x", x, "y", y)


def _spread_forward(value, x, axis, ddof, keepdims):
    """The forward pass of the op that is ``value(s, k)``, for s the variance of k x."""
    axes = axes_of(axis, x.ndim)
    z = upcast(x)
    k, entry, rest, spread = _spread(z, axes)
    n = _count(z, axes)
    spread = spread * (n / (n - ddof))
    y = value(spread, k).astype(x.dtype)
    return y if keepdims else jnp.squeeze(y, axes), (x, k, entry, rest, spread)


def _spread_backward(slope, residuals, dy, axis, ddof, keepdims):
    """The cotangent of x; ``slope(s, k)`` times the centred k x, over n - ddof, is the op's derivative."""
    x, k, entry, rest, spread = residuals
    axes = axes_of(axis, x.ndim)
    dy = upcast(dy) if keepdims else jnp.expand_dims(upcast(dy), axes)
    z = upcast(x)
    weight = dy * slope(spread, k) / (_count(z, axes) - ddof)
    return like(weight * _centred(z * k, entry, rest), jax.typeof(x))


def _spread(x, axes):
    """A power of two k, and the center and the variance of k x."""

    def of(x):
        entry, rest = _center(x, axes)
        (copy,) = made_anew(entry)
        return entry, rest, jnp.mean(square(_centred(x, copy, rest)), axes, keepdims=True)

    def scaled():
        k = fitting(largest(x, axes))
        return k, *of(x * k)

    usual = of(x)
    return lax.cond(jnp.all(in_range(usual[-1])), lambda: (jnp.ones_like(usual[0]), *usual), scaled)


def _center(x, axes):
    """The mean as a sum of two numbers, of which one is an entry: its error is small beside the deviation, and not only
    beside the mean."""
    if is_explicit(x):  # an axis that is sharded in its type cannot be sliced
        entry = jnp.max(x, axes, keepdims=True)
    else:
        entry = x[tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.ndim))]
    entry = lax.stop_gradient(entry)  # whatever it is, the sum is the mean
    return entry, jnp.mean(x - entry, axes, keepdims=True)


def _centred(x, entry, rest):
    return (x - entry) - rest


def _count(x, axes):
    """How many entries there are along the axes, as an array, since sizes may be symbolic."""
    return jnp.asarray(math.prod(x.shape[axis] for axis in axes), sum_dtype(x.dtype))


def _check(op, x, axis, ddof):
    require_float(op, "x", x)
    require_axes(op, x, axis)
    require_number(op, "ddof", ddof, "a number such as 0 or 1")
    sizes = [x.shape[a] for a in axes_of(axis, x.ndim)]
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) <= ddof:
        raise InputError(
            f"{op}: x is {describe(x)}, and the {op} of {math.prod(sizes)} entries{f' with ddof={ddof}' * bool(ddof)} "
            f"is 0/0; give more than {ddof} along axis {axis}"
        )
