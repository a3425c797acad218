"""Quotients and logarithms of probabilities, with their limits where something is 0."""

from typing import Any

import jax.numpy as jnp

__all__ = ["log_ratio", "ratio", "x_log_y"]


def x_log_y(x, y, known: Any = True):
    """x log y, and 0 where x is 0 and y is ``known``."""
    return x * jnp.log(jnp.where((x == 0) & known, jnp.ones_like(y), y))


def ratio(p, q, of_nothing=0.0):
    """p / q, but ``of_nothing`` where both are 0."""
    both = (p == 0) & (q == 0)
    quotient = p / jnp.where(both, jnp.ones_like(q), q)
    return jnp.where(both, jnp.full_like(quotient, of_nothing), quotient) if of_nothing else quotient


def log_ratio(p, q):
    """log(p / q), from the difference of p and q, which is exact where they are near. 0 where both are 0."""
    both = (p == 0) & (q == 0)
    more = p >= q
    # Not jnp.maximum and jnp.minimum, whose derivatives are halved at a tie.
    high, low = jnp.where(more, p, q), jnp.where(both, jnp.ones_like(p), jnp.where(more, q, p))
    size = jnp.log1p(jnp.where(both, jnp.zeros_like(p), high - low) / low)
    return jnp.where(more, size, -size)
