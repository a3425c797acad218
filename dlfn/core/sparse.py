"""Sparse arrays of ``jax.experimental.sparse``: their primitives as programs of others, which have rules."""

from typing import Any

import jax
from jax import lax

from dlfn.core import _jax
from dlfn.core.walk import Result, Walk, structural

__all__: list[str] = []  # imported to register its functions


@structural(
    "bcoo_dot_general_sampled", "bcoo_extract", "bcoo_fromdense", "bcoo_sort_indices", "bcoo_spdot_general",
    "bcoo_sum_duplicates", "bcoo_todense", "bcoo_transpose", "bcsr_extract", "bcsr_fromdense", "bcsr_todense",
    "todense",
)  # fmt: skip
def _by_implementation(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """What JAX runs in place of these is written in JAX."""
    program = jax.make_jaxpr(lambda *values: eqn.primitive.impl(*values, **_jax.bound_parameters(eqn)))
    return walk.pullback(program(*values), values, needs)


@structural("bcoo_dot_general", "bcsr_dot_general")
def _dot_general(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """By the dense matrix, of which only the entries that are there take a cotangent."""
    from jax.experimental import sparse  # takes time, and whoever has such an array has imported it

    kind, params = (sparse.BCOO if eqn.primitive.name.startswith("bcoo") else sparse.BCSR), eqn.params

    def product(*values: Any) -> Any:
        *parts, dense = values
        matrix = kind(tuple(parts), shape=params["lhs_spinfo"].shape).todense()
        numbers, dtype = params["dimension_numbers"], params["preferred_element_type"]
        return lax.dot_general(matrix, dense, numbers, preferred_element_type=dtype)

    return walk.pullback(jax.make_jaxpr(product)(*values), values, needs)
