"""The keys and values of the last times, as attention with a cache keeps them in its state.

They stand in a ring: time t is at the place t mod n of a ring of n places, so that a new one takes the place of the one
that leaves the window, and nothing else moves.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["empty", "with_past"]


def empty(shape: tuple[int, ...], dtype: Any, *, masked: bool = False) -> dict[str, jax.Array]:
    """The state before the first time, for keys and values of ``shape``, (..., n, heads, dim); ``masked`` with room for
    which of them are seen."""
    state = {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype), "length": jnp.zeros((), jnp.int32)}
    return {**state, "seen": jnp.zeros((*shape[:-2], 1, 1), bool)} if masked else state


def with_past(state: Any, **new: Any) -> tuple[dict[str, Any], Any, Any]:
    """What the next times see: ``(past, positions, state)``, of which ``past`` has k, v and all else that is in the
    state and in ``new``, and ``positions`` are the times that the keys are of.

    They are negative at places that are still empty. Every next time sees as far back as the ring has places, itself
    included, which is for the caller to mask.
    """
    length, size, more = state["length"], state["k"].shape[-3], new["k"].shape[-3]
    new = {name: x.astype(state[name].dtype) for name, x in new.items()}
    after = {name: _written(state[name], x, length) for name, x in new.items()}
    if more == 1:  # sees the ring as it is then
        return after, _times(length + 1, size), {**after, "length": length + more}
    # The first of several times still see what the last of them take the place of.
    past = {name: jnp.concatenate([state[name], x], axis=-3) for name, x in new.items()}
    return past, jnp.concatenate([_times(length, size), length + jnp.arange(more)]), {**after, "length": length + more}


def _written(ring: Any, new: Any, length: Any) -> Any:
    more, size = new.shape[-3], ring.shape[-3]
    kept = min(more, size)
    places = (length + more - kept + jnp.arange(kept)) % size
    return ring.at[..., places, :, :].set(new[..., more - kept :, :, :], unique_indices=True)


def _times(length: Any, size: int) -> Any:
    """The time at each place of a ring that has seen ``length`` of them."""
    return length - 1 - (length - 1 - jnp.arange(size)) % size
