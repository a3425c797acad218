"""From the losses of examples to their mean or sum, and back."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from dlfn.core import InputError

__all__ = ["Reduction", "check_reduction", "reduce", "weight_of_each"]

Reduction = Literal["mean", "sum", "none"]


def check_reduction(op: str, reduction: Any, shape: tuple[Any, ...]) -> None:
    """Checks that there is such a reduction, and that it is no mean over nothing; ``shape`` is that of the losses."""
    if reduction not in ("mean", "sum", "none"):
        raise InputError(f"{op}: reduction is {reduction!r}, and must be 'mean', 'sum' or 'none'")
    if reduction == "mean" and any(size == 0 for size in shape):
        raise InputError(
            f"{op}: the mean over losses of shape {list(shape)} is 0/0; pass reduction='sum', or skip empty batches"
        )


def reduce(losses: jax.Array, reduction: str) -> jax.Array:
    if reduction == "none":
        return losses
    return jnp.mean(losses) if reduction == "mean" else jnp.sum(losses)


def weight_of_each(dy: jax.Array, reduction: str, shape: tuple[Any, ...], dtype: Any) -> jax.Array:
    """The cotangent of :func:`reduce`'s argument, in a shape that broadcasts to its own."""
    dy = dy.astype(dtype)
    return dy / jnp.asarray(math.prod(shape), dtype) if reduction == "mean" else dy
