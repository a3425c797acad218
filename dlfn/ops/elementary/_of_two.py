"""Makes an Op from a function of two arrays that broadcast against each other, and its two derivatives."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.ops.support.arguments import require_broadcast, require_float
from dlfn.ops.support.dtypes import Static, sum_dtype
from dlfn.ops.support.lengths import wide
from dlfn.ops.support.op import Op, P, R
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = ["of_two"]


def of_two(
    value: Callable[..., Any], slopes: Callable[..., Any], *, integer: bool = False, of_value: bool = False
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """A decorator that makes an Op of a definition f(a, b), given functions for f and its two partial derivatives.

    Args:
        value: computes f from a and b in float32 or float64.
        slopes: computes both derivatives from the same a and b.
        integer: whether b may be an integer array, which has no cotangent.
        of_value: whether ``slopes`` takes the value of f as a third argument.
    """
    # The formulas may mix an integer b with floats whatever jax_numpy_dtype_promotion says. Two arrays of floats of
    # different dtypes, which that setting is to find, are cast to their common dtype outside of the formulas.
    mixing = jax.numpy_dtype_promotion("standard") if integer else lambda formula: formula
    value, slopes = mixing(value), mixing(slopes)

    def decorate(definition: Callable[P, R]) -> Op[P, R]:
        op = definition.__name__
        names = tuple(inspect.signature(definition).parameters)

        def check(a, b):
            require_float(op, names[0], a)
            if not (integer and jnp.issubdtype(b.dtype, jnp.integer)):
                require_float(op, names[1], b)
            require_broadcast(op, **dict(zip(names, (a, b))))

        def widened(a, b):
            """Both in dtypes that the formulas may compute in, and of one rank, so that they need no promotion."""
            dtype = sum_dtype(_common_dtype(a, b))
            b = wide(b) if jnp.issubdtype(b.dtype, jnp.integer) else b.astype(dtype)
            rank = max(a.ndim, b.ndim)
            return tuple(jnp.expand_dims(x, range(rank - x.ndim)) for x in (a.astype(dtype), b))

        def forward(a, b):
            y = value(*widened(a, b)).astype(_common_dtype(a, b))
            # A value rounded to a half type would add its rounding error to those of the derivatives.
            kept = [y] * (of_value and y.dtype.itemsize >= 4)
            return y, (a, b, kept, Static((jax.typeof(a), jax.typeof(b))))

        def backward(residuals, dy):
            a, b, kept, kinds = residuals
            wide = widened(a, b)
            dy = dy.astype(wide[0].dtype)
            if of_value:
                wide = *wide, kept[0] if kept else value(*wide)
            parts = zip(slopes(*wide), kinds.value)
            return tuple(
                None if slope is None else like(in_shape_of(dy * slope, kind.shape), kind) for slope, kind in parts
            )

        return Op(mixing(definition), forward, backward, check=check)

    return decorate


def _common_dtype(a, b):
    return a.dtype if jnp.issubdtype(b.dtype, jnp.integer) else jnp.result_type(a, b)
