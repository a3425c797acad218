"""For ops of arrays whose types include their sharding."""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from dlfn.ops.support.dtypes import upcast

__all__ = ["is_explicit", "like", "sharded_along", "upcast_alike"]


def upcast_alike(x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """:func:`upcast`, for two arrays of one shape that are to have one sharding too: that of x."""
    x, other = upcast(x, other)
    return x, like(other, jax.typeof(x))


def like(x: jax.Array, kind: Any) -> jax.Array:
    """x in the dtype and, where types include it, the sharding of the type ``kind``, such as that of an argument."""
    x = x.astype(kind.dtype)
    if is_explicit(x) and not kind.sharding.mesh.empty and jax.typeof(x).sharding != kind.sharding:
        return jax.sharding.reshard(x, kind.sharding)
    return x


def sharded_along(ids: jax.Array, x: jax.Array, axes: int) -> jax.Array:
    """ids with the sharding of x along their first ``axes`` axes, which both share, where types include shardings."""
    if not is_explicit(x):
        return ids
    kind = jax.typeof(x).sharding
    spec = (*kind.spec[:axes], *[None] * (ids.ndim - axes))
    return jax.sharding.reshard(ids, NamedSharding(kind.mesh, PartitionSpec(*spec)))


def is_explicit(*arrays: jax.Array) -> bool:
    """Whether sharding is part of the arrays' types, so that reshaping and indexing sharded axes may be refused."""
    kinds = [kind for array in arrays for kind in jax.typeof(array).sharding.mesh.axis_types]
    return jax.sharding.AxisType.Explicit in kinds
