"""Which outputs of an equation matter to the derivative of the program that it is in."""

from collections.abc import Sequence
from typing import Any

from dlfn.core import jaxprs
from dlfn.core.entering import CALLS, PLAIN, Place
from dlfn.core.primitives import is_inexact

__all__ = ["used_outputs"]


def used_outputs(jaxpr: Any, place: Place) -> list[bool]:
    """Which outputs of the equation at a place may have a cotangent, for those of the program depend on them by numbers
    that are floating point. Of what a loop, a branch or a rule returns all is taken to matter."""
    body = jaxprs.parts(jaxpr)[0]
    used = [True] * len(body.outvars)
    chain: tuple[Any, ...] = (*(eqn for eqn, _ in place.around), place.eqn)
    for eqn, inner in zip(chain, (*chain[1:], None), strict=True):
        used = _used(body, used, eqn)
        if inner is None:
            return used
        bodies = [jaxprs.parts(sub)[0] for sub in jaxprs.subjaxprs(eqn)]
        body = next((sub for sub in bodies if any(one is inner for one in sub.eqns)), None)
        if body is None:  # as that of a primitive of jax.experimental.hijax, which is made where it is entered
            break
        used = used if eqn.primitive.name in PLAIN else [True] * len(body.outvars)
    return [True] * len(place.eqn.outvars)


def _used(jaxpr: Any, used: Sequence[bool], target: Any = None) -> list[bool]:
    """Of which inputs of a jaxpr, or outputs of one of its equations, the used outputs are made."""
    needed = {id(atom) for atom, use in zip(jaxpr.outvars, used, strict=True) if use}
    for eqn in reversed(jaxpr.eqns):
        outs = [id(var) in needed and is_inexact(var.aval.dtype) for var in eqn.outvars]
        if eqn is target:
            return outs
        if eqn.primitive.name in CALLS:
            ins = _used(jaxprs.parts(eqn.params[CALLS[eqn.primitive.name]])[0], outs)
        elif eqn.primitive.name == "cond":
            each = [_used(jaxprs.parts(branch)[0], outs) for branch in eqn.params["branches"]]
            ins = [False, *map(any, zip(*each, strict=True))]
        else:
            ins = [any(outs)] * len(eqn.invars)
        needed.update(id(atom) for atom, use in zip(eqn.invars, ins, strict=True) if use)
    return [id(var) in needed for var in jaxpr.invars]
