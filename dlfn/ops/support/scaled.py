"""Sums of squares that neither over- nor underflow."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "direction",
    "finite",
    "fitting",
    "in_range",
    "inverse",
    "inverse_length",
    "inverse_root",
    "largest",
    "lengths",
    "or_one",
    "product",
    "root",
    "square",
    "sum_of_products",
    "unit_factor",
]  # fmt: skip

_Linear = Callable[[jax.Array], jax.Array]


def or_one(x: jax.Array) -> jax.Array:
    """x with 1 in place of 0, for a division whose result is not used where x is 0."""
    return jnp.where(x == 0, jnp.ones_like(x), x)


# The derivatives that jax.numpy has for the next functions form cubes, which may leave the range where squares do not.
# Here they are products in such an order that each lies between the tangent and the result. All of them are 0 at 0.


@jax.custom_jvp
def inverse(x: jax.Array) -> jax.Array:
    """1/x, and 0 at 0."""
    return jnp.where(x == 0, jnp.zeros_like(x), 1 / or_one(x))


@inverse.defjvp
def _inverse_jvp(primals: Any, tangents: Any) -> Any:
    q = inverse(*primals)
    return q, -(q * (q * tangents[0]))


@jax.custom_jvp
def inverse_root(x: jax.Array) -> jax.Array:
    """1/√x, and 0 at 0, so that entries that are all the same are normalised to 0 even where eps is 0."""
    return jnp.where(x == 0, jnp.zeros_like(x), lax.rsqrt(or_one(x)))


@inverse_root.defjvp
def _inverse_root_jvp(primals: Any, tangents: Any) -> Any:
    r = inverse_root(*primals)
    return r, -0.5 * (r * (r * (r * tangents[0])))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def inverse_length(total: _Linear, spread: _Linear, x: jax.Array, square: jax.Array) -> jax.Array:
    """inverse_root(square), where the square is total(x * x), perhaps plus a constant.

    Its derivative is computed from the tangent of x, since the derivative in the square is a cube. ``total`` is a sum
    or a mean over parts of an array, and ``spread`` broadcasts its results to the array.
    """
    return inverse_root(square)


@inverse_length.defjvp
def _inverse_length_jvp(total: Any, spread: Any, primals: Any, tangents: Any) -> Any:
    x, square = primals
    r = inverse_length(total, spread, x, square)
    each = spread(r)
    return r, -(r * total((x * each) * (each * tangents[0])))


# The next two functions are of a z whose size is 1/r, and their derivatives are computed from r z, whose size is 1. If
# the factors were differentiated one by one, their derivatives would leave the range where z is far from 1.


@jax.custom_jvp
def product(z: jax.Array, r: jax.Array, x: jax.Array, more: Any = 0.0) -> jax.Array:
    """z (r x + more), where z is the larger array, so that there is only one product of its size."""
    return z * (r * x + more)


@product.defjvp
def _product_jvp(primals: Any, tangents: Any) -> Any:
    (z, r, x, more), (dz, dr, dx, dmore) = primals, tangents
    return product(*primals), (dz * r + z * dr) * x + (z * r) * dx + (dz * more + z * dmore)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def sum_of_products(axes: Any, x: jax.Array, z: jax.Array, r: jax.Array) -> jax.Array:
    """r times the sum of x z over axes along which r is constant, and which are kept with size 1."""
    return r * jnp.sum(x * z, axes, keepdims=True)


@sum_of_products.defjvp
def _sum_of_products_jvp(axes: Any, primals: Any, tangents: Any) -> Any:
    (x, z, r), (dx, dz, dr) = primals, tangents
    return sum_of_products(axes, x, z, r), jnp.sum(dx * (z * r) + x * (dz * r + z * dr), axes, keepdims=True)


@jax.custom_jvp
def root(x: jax.Array) -> jax.Array:
    """√x."""
    return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals: Any, tangents: Any) -> Any:
    return root(*primals), 0.5 * (inverse_root(*primals) * tangents[0])


def unit_factor(top: jax.Array) -> jax.Array:
    """A power of two such that top times it is from 1 to 2, or at the ends of the range from 1/4 to 4.

    It counts as a constant in derivatives, because what is multiplied by it is divided by it in the end. The
    unit_factor of such a factor is its inverse.

    It is computed from the bits of top. XLA would write a quotient that is used twice to memory, and would turn two
    successive divisions into one by the product of the divisors, which may overflow.
    """
    info = jnp.finfo(top.dtype)
    bits = lax.bitcast_convert_type(lax.stop_gradient(top), jnp.int32 if info.bits == 32 else jnp.int64)
    exponent = lax.shift_right_logical(bits, jnp.asarray(info.nmant, bits.dtype))
    bias = info.maxexp - 1
    opposite = jnp.clip(2 * bias - exponent, 1, 2 * bias - 1)
    return lax.bitcast_convert_type(lax.shift_left(opposite, jnp.asarray(info.nmant, bits.dtype)), top.dtype)


def largest(x: jax.Array, axes: Any, keepdims: bool = True) -> jax.Array:
    return lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=keepdims, initial=0))


def fitting(top: jax.Array) -> jax.Array:
    """The power of two by which to multiply numbers of the size ``top`` before they are squared. It is that of
    :func:`unit_factor`, but not so small that fractions of it, as in the derivatives of means, underflow."""
    info = jnp.finfo(top.dtype)
    return jnp.maximum(unit_factor(finite(top)), float(info.smallest_normal) / float(info.eps))


def finite(x: jax.Array) -> jax.Array:
    """x with the largest finite numbers in place of infinities, since the quotient of two infinities would be nan."""
    big = jnp.finfo(x.dtype).max
    return jnp.clip(x, -big, big)


def in_range(squares: jax.Array, terms: Any = 1) -> jax.Array:
    """Where sums of ``terms`` squares need no factor: the cubes of their roots, which second derivatives form, are in
    range with all their digits, and squares that have underflowed are below the rounding error of the sum."""
    info = jnp.finfo(squares.dtype)
    most = (float(info.max) * float(info.eps)) ** (2 / 3)
    return (squares >= jnp.asarray(terms, squares.dtype) * (1 / most)) & (squares <= most)


@jax.custom_jvp
def square(x: jax.Array) -> jax.Array:
    """x², with the derivative 0 where x is not finite. If such a square is not used, its cotangent is 0, which times
    infinity would be nan."""
    return x * x


@square.defjvp
def _square_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    return square(x), 2 * (jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x)) * dx)


def lengths(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The norms y over axes, which are kept, or of all arrays together for None; a factor k; and the norms r of k x.

    k is 1 if none of the norms needs a factor. This is the usual case, and takes one pass over the arrays; otherwise
    there are two more.
    """
    keep = axes is not None

    def total(squares):
        return functools.reduce(jnp.add, [jnp.sum(part, axes, keepdims=keep) for part in squares])

    def usual():
        r = root(squares)
        return r, jnp.ones_like(r), r

    def scaled():
        top = functools.reduce(jnp.maximum, [largest(x, axes, keep) for x in arrays])
        k = fitting(top)
        r = root(total([jnp.square(finite(x) * k) for x in arrays]))
        return jnp.where(top == jnp.inf, top, r * unit_factor(k)), k, r

    squares = total([square(x) for x in arrays])
    terms = sum(math.prod(x.shape[a] for a in (range(x.ndim) if axes is None else axes)) for x in arrays)
    return lax.cond(jnp.all(in_range(squares, terms)), usual, scaled)


def direction(x: jax.Array, k: jax.Array, r: jax.Array) -> jax.Array:
    """x divided by its norm r / k, and 0 where that is 0."""
    return finite(x) * k * inverse(r)
