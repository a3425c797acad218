"""Sums of squares that neither over- nor underflow."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["direction", "finite", "in_range", "inverse", "lengths", "power_of_two", "root", "root_or_one"]


def root_or_one(x: jax.Array) -> jax.Array:
    """√x, and 1 with derivatives of 0 at 0."""
    return jnp.sqrt(jnp.where(x == 0, jnp.ones_like(x), x))


def root(x: jax.Array) -> jax.Array:
    """√x, with derivatives of 0 at 0."""
    return jnp.where(x == 0, jnp.zeros_like(x), root_or_one(x))


def power_of_two(x: jax.Array, axes: Any) -> jax.Array:
    """The largest size along axes, which are kept, as a power of two that has a normal reciprocal. It may count as a
    constant in derivatives: multiplying by one power and its inverse changes nothing."""
    info = jnp.finfo(x.dtype)
    top = lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=True, initial=0))
    low = float(info.smallest_normal)
    return lax.reduce_precision(
        jnp.clip(top, low, 1 / low), exponent_bits=8 if info.bits == 32 else 11, mantissa_bits=0
    )


def inverse(m: jax.Array) -> jax.Array:
    """1/m of a power of two, as a constant: 1/m², in its derivative, may overflow."""
    return 1 / lax.stop_gradient(m)


def finite(x: jax.Array) -> jax.Array:
    """x without infinities: a quotient of two would be nan."""
    big = jnp.finfo(x.dtype).max
    return jnp.clip(x, -big, big)


def in_range(squares: jax.Array, terms: Any = 1) -> jax.Array:
    """Where no sum of so many squares has overflowed, and those that have underflowed are below its rounding."""
    info = jnp.finfo(squares.dtype)
    least = jnp.asarray(terms, squares.dtype) * (float(info.smallest_normal) / float(info.eps))
    return (squares >= least) & (squares < jnp.inf)


def lengths(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The norms over axes, which are kept, or of all arrays together for None: y = m r, with r the norm of x / m.

    m is a power of two: 1 if all norms can do without. That is the usual case, and costs one pass; else there are two.
    """
    keep = axes is not None

    def total(squares):
        sums = [jnp.sum(square, axes, keepdims=keep) for square in squares]
        return functools.reduce(jnp.add, sums)

    def usual():
        r = root(squares)
        return r, jnp.ones_like(r), r

    def scaled():
        tops = [power_of_two(x, axes) for x in arrays]
        m = tops[0] if keep else functools.reduce(jnp.maximum, [top.reshape(()) for top in tops])
        r = root(total([(finite(x) * inverse(m)) ** 2 for x in arrays]))
        infinite = total([jnp.isinf(x).astype(x.dtype) for x in arrays]) > 0
        return jnp.where(infinite, jnp.inf, m * r), m, r

    squares = total([x * x for x in arrays])
    terms = sum(math.prod(x.shape[a] for a in (range(x.ndim) if axes is None else axes)) for x in arrays)
    return lax.cond(jnp.all(in_range(squares, terms)), usual, scaled)


def direction(x: jax.Array, m: jax.Array, r: jax.Array) -> jax.Array:
    """x divided by its norm m r, and 0 where that is 0."""
    none = r == 0
    return finite(x) * inverse(m) * jnp.where(none, jnp.zeros_like(r), 1 / jnp.where(none, jnp.ones_like(r), r))
