r"""The layout of what attention computes.

Queries are (..., kv_heads, group, queries, dim), keys and values (..., kv_heads, keys, dim), and scores, bias and mask
(..., kv_heads, group, queries, keys), where a group is the query heads of one key head.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "by_group", "common_dtype", "first_keys", "grown", "join_heads", "put_rows", "rows_of", "scale_of", "split_heads",
    "swapped", "where_seen",
]  # fmt: skip


def common_dtype(q, k, v, bias):
    dtype = jnp.result_type(q, k, v)
    if bias is None:
        return dtype
    # The bias may be wider than the others on purpose, as ALiBi's is, whose distances a half type would round.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(dtype, bias)


def scale_of(scale, q, dtype):
    return dtype.type(1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def where_seen(seen, x):
    """x, with 0 where it is not seen."""
    return jnp.where(seen, x, jnp.zeros_like(x))


def split_heads(x, kv_heads):
    *lead, rows, heads, dim = x.shape
    return jnp.moveaxis(x.reshape(*lead, rows, kv_heads, heads // kv_heads, dim), -4, -2)


def join_heads(x):
    x = jnp.moveaxis(x, -2, -4)
    return x.reshape(*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1])


def swapped(x):
    """(..., keys, kv_heads, dim) to and from (..., kv_heads, keys, dim)."""
    return jnp.swapaxes(x, -3, -2)


def by_group(x, kv_heads):
    """A bias or mask with its axis of heads split into kv_heads and group."""
    *lead, heads, queries, keys = (*(1,) * (3 - x.ndim), *x.shape)
    split = (1, 1) if heads == 1 else (kv_heads, heads // kv_heads)
    return x.reshape(*lead, *split, queries, keys)


def rows_of(x, start, rows):
    """``rows`` rows from ``start`` on, of queries or of what broadcasts to the scores."""
    return x if x.shape[-2] == 1 else lax.dynamic_slice_in_dim(x, start, rows, axis=-2)


def put_rows(x, rows, start):
    return rows if rows.shape == x.shape else lax.dynamic_update_slice_in_dim(x, rows, start, axis=-2)


def first_keys(x, keys) -> Any:
    """The first ``keys`` columns of what broadcasts to the scores; None for None."""
    return x if x is None or x.shape[-1] == 1 else x[..., :keys]


def grown(x, keys, axis):
    """x with zeros after its last key, for ``keys`` in all."""
    more = [(0, 0, 0)] * x.ndim
    more[axis] = (0, keys - x.shape[axis], 0)
    return lax.pad(x, x.dtype.type(0), more)
