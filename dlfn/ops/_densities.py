"""What the log-densities share: arguments that broadcast, and what lies outside of a domain."""

import math

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops._common import describe, holds, in_shape_of, like

__all__ = [
    "HALF_LOG_2_PI",
    "cotangent",
    "is_whole",
    "or_nan",
    "require_broadcast",
    "require_counts",
    "require_values",
]

HALF_LOG_2_PI = math.log(2 * math.pi) / 2


def require_broadcast(op, **arrays):
    try:
        jnp.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shown = [f"{name} is {describe(array)}" for name, array in arrays.items()]
        raise InputError(
            f"{op}: {', '.join(shown[:-1])} and {shown[-1]}, and their shapes must broadcast; "
            "give what has fewer axes the missing ones by x[..., None]"
        ) from None


def require_values(op, name, x, condition, must_be):
    """``condition`` must hold for every entry, where their values are known."""
    good = condition(jax.lax.stop_gradient(x))
    if not holds(good):
        bad = x.ravel()[jnp.argmin(good)]
        raise InputError(f"{op}: {name} has the entry {float(bad):.6g}, and must be {must_be}")


def require_counts(op, name, x):
    """Integers, or floating point whose values, where they are known, are whole."""
    if not isinstance(x, jax.Array):
        raise InputError(f"{op}: {name} is {describe(x)}, and must be an array of whole numbers")
    require_values(op, name, x, is_whole, "a whole number")


def is_whole(x):
    return x == (jnp.floor(x) if jnp.issubdtype(x.dtype, jnp.floating) else x)


def or_nan(x, valid):
    """x where there is such a distribution, nan where the parameter has none."""
    return jnp.where(valid, x, jnp.full_like(x, jnp.nan))


def cotangent(dx, x):
    """dx, whose shape is that of the densities, as the cotangent of x, which was broadcast to it."""
    return like(in_shape_of(dx, x.shape), jax.typeof(x))
