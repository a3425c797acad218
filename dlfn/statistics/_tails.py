r"""Upper tails of the standard normal, Student's t and the χ² distributions.

:func:`jax.scipy.special.betainc` is good to 1e-8 at 1,000 degrees of freedom, and :func:`jax.scipy.special.gammaincc`
to 1e-9 at a million (float64). Here a tail is the density at its start, computed without cancellation, times
:math:`\int_0^\infty g(r)\, dr` with g the density relative to its start, which falls from 1: the trapezoidal rule after
:math:`r = \ell \exp(\tfrac\pi2 \sinh s)` has errors of 1e-14 there, for any number of degrees of freedom.

Each is one program: of their many small operations every single one would be compiled for itself.

Takahasi & Mori 1974, *Double Exponential Formulas for Numerical Integration*.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.ops.probability.saddle_point import deviance, stirling_error

__all__ = ["chi_squared_tail", "normal_tail", "t_quantile", "t_tail"]

_STEP = 1 / 16
_S = np.arange(-4, 4 + _STEP / 2, _STEP)
_NODES = np.exp(np.pi / 2 * np.sinh(_S))
_WEIGHTS = _NODES * (np.pi / 2 * np.cosh(_S)) * _STEP


def _integral(log_g: Callable[[jax.Array], jax.Array], length: jax.Array) -> jax.Array:
    """The integral of exp(log_g) from 0, where it falls off over about this length, in units of that."""
    nodes, weights = (jnp.asarray(x, length.dtype) for x in (_NODES, _WEIGHTS))
    return jnp.sum(weights * jnp.exp(log_g(length[..., None] * nodes)), axis=-1)


def _stirling_error(z: jax.Array) -> jax.Array:
    """From one above, as z may be down to 1/2."""
    return stirling_error(z + 1) + ((z + 0.5) * jnp.log1p(1 / z) - 1)


def normal_tail(z: jax.Array) -> jax.Array:
    """P(Z > z)."""
    return 0.5 * jax.lax.erfc(z / math.sqrt(2))


@jax.jit
def t_tail(t: jax.Array, df: jax.Array) -> jax.Array:
    """P(T > t), for one degree of freedom or more."""
    far, a, root = jnp.isinf(t), df / 2, jnp.sqrt(df)
    # In units of √df, and 1 + u² without its overflow.
    u = jnp.where(far, 0.0, jnp.abs(t)) / root
    huge = u > 1e9
    square = jnp.where(huge, 0.0, u * u)
    w = jnp.where(huge, u, jnp.sqrt(1 + square))
    log_square = jnp.where(huge, 2 * jnp.log(jnp.where(huge, u, 1.0)), jnp.log1p(square))

    def log_g(r: jax.Array) -> jax.Array:
        w_ = w[..., None]
        return -(df[..., None] + 1) / 2 * jnp.log1p(r / w_ * ((2 * u[..., None] + r) / w_))

    # log of Γ(a + 1/2) / (Γ(a) √a)
    log_scale = a * jnp.log1p(0.5 / a) - 0.5 + _stirling_error(a + 0.5) - _stirling_error(a)
    length = 1 / (1 / (1 / root + u) + (df + 1) * (u / w / w))
    # The density alone might underflow.
    start = jnp.exp(log_scale - (df + 1) / 2 * log_square + jnp.log(length)) * root / math.sqrt(2 * math.pi)
    tail = start * _integral(log_g, length)
    tail = jnp.where(far, 0.0, tail)
    return jnp.where(t < 0, 1 - tail, tail)


@jax.jit
def chi_squared_tail(x: jax.Array, df: jax.Array) -> jax.Array:
    """P(X > x), for one degree of freedom or more."""
    a, z = df / 2, x / 2
    edge = (z == 0) | jnp.isinf(z)
    z = jnp.where(edge, 1.0, z)
    above = z >= a
    a_, z_ = a[..., None], z[..., None]

    def log_g(r: jax.Array) -> jax.Array:
        # From x = 2z to infinity above the mode, over r = x'/2 - z; to 0 below it, over r = z log(x / x').
        r = r / z_
        up = (a_ - 1) * jnp.log1p(r) - z_ * r
        return jnp.where(above[..., None], up, -a_ * r - z_ * jnp.expm1(-r))

    # z^(a - 1) exp(-z) / Γ(a)
    density = jnp.exp(-deviance(a, z, jnp.log(a / z)) - _stirling_error(a)) * jnp.sqrt(a / (2 * math.pi)) / z
    length = z / (jnp.abs(a - z) + jnp.sqrt(jnp.maximum(a, z)))
    part = density * length * _integral(log_g, length)
    tail = jnp.where(above, part, 1 - part)
    return jnp.where(edge, jnp.where(x == 0, 1.0, 0.0), tail)


@jax.jit
def t_quantile(tail: float, df: jax.Array) -> jax.Array:
    """t with P(T > t) = tail < 1/2, by bisection."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        beyond = t_tail(middle, df) > tail
        return jnp.where(beyond, middle, low), jnp.where(beyond, high, middle)

    def double(high: jax.Array) -> jax.Array:
        return 2 * high

    high = jax.lax.while_loop(lambda high: jnp.any(t_tail(high, df) > tail), double, jnp.ones_like(df))
    return jax.lax.fori_loop(0, 60, halve, (jnp.zeros_like(df), high))[1]
