"""What the functions of distributions share: the unit, and checks of their arguments."""

import math

from dlfn.core import InputError
from dlfn.ops.support.arguments import (
    axes_of,
    describe,
    require_axes,
    require_distribution,
    require_float,
    require_number,
    require_rank,
    require_same_shape,
)

__all__ = ["check_arguments", "check_distributions", "per_nat"]


def per_nat(base):
    """How many units of the logarithm to this base a nat is."""
    return 1.0 if base is None else 1 / math.log(base)


def check_distributions(op, distributions, axis, base, whole=True):
    """Checks arrays, by name, of probabilities along ``axis``. ``whole``: whether each must sum to 1."""
    check_arguments(op, distributions, axis, base)
    for name, p in distributions.items():
        require_distribution(op, name, p, axes_of(axis, p.ndim) if whole else None)


def check_arguments(op, arguments, axis, base):
    """Checks arrays, by name, that have outcomes along ``axis``, and the base of the logarithm."""
    for name, array in arguments.items():
        require_float(op, name, array)
        require_rank(op, name, array, "an axis of outcomes")
    (name, first), *others = arguments.items()
    for other_name, other in others:
        require_same_shape(op, name, first, other_name, other)
    require_axes(op, first, axis)
    if any(isinstance(size, int) and size == 0 for size in (first.shape[a] for a in axes_of(axis, first.ndim))):
        raise InputError(f"{op}: {name} is {describe(first)}, and has no outcomes along axis {axis}")
    if base is not None:
        require_number(op, "base", base, "a number above 1, or None for nats", lambda number: 1 < number < math.inf)
