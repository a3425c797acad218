"""Which of attention's probabilities dropout keeps: bits by counter, so that no block need know of another.

The bit of an entry depends on the seed and on the entry's place alone: the head, the query and the key. So the backward
pass draws the same ones again, in whichever blocks, and nothing of the size of all queries by all keys is ever held.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from dlfn.ops.support.sharding import like

__all__ = ["kept", "seed_of"]


def seed_of(key: Any) -> jax.Array | None:
    """Two words from a key of any kind; None for no key."""
    return None if key is None else jax.random.bits(key, (2,), jnp.uint32)


def kept(seed: jax.Array, keep_prob: float, scores: jax.Array, queries: int, first_query: Any, first_key: Any) -> Any:
    """Whether each entry of a block of scores, (..., queries, keys), is kept.

    Args:
        seed: two words.
        keep_prob: the probability.
        scores: the block, whose leading axes are all heads of all examples.
        queries: how many there are in all.
        first_query, first_key: the place of the block's first entry.
    """
    *lead, rows, columns = scores.shape
    heads = math.prod(lead)
    # A counter gives two words, which are those of two heads.
    pairs = (heads + 1) // 2
    row = jnp.asarray(first_query).astype(jnp.uint32) + jnp.arange(rows, dtype=jnp.uint32)
    column = jnp.asarray(first_key).astype(jnp.uint32) + jnp.arange(columns, dtype=jnp.uint32)
    of_pair = jnp.arange(pairs, dtype=jnp.uint32)[:, None] * jnp.uint32(queries) + row
    counters = jnp.broadcast_arrays(of_pair[..., None], column)
    words = threefry_2x32(seed, jnp.concatenate([counter.ravel() for counter in counters]))
    words = words.reshape(2 * pairs, rows, columns)[:heads].reshape(scores.shape)
    return like(words < jnp.uint32(min(round(keep_prob * 2**32), 2**32 - 1)), _boolean(scores))


def _boolean(scores: jax.Array) -> Any:
    """The type of the scores, but of booleans."""
    return jax.typeof(scores).update(dtype=jnp.dtype(bool))
