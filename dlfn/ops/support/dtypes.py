"""The dtypes to compute and to accumulate in, and how to keep a dtype among residuals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["Static", "dot", "sum_dtype", "upcast"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """A hashable value, such as the arguments' dtypes, among the residuals."""

    value: Any


def upcast(*arrays: jax.Array) -> Any:
    """The arrays in their common dtype, but in float32 where that is a half type."""
    dtype = jnp.result_type(*arrays)
    if dtype.itemsize < 4:
        dtype = jnp.dtype(jnp.float32)
    cast = tuple(array.astype(dtype) for array in arrays)
    return cast[0] if len(arrays) == 1 else cast


def sum_dtype(dtype: Any) -> Any:
    """The dtype that sums of numbers of this dtype are accumulated in."""
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def dot(a: jax.Array, b: jax.Array, contracting: Any, precision: Any, out_sharding: Any = None) -> jax.Array:
    """The product of a and b, summed over the axes ``contracting`` of both, accumulated and returned in
    :func:`sum_dtype`."""
    return lax.dot_general(
        a,
        b,
        (contracting, ((), ())),
        precision=precision,
        preferred_element_type=sum_dtype(a.dtype),
        out_sharding=out_sharding,
    )
