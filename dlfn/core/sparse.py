"""Sparse arrays of ``jax.experimental.sparse``: products, and what else there is as programs of others."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from dlfn.core import _jax, jaxprs
from dlfn.core.rules.table import summed_like
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
    r"""A sparse A times a dense B: :math:`\bar B = A^T \bar Y` is sparse times dense again, and of
    :math:`\bar A = \bar Y B^T` the entries are computed that A has. The dense A is never made."""
    from jax.experimental import sparse  # takes time, and whoever has such an array has imported it

    *parts, b = values
    a = _matrix(eqn, parts)
    (contract_a, contract_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    free_a = [d for d in range(a.ndim) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(b.ndim) if d not in (*contract_b, *batch_b)]
    # Products leave the contracted axes of the other factor in that factor's order.
    layout_a = [*batch_a, *free_a, *(contract_a[list(contract_b).index(d)] for d in sorted(contract_b))]
    layout_b = [*batch_b, *(contract_b[list(contract_a).index(d)] for d in sorted(contract_a)), *free_b]
    if a.n_dense or sorted(layout_a[: a.n_batch]) != list(range(a.n_batch)):
        return _by_dense_matrix(eqn, values, needs, walk)

    n_batch, n_rows = len(batch_a), len(free_a)
    batch_g, rows = list(range(n_batch)), list(range(n_batch, n_batch + n_rows))
    columns = list(range(n_batch + n_rows, n_batch + n_rows + len(free_b)))

    def of_entries(g: Any) -> Any:
        at = sparse.bcoo_transpose(a, permutation=layout_a).indices
        numbers = ((columns, free_b), (batch_g, batch_b))
        found: Any = sparse.bcoo_dot_general_sampled(g, b.astype(g.dtype), at, dimension_numbers=numbers)
        found = lax.transpose(found, [*_inverse(layout_a[: a.n_batch]), a.n_batch])
        return summed_like(found, a.data).astype(a.dtype)

    def of_dense(g: Any) -> Any:
        numbers = ((free_a, rows), (batch_a, batch_g))
        found: Any = sparse.bcoo_dot_general(a, g, dimension_numbers=numbers)
        return lax.transpose(found, _inverse(layout_b)).astype(b.dtype)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        (g,) = bars
        first, *_, last = needs
        return [of_entries(g) if first else None, *[None] * len(parts[1:]), of_dense(g) if last else None]

    return jaxprs.bind(eqn, values), back


def _by_dense_matrix(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """For matrices with dense axes, and sums over a stack: JAX has no products at indices for these."""

    def product(*values: Any) -> Any:
        *parts, b = values
        numbers, dtype = eqn.params["dimension_numbers"], eqn.params["preferred_element_type"]
        return lax.dot_general(_matrix(eqn, parts).todense(), b, numbers, preferred_element_type=dtype)

    return walk.pullback(jax.make_jaxpr(product)(*values), values, needs)


def _matrix(eqn: Any, parts: Sequence[Any]) -> Any:
    from jax.experimental import sparse

    shape = eqn.params["lhs_spinfo"].shape
    if eqn.primitive.name == "bcoo_dot_general":
        return sparse.BCOO(tuple(parts), shape=shape)
    return sparse.BCSR(tuple(parts), shape=shape).to_bcoo()


def _inverse(permutation: Sequence[int]) -> list[int]:
    return [list(permutation).index(d) for d in range(len(permutation))]
