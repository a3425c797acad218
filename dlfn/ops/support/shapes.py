"""Reshaping of cotangents to the shapes of their arguments, and of arrays to rows."""

import math
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["as_rows", "in_shape_of"]


def as_rows(x: jax.Array) -> jax.Array:
    """x with all axes but the last merged into one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def in_shape_of(array: jax.Array, shape: tuple[Any, ...]) -> jax.Array:
    """The array in this shape: summed over the axes that broadcasting from it has added or stretched."""
    extra = array.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, size in enumerate(shape) if size == 1 and array.shape[i + extra] != 1))
    return jnp.sum(array, axis=axes).reshape(shape) if axes else array
