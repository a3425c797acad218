"""Calls, loops and branches built anew around bodies that are run in another way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from dlfn.core import jaxprs

__all__ = ["CALLS", "REBUILT", "rebuild"]

CALLS = ("jit", "pjit", "closed_call", "core_call")
REBUILT = ("scan", "while", "cond", "remat2", "checkpoint", "shard_map")

Inside = Callable[[Any, Sequence[Any]], list[Any]]


def rebuild(eqn: Any, values: list[Any], inside: Inside) -> list[Any]:
    """Evaluates an equation of one of the primitives :data:`REBUILT`, with ``inside(jaxpr, values)`` in place of each
    body."""
    return list(_REBUILDERS[eqn.primitive.name](eqn, values, inside))


def _scan(eqn: Any, values: list[Any], inside: Inside) -> Sequence[Any]:
    n_consts, n_carry = jaxprs.scan_counts(eqn)
    consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]

    def step(carry: Any, x: Any) -> Any:
        outs = inside(eqn.params["jaxpr"], [*consts, *carry, *x])
        return outs[:n_carry], outs[n_carry:]

    carry, ys = jax.lax.scan(step, carry, xs, **{key: eqn.params[key] for key in ("length", "reverse", "unroll")})
    return [*carry, *ys]


def _while(eqn: Any, values: list[Any], inside: Inside) -> Sequence[Any]:
    params = eqn.params
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, carry = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
    return jax.lax.while_loop(
        lambda carry: inside(params["cond_jaxpr"], [*cond_consts, *carry])[0],
        lambda carry: inside(params["body_jaxpr"], [*body_consts, *carry]),
        carry,
    )


def _cond(eqn: Any, values: list[Any], inside: Inside) -> Sequence[Any]:
    branches = [lambda *operands, branch=branch: inside(branch, operands) for branch in eqn.params["branches"]]
    return jax.lax.switch(values[0], branches, *values[1:])


def _checkpoint(eqn: Any, values: list[Any], inside: Inside) -> Sequence[Any]:
    settings = {key: eqn.params[key] for key in ("prevent_cse", "policy")}
    return jax.checkpoint(lambda *values: inside(eqn.params["jaxpr"], values), **settings)(*values)


def _shard_map(eqn: Any, values: list[Any], inside: Inside) -> Sequence[Any]:
    params = eqn.params
    body = jax.shard_map(
        lambda *values: tuple(inside(params["jaxpr"], values)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        axis_names=params["newly_manual_axes"],
        check_vma=params["check_vma"],
    )
    return body(*values)


_REBUILDERS: dict[str, Callable[[Any, list[Any], Inside], Sequence[Any]]] = dict(
    zip(REBUILT, (_scan, _while, _cond, _checkpoint, _checkpoint, _shard_map), strict=True)
)
