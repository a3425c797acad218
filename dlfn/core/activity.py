"""Which values move with the arguments that are differentiated, found without evaluating anything.

Rules with ``symbolic_zeros`` are told which of their arguments move, and may do less for those that do not. The walk
must therefore know it of every value as exactly as JAX does, through calls, loops and branches.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from dlfn.core import _jax, jaxprs
from dlfn.core.rules import RULES

__all__ = ["is_discrete", "is_flat", "moving", "moving_operands", "moving_outputs"]

_BODIES = {
    **dict.fromkeys(("jit", "pjit", "closed_call", "remat2", "checkpoint", "shard_map"), "jaxpr"),
    **dict.fromkeys(("custom_vjp_call", "custom_jvp_call"), "call_jaxpr"),
    "custom_vmap_call": "call",
}


def is_discrete(var: Any) -> bool:
    """Whether a variable takes separate values: integers, flags, keys."""
    return any(jnp.issubdtype(var.aval.dtype, kind) for kind in (jnp.integer, jnp.bool_, jax.dtypes.prng_key))


def is_flat(eqn: Any) -> bool:
    """Whether the derivative is zero everywhere."""
    return RULES.get(eqn.primitive.name, True) is None or all(map(is_discrete, eqn.outvars))


def moving(jaxpr: Any, active: Sequence[bool], use_custom_rules: bool) -> list[bool]:
    """Which outputs of a jaxpr move where its inputs that are ``active`` do."""
    jaxpr, _ = jaxprs.parts(jaxpr)
    found = {var for var, here in zip(jaxpr.invars, active, strict=True) if here and not is_discrete(var)}

    def moves(atom: Any) -> bool:
        return not isinstance(atom, Literal) and atom in found

    for eqn in jaxpr.eqns:
        outs = moving_outputs(eqn, list(map(moves, eqn.invars)), use_custom_rules)
        found.update(var for var, out in zip(eqn.outvars, outs, strict=True) if out)
    return list(map(moves, jaxpr.outvars))


def moving_outputs(eqn: Any, needs: Sequence[bool], use_custom_rules: bool) -> list[bool]:
    """Which outputs of an equation move where its operands that ``needs`` marks do."""
    if not any(needs) or is_flat(eqn):
        return [False] * len(eqn.outvars)
    outs = _of(eqn, needs, use_custom_rules)
    return [out and not is_discrete(var) for out, var in zip(outs, eqn.outvars, strict=True)]


def _of(eqn: Any, needs: Sequence[bool], use_custom_rules: bool) -> Sequence[bool]:
    name = eqn.primitive.name
    if name == "custom_jvp_call" and use_custom_rules:
        return _jax.custom_jvp_moving(eqn, needs)
    if name in _BODIES and not (use_custom_rules and name == "custom_vjp_call"):
        return moving(eqn.params[_BODIES[name]], needs, use_custom_rules)
    if name == "cond":
        return [any(outs) for outs in zip(*(moving(b, needs[1:], use_custom_rules) for b in eqn.params["branches"]))]
    if name == "while":
        n_cond, body = eqn.params["cond_nconsts"], eqn.params["body_jaxpr"]
        n_consts = eqn.params["body_nconsts"]
        return moving_operands(body, needs[n_cond:], n_consts, len(eqn.outvars), use_custom_rules)[n_consts:]
    if name == "scan":
        n_consts, n_carry = jaxprs.scan_counts(eqn)
        active = moving_operands(eqn.params["jaxpr"], needs, n_consts, n_carry, use_custom_rules)
        outs = moving(eqn.params["jaxpr"], active, use_custom_rules)
        return [*active[n_consts : n_consts + n_carry], *outs[n_carry:]]
    return [True] * len(eqn.outvars)


def moving_operands(
    body: Any, needs: Sequence[bool], n_consts: int, n_carry: int, use_custom_rules: bool
) -> list[bool]:
    """Which operands of a loop's body move: a carry does as soon as anything that it is computed from does, in any
    step."""
    variables = jaxprs.parts(body)[0].invars
    active = [needed and not is_discrete(v) for needed, v in zip(needs, variables, strict=True)]
    while True:
        carries = moving(body, active, use_custom_rules)[:n_carry]
        grown = list(active)
        grown[n_consts : n_consts + n_carry] = [a or c for a, c in zip(active[n_consts:], carries)]
        if grown == active:
            return active
        active = grown
