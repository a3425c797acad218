"""Running functions backwards that bring rules of their own, by JAX's protocol for each kind of rule."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.core import _jax, jaxprs
from dlfn.core.primitives import is_inexact
from dlfn.core.walk import Result, Walk, structural

__all__: list[str] = []  # imported to register its functions


@structural("custom_jvp_call")
def _custom_jvp(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """The rule's output tangents are linear in its input tangents, so that the pullback of that map, at any point, is
    its transpose."""
    if not walk.use_custom_rules:
        return walk.pullback(eqn.params["call_jaxpr"], values, needs)
    outs = jaxprs.run(eqn.params["call_jaxpr"], values)
    moving = [i for i, needed in enumerate(needs) if needed]
    returned = [i for i, moves in enumerate(_jax.custom_jvp_moving(eqn, needs)) if moves and is_inexact(outs[i].dtype)]
    still = _jax.symbolic_zero if eqn.params["symbolic_zeros"] else _jax.zero_tangent

    def tangents(*given: Any) -> Any:
        dots = [still(var.aval) for var in eqn.invars]
        for i, dot in zip(moving, given, strict=True):
            dots[i] = dot
        moved = _jax.custom_jvp_rule(eqn)(*values, *dots)[len(outs) :]
        return [moved[i] for i in returned]

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        at = [jnp.zeros_like(values[i]) for i in moving]
        _, linear_back = walk.inner().pullback(jax.make_jaxpr(tangents)(*at), at, [True] * len(at))
        return _placed(moving, linear_back([bars[i] for i in returned]), len(values))

    return outs, back


@structural("custom_vjp_call")
def _custom_vjp(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    if not walk.use_custom_rules:
        return walk.pullback(eqn.params["call_jaxpr"], values, needs)
    forward, backward = _jax.custom_vjp_rules(eqn)
    outs, rest = forward(values, needs)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        return [
            None if bar is None or not needed else jnp.asarray(bar)
            for bar, needed in zip(backward(rest, bars), needs, strict=True)
        ]

    return outs, back


@structural("custom_vmap_call")
def _custom_vmap(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """The rule is for ``vmap`` alone."""
    return walk.pullback(eqn.params["call"], values, needs)


@structural(_jax.HIJAX)
def _hi_primitive(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """A ``jax.experimental.hijax`` primitive keeps its rule in methods of several kinds, for retained or accumulated
    cotangents or for tangents: ``jax.vjp`` of the one equation calls what there is."""
    if not walk.use_custom_rules:
        return walk.pullback(jax.make_jaxpr(functools.partial(_jax.expand, eqn))(*values), values, needs)
    moving = [i for i, needed in enumerate(needs) if needed]

    def of_moving(*given: Any) -> list[Any]:
        full = list(values)
        for i, value in zip(moving, given, strict=True):
            full[i] = value
        return jaxprs.bind(eqn, full)

    outs, pull = jax.vjp(of_moving, *(values[i] for i in moving))

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        given = [
            _jax.absent_cotangent(v.aval) if bar is None else bar for bar, v in zip(bars, eqn.outvars, strict=True)
        ]
        return _placed(moving, pull(given), len(values))

    return outs, back


def _placed(positions: Sequence[int], found: Sequence[Any], n: int) -> list[Any]:
    """A list of length n with what was found at its positions, and None elsewhere."""
    everywhere: list[Any] = [None] * n
    for i, value in zip(positions, found, strict=True):
        everywhere[i] = value
    return everywhere
