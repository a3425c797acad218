"""Sequences that are padded to one number of steps, and how many steps of each count."""

import jax
import jax.numpy as jnp

__all__ = ["wide", "within"]


def wide(lengths: jax.Array) -> jax.Array:
    """The lengths in a dtype that can hold any number of steps."""
    return lengths if lengths.dtype.itemsize >= 4 else lengths.astype(jnp.int32)


def within(lengths: jax.Array, steps: int) -> jax.Array:
    """Which of the steps are within each length, (..., steps)."""
    lengths = wide(lengths)[..., None]
    return jnp.arange(steps, dtype=lengths.dtype).reshape(*[1] * (lengths.ndim - 1), steps) < lengths
