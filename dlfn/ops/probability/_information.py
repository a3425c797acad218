"""What the functions of distributions share: the unit, logarithms with their limits, checks."""

import math
from typing import Any

import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.support.arguments import (
    axes_of,
    describe,
    require_axes,
    require_distribution,
    require_float,
    require_rank,
    require_same_shape,
)

__all__ = ["check_arguments", "check_distributions", "log_ratio", "per_nat", "ratio", "x_log_y"]


def per_nat(base):
    return 1.0 if base is None else 1 / math.log(base)


def x_log_y(x, y, known: Any = True):
    """x log y, and 0 where x is 0 and y is ``known``."""
    return x * jnp.log(jnp.where((x == 0) & known, jnp.ones_like(y), y))


def ratio(p, q, of_nothing=0.0):
    """p / q, and ``of_nothing`` where both are 0."""
    both = (p == 0) & (q == 0)
    quotient = p / jnp.where(both, jnp.ones_like(q), q)
    return jnp.where(both, jnp.full_like(quotient, of_nothing), quotient) if of_nothing else quotient


def log_ratio(p, q):
    """log(p / q), from the difference of p and q, which is exact where they are near. 0 where both are 0."""
    both = (p == 0) & (q == 0)
    more = p >= q
    # Selected: the derivatives of maximum and minimum are halved at a tie.
    high, low = jnp.where(more, p, q), jnp.where(both, jnp.ones_like(p), jnp.where(more, q, p))
    size = jnp.log1p(jnp.where(both, jnp.zeros_like(p), high - low) / low)
    return jnp.where(more, size, -size)


def check_distributions(op, distributions, axis, base, whole=True):
    """``whole``: whether each must sum to 1."""
    check_arguments(op, distributions, axis, base)
    for name, p in distributions.items():
        require_distribution(op, name, p, axes_of(axis, p.ndim) if whole else None)


def check_arguments(op, arguments, axis, base):
    for name, array in arguments.items():
        require_float(op, name, array)
        require_rank(op, name, array, "an axis of outcomes")
    (name, first), *others = arguments.items()
    for other_name, other in others:
        require_same_shape(op, name, first, other_name, other)
    require_axes(op, first, axis)
    if any(isinstance(size, int) and size == 0 for size in (first.shape[a] for a in axes_of(axis, first.ndim))):
        raise InputError(f"{op}: {name} is {describe(first)}, and has no outcomes along axis {axis}")
    if base is not None and not (isinstance(base, int | float) and 1 < base < math.inf):
        raise InputError(f"{op}: base is {base!r}, and must be a number above 1, or None for nats")
