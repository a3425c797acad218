"""What the log-densities share: checks of their arguments, nan outside of a domain, and the cotangents of arguments
that were broadcast."""

import math

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_broadcast, require_float, require_values
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = [
    "HALF_LOG_2_PI",
    "cotangent",
    "is_whole",
    "or_nan",
    "require_chances",
    "require_counts",
    "require_ends",
    "require_expected",
    "require_trials",
]

HALF_LOG_2_PI = math.log(2 * math.pi) / 2


def require_counts(op, name, x):
    """Integers, or floating point whose values, where they are known, are whole."""
    if not isinstance(x, jax.Array):
        raise InputError(f"{op}: {name} is {describe(x)}, and must be an array of whole numbers")
    require_values(op, name, x, is_whole(x), "a whole number")


def require_trials(op, trials):
    require_counts(op, "trials", trials)
    require_values(op, "trials", trials, trials >= 0, "0 or more")


def require_chances(op, probs, logits):
    if (probs is None) == (logits is None):
        raise InputError(f"{op}: give either probs or logits, got {'neither' if probs is None else 'both'}")
    if probs is None:
        require_float(op, "logits", logits)
        return
    require_float(op, "probs", probs)
    must_be = "in [0, 1], as probs are probabilities; pass log-odds as logits="
    require_values(op, "probs", probs, (probs >= 0) & (probs <= 1), must_be)


def require_expected(op, rate):
    require_float(op, "rate", rate)
    require_values(op, "rate", rate, (rate >= 0) & (rate < jnp.inf), "finite and 0 or more")


def require_ends(op, low, high):
    require_float(op, "low", low)
    require_float(op, "high", high)
    require_broadcast(op, low=low, high=high)
    width = upcast(high) - upcast(low)
    positive = (width > 0) & (width < jnp.inf)
    require_values(op, "high - low", width, positive, "positive and finite; exchange them if that is what you mean")


def is_whole(x):
    """Which entries are whole numbers; infinities count as such, nan does not."""
    return x == (jnp.floor(x) if jnp.issubdtype(x.dtype, jnp.floating) else x)


def or_nan(x, valid):
    """x where there is such a distribution, and nan where the parameter belongs to none."""
    return jnp.where(valid, x, jnp.full_like(x, jnp.nan))


def cotangent(dx, x):
    """dx, whose shape is that of the densities, as the cotangent of x, which was broadcast to it."""
    return like(in_shape_of(dx, x.shape), jax.typeof(x))
