"""Reading jaxprs, over the differences between jax versions: 0.12 merged closed and open ones."""

from typing import Any

from jax.extend.core import Literal

__all__ = ["dependencies", "parts"]


def parts(jaxpr: Any) -> tuple[Any, list[Any]]:
    """An open jaxpr and its constants, of a closed one or of an open one."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


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
