"""Meshes: values that many devices hold, and collectives between them.

A cotangent has the sharding of its value. Where a value is copied to many devices their cotangents are summed, and
where values are summed the cotangent is copied to all; where numbers move between devices their cotangents move back.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core.rules.table import rule

rule("sharding_constraint", "reshard", "layout_constraint")(
    lambda g, y, x, **_: jax.sharding.reshard(g, jax.typeof(x).sharding)
)
rule("pvary")(lambda g, y, x, *, axes, **_: lax.psum(g, axes))
rule("psum_invariant")(lambda g, y, x, *, axes, **_: lax.pcast(g, axes, to="varying"))


@rule("psum")
def _psum(g, y, x, *, axes, axis_index_groups):
    """Types do not say here that all devices have the same sum: each has a cotangent of its copy, and they add up."""
    places = [axis for axis in axes if isinstance(axis, int)]  # axes of the array itself, which vmap had named
    names = tuple(axis for axis in axes if not isinstance(axis, int))
    g = lax.psum(g, names, axis_index_groups=axis_index_groups)
    return jnp.broadcast_to(jnp.expand_dims(g, places), x.shape)


@rule("all_gather")
def _all_gather(g, y, x, *, all_gather_dimension, axis_name, axis_index_groups, tiled, **_):
    return lax.psum_scatter(
        g, axis_name, scatter_dimension=all_gather_dimension, axis_index_groups=axis_index_groups, tiled=tiled
    )


@rule("all_gather_invariant")
def _all_gather_invariant(g, y, x, *, all_gather_dimension, axis_name, axis_size, tiled):
    """Every device has the whole cotangent, and takes its own part."""
    n = g.shape[all_gather_dimension] // axis_size
    own = lax.dynamic_slice_in_dim(g, lax.axis_index(axis_name) * n, n, all_gather_dimension)
    return own.reshape(x.shape)


@rule("reduce_scatter")
def _reduce_scatter(g, y, x, *, scatter_dimension, axis_name, axis_index_groups, tiled, **_):
    return lax.all_gather(g, axis_name, axis=scatter_dimension, axis_index_groups=axis_index_groups, tiled=tiled)


@rule("all_to_all")
def _all_to_all(g, y, x, *, axis_name, split_axis, concat_axis, axis_index_groups, **_):
    """Untiled, x has an axis of length 1 to concatenate along already: tiling gives the same."""
    return lax.all_to_all(g, axis_name, concat_axis, split_axis, axis_index_groups=axis_index_groups, tiled=True)


@rule("ppermute")
def _ppermute(g, y, x, *, axis_name, perm):
    return lax.ppermute(g, axis_name, [(target, source) for source, target in perm])
