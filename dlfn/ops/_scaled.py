"""Sums of squares that neither over- nor underflow."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["direction", "finite", "in_range", "largest", "lengths", "or_one", "root", "root_or_one", "scale"]


def or_one(x: jax.Array) -> jax.Array:
    """x where it is not 0, where another formula is taken."""
    return jnp.where(x == 0, jnp.ones_like(x), x)


def root_or_one(x: jax.Array) -> jax.Array:
    """√x, and 1 with derivatives of 0 at 0."""
    return jnp.sqrt(or_one(x))


def root(x: jax.Array) -> jax.Array:
    """√x, with derivatives of 0 at 0."""
    return jnp.where(x == 0, jnp.zeros_like(x), root_or_one(x))


def scale(top: jax.Array) -> jax.Array:
    """The power of two by which a size becomes 1 to 2, or 1/4 to 4 at the ends of the range.

    It counts as a constant in derivatives: what is multiplied by it is divided by it in the end. The scale of a scale
    is its inverse.

    From the bits: a quotient that is used twice XLA writes to memory, and of two in a row it makes one, by a product
    that may overflow.
    """
    info = jnp.finfo(top.dtype)
    bits = lax.bitcast_convert_type(lax.stop_gradient(top), jnp.int32 if info.bits == 32 else jnp.int64)
    exponent = lax.shift_right_logical(bits, jnp.asarray(info.nmant, bits.dtype))
    bias = info.maxexp - 1
    opposite = jnp.clip(2 * bias - exponent, 1, 2 * bias - 1)
    return lax.bitcast_convert_type(lax.shift_left(opposite, jnp.asarray(info.nmant, bits.dtype)), top.dtype)


def largest(x: jax.Array, axes: Any, keepdims: bool = True) -> jax.Array:
    return lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=keepdims, initial=0))


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
    """The norms over axes, which are kept, or of all arrays together for None: y, a scale k, and the norms r of k x.

    k is 1 if all norms can do without. That is the usual case, and costs one pass; else there are two more.
    """
    keep = axes is not None

    def total(squares):
        return functools.reduce(jnp.add, [jnp.sum(square, axes, keepdims=keep) for square in squares])

    def usual():
        r = root(squares)
        return r, jnp.ones_like(r), r

    def scaled():
        top = functools.reduce(jnp.maximum, [largest(x, axes, keep) for x in arrays])
        k = scale(finite(top))
        r = root(total([jnp.square(finite(x) * k) for x in arrays]))
        return jnp.where(top == jnp.inf, top, r * scale(k)), k, r

    squares = total([x * x for x in arrays])
    terms = sum(math.prod(x.shape[a] for a in (range(x.ndim) if axes is None else axes)) for x in arrays)
    return lax.cond(jnp.all(in_range(squares, terms)), usual, scaled)


def direction(x: jax.Array, k: jax.Array, r: jax.Array) -> jax.Array:
    """x divided by its norm r / k, and 0 where that is 0."""
    return finite(x) * k * jnp.where(r == 0, jnp.zeros_like(r), 1 / or_one(r))
