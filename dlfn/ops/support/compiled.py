"""What a formula does not tell XLA: which terms of a sum to make twice rather than to write, and derivatives that hold
where it makes numbers twice and rounds them differently.

The first was measured on a CPU, where a sum is made together with those operands that nothing else uses. The second
holds anywhere: the derivatives of jnp.maximum, jnp.minimum and jnp.max compare the operands with the result.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["apart", "below_zero", "capped", "made_anew", "peak"]


def made_anew(*arrays: Any) -> Any:
    """The arrays, or trees of them, as ones that XLA takes for others: what is made of them is made anew. One may be
    passed several times, for several uses; but XLA finds out that two calls return the same.

    XLA on CPU makes the terms of a sum as it sums them, unless something else uses them too: then it writes them to
    memory. Terms that are a few operations on what is read anyway are faster made twice.
    """
    return lax.optimization_barrier(arrays)


@jax.custom_jvp
def below_zero(x: jax.Array) -> jax.Array:
    """min(x, 0), with a derivative of 0 at 0, for sums.

    XLA on CPU sums what is made of it as it goes; what a select makes it writes to memory first. It would write the 0
    as an array, too, if other operations used the same one: hence the barrier.
    """
    return jnp.minimum(x, lax.optimization_barrier(jnp.zeros((), x.dtype)))


@below_zero.defjvp
def _below_zero_jvp(primals: Any, tangents: Any) -> Any:
    # Not that of minimum, which compares x with the result: x may be made again with another last digit.
    (x,), (dx,) = primals, tangents
    return below_zero(x), jnp.where(x < 0, dx, jnp.zeros_like(dx))


def capped(x: jax.Array) -> jax.Array:
    """x with the largest number in place of +inf, as inf - inf would be nan. The derivative of a clamp compares x with
    the bounds, not with the result."""
    return lax.clamp(x.dtype.type(-jnp.inf), x, jnp.finfo(x.dtype).max)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def peak(x: jax.Array, axis: int) -> jax.Array:
    """The largest entry along an axis, for results that do not depend on which number is taken out of the entries.

    Its derivative is the mean of those of the entries that are found to be the largest, as that of jnp.max, which is
    nan if none is: x may be made again with another last digit.
    """
    return jnp.max(x, axis)


@peak.defjvp
def _peak_jvp(axis: int, primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    m = peak(x, axis)
    at = x == jnp.expand_dims(m, axis)
    found = jnp.maximum(jnp.sum(at, axis), 1).astype(x.dtype)
    return m, jnp.sum(jnp.where(at, dx, jnp.zeros_like(dx)), axis) / found


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def apart(x: jax.Array, m: jax.Array, largest: jax.Array, axis: int) -> jax.Array:
    """x - m, for the peak m of x along an axis, kept as an axis, and which entries are the largest.

    A single largest entry does not move from the peak. Left to the difference of two derivatives, that would cost the
    digits of the small ones that are added to them in reverse mode.
    """
    return x - m


@apart.defjvp
def _apart_jvp(axis: int, primals: Any, tangents: Any) -> Any:
    x, m, largest = primals
    dx, dm, _ = tangents
    single = largest & (jnp.sum(largest, axis, keepdims=True) == 1)
    return apart(x, m, largest, axis), jnp.where(single, jnp.zeros_like(dx), dx - dm)
