r"""Rows of a table by their numbers."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float
from dlfn.ops.support.dtypes import Static, sum_dtype
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import is_explicit, like

__all__ = ["embedding"]


@Op
def embedding(
    ids: Integer[ArrayLike, "*batch"], table: Float[ArrayLike, "rows features"]
) -> Float[Array, "*batch features"]:
    r"""The rows of a table with the given numbers, :math:`y_n = W_{i_n}`.

    The cotangent of a row is the sum of the cotangents of all places that it was copied to,

    .. math:: \frac{\partial L}{\partial W_k} = \sum_{n :\, i_n = k} \bar y_n,

    taken in float32 for half types: a running bfloat16 sum of ones stops at 256, and a batch has frequent words far
    more often than that. Where the table is also the weights of the output head (Press & Wolf 2017, *Using the Output
    Embedding to Improve Language Models*), :func:`~dlfn.ops.linear_cross_entropy` is the loss.

    Args:
        ids: (...), integers from 0 to rows - 1. Any other id, a negative one too, gives a row of nan, so that the
            mistake shows in the loss, under jit as well. The cotangent of such a row is dropped.
        table: (rows, features).

    Returns:
        (..., features), in the dtype of the table.

    Raises:
        InputError: on ids that are not integers, and a table that is not a floating-point matrix.

    Source: Bengio, Ducharme, Vincent & Jauvin 2003, *A Neural Probabilistic Language Model*.

    >>> import jax, jax.numpy as jnp
    >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> embedding(jnp.array([1, 0, 1]), table)
    Array([[3., 4.],
           [1., 2.],
           [3., 4.]], dtype=float32)
    >>> ids, halves = jnp.zeros(8192, int), table.astype(jnp.bfloat16)
    >>> print(jax.grad(lambda table: embedding(ids, table).sum())(halves)[0])
    [8192 8192]
    """
    ids, table = jnp.asarray(ids), jnp.asarray(table)
    wrong = (ids < 0) | (ids >= table.shape[0])
    return jnp.where(wrong[..., None], jnp.nan, table[jnp.where(wrong, 0, ids)])


@embedding.def_forward
def _embedding_forward(ids, table):
    sharding = None
    if is_explicit(ids, table):
        rows, features = jax.typeof(ids).sharding, jax.typeof(table).sharding.spec[1]
        sharding = NamedSharding(rows.mesh, PartitionSpec(*rows.spec, features))
    y = table.at[_unsigned(ids)].get(mode="fill", fill_value=jnp.nan, out_sharding=sharding)
    return y, (ids, Static(jax.typeof(table)))


@embedding.def_backward
def _embedding_backward(residuals, dy):
    ids, static = residuals
    kind = static.value
    zeros = jnp.zeros(kind.shape, sum_dtype(dy.dtype))
    sharding = kind.sharding if is_explicit(dy) else None
    dtable = zeros.at[_unsigned(ids)].add(dy.astype(zeros.dtype), mode="drop", out_sharding=sharding)
    return None, like(dtable, kind)


@embedding.def_check
def _embedding_check(ids, table):
    if not isinstance(ids, jax.Array) or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise InputError(f"embedding: ids is {describe(ids)}, and must be an array of integers; pass ids first")
    require_float("embedding", "table", table)
    if table.ndim != 2 or table.shape[0] == 0:
        raise InputError(f"embedding: table is {describe(table)}, and must be (rows, features) with at least one row")


def _unsigned(ids):
    """The ids as unsigned integers: JAX would count a negative id from the end, and this makes it one past the end."""
    return ids.astype(jnp.uint64 if ids.dtype.itemsize == 8 else jnp.uint32)
