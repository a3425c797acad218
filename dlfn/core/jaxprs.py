"""Reading, running and rebuilding jaxprs. What differs between versions of jax is in :mod:`dlfn.core._jax`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from dlfn.core import _jax
from dlfn.core._jax import (
    HIJAX,
    code_place,
    concrete,
    custom_vjp_call,
    custom_vjp_rules,
    name_stack,
    of_jax,
    operand_names,
    parts,
    primal,
    rule_sources,
    scan_counts,
    sees_zeros,
    source,
    source_line,
    varying_axes,
    varying_over,
)

__all__ = [
    "HIJAX",
    "bind",
    "code_place",
    "concrete",
    "custom_vjp_call",
    "custom_vjp_rules",
    "dependencies",
    "name_stack",
    "of_jax",
    "operand_names",
    "own_custom_jvp",
    "parts",
    "primal",
    "rule_sources",
    "run",
    "scan_counts",
    "sees_zeros",
    "source",
    "source_line",
    "subjaxprs",
    "trace",
    "varying_axes",
    "varying_over",
]  # fmt: skip

Visit = Callable[[Any, list[Any]], Sequence[Any]]


def trace(f: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, list[Any], list[int], Any]:
    """Traces ``f`` to a jaxpr: the jaxpr, its flat inputs, their positions among the flat arguments, the output tree.
    Leaves that are neither arrays nor positional floats stay what they are: flags, strings, functions, integers, and
    floats by keyword, which are configuration."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    n_positional = len(jax.tree.leaves(args))
    arrays = jax.Array | np.ndarray | np.generic
    positions = [
        i for i, leaf in enumerate(leaves) if isinstance(leaf, arrays) or (isinstance(leaf, float) and i < n_positional)
    ]

    def flat(*arrays: Any) -> Any:
        values = list(leaves)
        for i, array in zip(positions, arrays, strict=True):
            values[i] = array
        args, kwargs = tree.unflatten(values)
        return f(*args, **kwargs)

    inputs = [leaves[i] for i in positions]
    jaxpr, shapes = jax.make_jaxpr(flat, return_shape=True)(*inputs)
    return jaxpr, inputs, positions, jax.tree.structure(shapes)


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Evaluates one equation."""
    outs = eqn.primitive.bind(*values, **_jax.bound_parameters(eqn))
    return list(outs) if eqn.primitive.multiple_results else [outs]


def run(jaxpr: Any, args: Sequence[Any], visit: Visit = bind, consts: Sequence[Any] | None = None) -> list[Any]:
    """Evaluates a jaxpr, each equation by ``visit(eqn, values)``; ``consts`` instead of its own constants."""
    jaxpr, own_consts = parts(jaxpr)
    consts = own_consts if consts is None else consts
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        with _jax.written_at(eqn), _jax.context(eqn):
            outs = visit(eqn, [read(atom) for atom in eqn.invars])
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def subjaxprs(eqn: Any) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    if eqn.primitive.name == HIJAX:
        yield from _jax.hijax_bodies(eqn)
    for param in eqn.params.values():
        for value in param if isinstance(param, tuple | list) else (param,):
            if hasattr(value, "eqns"):
                yield value


def dependencies(jaxpr: Any) -> list[frozenset[int]]:
    """For every output, the inputs on which it may depend (an equation's outputs on all its inputs)."""
    jaxpr, _ = parts(jaxpr)
    sources: dict[Any, frozenset[int]] = {var: frozenset((i,)) for i, var in enumerate(jaxpr.invars)}

    def of(atom: Any) -> frozenset[int]:
        return frozenset() if isinstance(atom, Literal) else sources.get(atom, frozenset())

    for eqn in jaxpr.eqns:
        joined = frozenset().union(*map(of, eqn.invars))
        sources.update(dict.fromkeys(eqn.outvars, joined))
    return [of(var) for var in jaxpr.outvars]


def own_custom_jvp(jaxpr: Any) -> Iterator[str]:
    """The names of the ``jax.custom_jvp`` functions in a jaxpr that are not JAX's own."""
    for eqn in parts(jaxpr)[0].eqns:
        if eqn.primitive.name == "custom_jvp_call":
            name, *places = _jax.rule_sources(eqn)
            if not any(places) or not all(map(_jax.of_jax, filter(None, places))):
                yield name
        for sub in subjaxprs(eqn):
            yield from own_custom_jvp(sub)
