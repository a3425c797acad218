"""What XLA cannot tell from a formula: which terms of a sum are faster computed twice than written to memory, and
derivatives that are right even where XLA computes a number twice and rounds it differently.

The first was measured on a CPU, where XLA computes a sum together with those of its operands that nothing else uses.
The second matters on every device: the derivatives of jnp.maximum, jnp.minimum and jnp.max compare the operands with
the result, from which an operand that was computed again may differ in its last digit.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.ops.support.platforms import ByPlatform

__all__ = ["apart", "below_zero", "capped", "made_anew", "peak"]


def made_anew(*arrays: Any) -> Any:
    """Copies of the arrays, or of trees of them, that XLA treats as different arrays, so that it recomputes what
    depends on them.

    An array may be passed several times in one call, to get one copy for each of its uses. Two calls do not give two
    copies, as XLA finds out that they return the same.

    XLA on CPU computes the terms of a sum while it sums them, unless something else uses the terms too, in which case
    it writes them to memory first. Terms that take a few operations on arrays that are read anyway are faster to
    compute twice. Elsewhere the arrays are returned as they are.
    """
    return _MADE_ANEW(arrays)


_MADE_ANEW = ByPlatform(lax.optimization_barrier, accelerator=lambda arrays: arrays)


@jax.custom_jvp
def below_zero(x: jax.Array) -> jax.Array:
    """min(x, 0), with a derivative of 0 at 0, for sums.

    XLA on CPU computes a minimum, and what depends on it, while it sums, whereas it writes the result of a select to
    memory first. It would also write the 0 to memory, as a whole array, if other operations used the same 0, which the
    barrier prevents.
    """
    return jnp.minimum(x, *made_anew(jnp.zeros((), x.dtype)))


@below_zero.defjvp
def _below_zero_jvp(primals: Any, tangents: Any) -> Any:
    # Not the derivative of jnp.minimum, which compares x with the result: x may have been computed again, with another
    # last digit.
    (x,), (dx,) = primals, tangents
    return below_zero(x), jnp.where(x < 0, dx, jnp.zeros_like(dx))


def capped(x: jax.Array) -> jax.Array:
    """x with the largest number in place of +inf, as inf - inf would be nan. It is a clamp because the derivative of
    that compares x with the bounds, not with the result."""
    return lax.clamp(x.dtype.type(-jnp.inf), x, jnp.finfo(x.dtype).max)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def peak(x: jax.Array, axis: int) -> jax.Array:
    """The largest entry along an axis, for results that do not depend on which number is subtracted from the entries.

    As for jnp.max, the derivative is the mean of the derivatives of those entries that equal the result. There may be
    none, because x may have been computed again with another last digit: then it is 0, whereas that of jnp.max is nan.
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
    """x - m, where m is the peak of x along an axis, which m keeps, and ``largest`` is where x has its largest entries.

    For a single largest entry, the difference and its derivative are 0. If the derivative were left to be the
    difference of two, small numbers that reverse mode adds to both of them would lose their digits.
    """
    return x - m


@apart.defjvp
def _apart_jvp(axis: int, primals: Any, tangents: Any) -> Any:
    x, m, largest = primals
    dx, dm, _ = tangents
    single = largest & (jnp.sum(largest, axis, keepdims=True) == 1)
    return apart(x, m, largest, axis), jnp.where(single, jnp.zeros_like(dx), dx - dm)
