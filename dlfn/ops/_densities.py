"""What the log-densities share: arguments that broadcast, and what lies outside of a domain."""

import math

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops._common import describe, holds, in_shape_of, like, require_float, upcast

__all__ = [
    "HALF_LOG_2_PI",
    "cotangent",
    "is_whole",
    "or_nan",
    "or_one",
    "require_broadcast",
    "require_chances",
    "require_counts",
    "require_ends",
    "require_expected",
    "require_positive",
    "require_trials",
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


def _require_values(op, name, x, condition, must_be):
    """``condition`` must hold for every entry, where their values are known."""
    x = _constant(x)
    good = condition(x)
    if not holds(good):
        bad = x.ravel()[jnp.argmin(good)]
        raise InputError(f"{op}: {name} has the entry {float(bad):.6g}, and must be {must_be}")


def require_counts(op, name, x):
    """Integers, or floating point whose values, where they are known, are whole."""
    if not isinstance(x, jax.Array):
        raise InputError(f"{op}: {name} is {describe(x)}, and must be an array of whole numbers")
    _require_values(op, name, x, is_whole, "a whole number")


def require_trials(op, trials):
    require_counts(op, "trials", trials)
    _require_values(op, "trials", trials, lambda n: n >= 0, "0 or more")


def require_chances(op, probs, logits):
    if (probs is None) == (logits is None):
        raise InputError(f"{op}: give either probs or logits, got {'neither' if probs is None else 'both'}")
    if probs is None:
        require_float(op, "logits", logits)
        return
    require_float(op, "probs", probs)
    must_be = "in [0, 1], as probs are probabilities; pass log-odds as logits="
    _require_values(op, "probs", probs, lambda p: (p >= 0) & (p <= 1), must_be)


def require_expected(op, rate):
    require_float(op, "rate", rate)
    _require_values(op, "rate", rate, lambda r: (r >= 0) & (r < jnp.inf), "finite and 0 or more")


def require_positive(op, name, x):
    require_float(op, name, x)
    _require_values(op, name, x, lambda x: x > 0, "positive")


def require_ends(op, low, high):
    require_float(op, "low", low)
    require_float(op, "high", high)
    require_broadcast(op, low=low, high=high)
    width = upcast(_constant(high)) - upcast(_constant(low))
    if not holds(width < jnp.inf):
        raise InputError(f"{op}: high is {_shown(high)} and low is {_shown(low)}, and their distance must be finite")
    if not holds(width > 0):
        raise InputError(
            f"{op}: high is {_shown(high)} and low is {_shown(low)}, and every high must be greater than its low; "
            "exchange them if that is what you mean"
        )


def _constant(x):
    """The value of what is being differentiated, which Python numbers may be too."""
    return jnp.asarray(jax.lax.stop_gradient(x))


def _shown(x):
    return f"{float(_constant(x)):.6g}" if x.ndim == 0 else describe(x)


def is_whole(x):
    return x == (jnp.floor(x) if jnp.issubdtype(x.dtype, jnp.floating) else x)


def or_nan(x, valid):
    """x where there is such a distribution, nan where the parameter has none."""
    return jnp.where(valid, x, jnp.full_like(x, jnp.nan))


def or_one(x):
    """x where it is not 0, where another formula is taken."""
    return jnp.where(x == 0, jnp.ones_like(x), x)


def cotangent(dx, x):
    """dx, whose shape is that of the densities, as the cotangent of x, which was broadcast to it."""
    return like(in_shape_of(dx, x.shape), jax.typeof(x))
