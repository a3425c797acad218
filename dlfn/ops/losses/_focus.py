"""What the binary focal loss and that of several classes share."""

import math
from typing import Any

import jax

from dlfn.core import InputError

__all__ = ["power", "require_focus"]


def require_focus(op: str, gamma: Any) -> None:
    if not (isinstance(gamma, int | float) and 0 <= gamma < math.inf):
        raise InputError(f"{op}: gamma is {gamma!r}, and must be a number that is 0 or more")


def power(x: jax.Array, exponent: float) -> jax.Array:
    """x**exponent, by multiplications where the exponent is whole."""
    return x ** (int(exponent) if float(exponent).is_integer() else exponent)
