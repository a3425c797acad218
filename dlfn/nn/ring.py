"""The keys and values of the last times, as attention with a cache keeps them in its state.

They stand in a ring: time t is at the place t mod n of a ring of n places, so that a new one takes the place of the one
that leaves the window, and nothing else moves.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["empty", "with_past"]


def empty(shape: tuple[int, ...], dtype: Any) -> dict[str, jax.Array]:
    """The state before the first time, for keys and values of ``shape``, (..., n, heads, dim)."""
    return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype), "length": jnp.zeros((), jnp.int32)}


def with_past(state: Any, k: Any, v: Any) -> tuple[Any, Any, Any, Any]:
    """What the next times see: ``(k, v, positions, state)``, of which ``positions`` are the times that the keys are of.

    They are negative at places that are still empty. Every next time sees as far back as the ring has places, itself
    included, which is for the caller to mask.
    """
    length, size, more = state["length"], state["k"].shape[-3], k.shape[-3]
    k, v = k.astype(state["k"].dtype), v.astype(state["v"].dtype)
    after = {"k": _written(state["k"], k, length), "v": _written(state["v"], v, length), "length": length + more}
    if more == 1:  # sees the ring as it is then
        return after["k"], after["v"], _times(length + 1, size), after
    # The first of several times still see what the last of them take the place of.
    k, v = jnp.concatenate([state["k"], k], axis=-3), jnp.concatenate([state["v"], v], axis=-3)
    return k, v, jnp.concatenate([_times(length, size), length + jnp.arange(more)]), after


def _written(ring: Any, new: Any, length: Any) -> Any:
    more, size = new.shape[-3], ring.shape[-3]
    kept = min(more, size)
    places = (length + more - kept + jnp.arange(kept)) % size
    return ring.at[..., places, :, :].set(new[..., more - kept :, :, :], unique_indices=True)


def _times(length: Any, size: int) -> Any:
    """The time at each place of a ring that has seen ``length`` of them."""
    return length - 1 - (length - 1 - jnp.arange(size)) % size
