"""What the binary focal loss and that of several classes share."""

import math
from typing import Any

import jax

from dlfn.ops.support.arguments import require_number

__all__ = ["power", "require_focus"]


def require_focus(op: str, gamma: Any) -> None:
    require_number(op, "gamma", gamma, "a number that is 0 or more", lambda number: 0 <= number < math.inf)


def power(x: jax.Array, exponent: float) -> jax.Array:
    """x**exponent, by multiplications where the exponent is whole."""
    return x ** (int(exponent) if float(exponent).is_integer() else exponent)
