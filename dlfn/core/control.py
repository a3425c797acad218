"""Running calls and control flow backwards: jit, checkpoint, custom rules, scan, cond."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn.core import _jax, jaxprs
from dlfn.core.errors import InputError
from dlfn.core.primitives import is_inexact, strong
from dlfn.core.walk import Result, Walk, structural, zeros

__all__: list[str] = []  # imported to register its functions


@structural("jit", "pjit", "closed_call", "composite", "xla_metadata_call")
def _call(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    outside, walk.line = walk.line, walk.source_line(eqn)
    try:
        return walk.pullback(next(jaxprs.subjaxprs(eqn)), values, needs)
    finally:
        walk.line = outside


@structural("remat2", "checkpoint")
def _checkpoint(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """Keeps only the inputs, and runs the body forwards again when the cotangents arrive."""
    outs = jaxprs.run(eqn.params["jaxpr"], values)
    slots = walk.reserve(eqn.params["jaxpr"])

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        again = lax.optimization_barrier(values) if eqn.params["prevent_cse"] else values
        inner = walk.inner()
        cotangents = inner.pullback(eqn.params["jaxpr"], again, needs)[1](bars)
        walk.merge(slots, inner.order(), inner.noted())
        return cotangents

    return outs, back


@structural("custom_jvp_call")
def _custom_jvp(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """The rule's output tangents are linear in its input tangents, so that the pullback of that map, at any point, is
    its transpose."""
    if not walk.use_custom_rules:
        return walk.pullback(eqn.params["call_jaxpr"], values, needs)
    outs = jaxprs.run(eqn.params["call_jaxpr"], values)
    moving = [i for i, needed in enumerate(needs) if needed]

    def tangents(*given: Any) -> Any:
        dots = [jnp.zeros_like(v) if is_inexact(v.dtype) else _float0(v) for v in map(jnp.asarray, values)]
        for i, dot in zip(moving, given, strict=True):
            dots[i] = dot
        moved = _jax.custom_jvp_rule(eqn)(*values, *dots)[len(outs) :]
        return [dot for dot, out in zip(moved, outs, strict=True) if is_inexact(out.dtype)]

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        at = [jnp.zeros_like(values[i]) for i in moving]
        _, linear_back = walk.inner().pullback(jax.make_jaxpr(tangents)(*at), at, [True] * len(at))
        given = [bar for bar, out in zip(bars, outs, strict=True) if is_inexact(out.dtype)]
        cotangents: list[Any] = [None] * len(values)
        for i, bar in zip(moving, linear_back(given), strict=True):
            cotangents[i] = bar
        return cotangents

    return outs, back


def _float0(value: Any) -> Any:
    return np.zeros(value.shape, jax.dtypes.float0)


@structural("custom_vjp_call")
def _custom_vjp(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    if not walk.use_custom_rules:
        return walk.pullback(eqn.params["call_jaxpr"], values, needs)
    forward, backward = _jax.custom_vjp_rules(eqn)
    outs, rest = forward(values, needs)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        cotangents = backward(rest, zeros(bars, outs))
        return [
            None if bar is None or not needed else jnp.asarray(bar)
            for bar, needed in zip(cotangents, needs, strict=True)
        ]

    return outs, back


# Control flow


@structural("scan")
def _scan(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """Forwards, saves the carry that enters each step. Backwards, runs each step again and pulls its cotangents
    back."""
    body, params = eqn.params["jaxpr"], eqn.params
    n_consts, n_carry = jaxprs.scan_counts(eqn)
    consts, init, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    loop = {key: params[key] for key in ("length", "unroll")}

    def step(carry: Any, x: Any) -> Any:
        outs = jaxprs.run(body, [*consts, *carry, *x])
        return outs[:n_carry], (outs[n_carry:], carry)

    slots, order = walk.reserve(body), []
    final, (ys, carries) = lax.scan(step, init, xs, reverse=params["reverse"], **loop)
    active = _active_in_loop(body, needs, n_consts, n_carry)
    const_at = [i for i in range(n_consts) if active[i]]
    carry_at = [i for i in range(n_carry) if active[n_consts + i]]
    x_at = [i for i in range(len(xs)) if active[n_consts + n_carry + i]]

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        carry_bars = zeros([bars[i] for i in carry_at], [final[i] for i in carry_at])
        y_bars = [bar if is_inexact(y.dtype) else None for bar, y in zip(bars[n_carry:], ys, strict=True)]

        def back_step(state: Any, inputs: Any) -> Any:
            carry_bars, const_bars = state
            carry, x, y_bars = inputs
            inner = walk.inner()
            point = [*consts, *carry, *x]
            _, step_back = inner.pullback(body, point, active)
            order[:] = inner.order()
            out_bars: list[Any] = [None] * n_carry
            for i, bar in zip(carry_at, carry_bars, strict=True):
                out_bars[i] = bar
            in_bars = zeros(step_back([*out_bars, *y_bars]), point)
            const_bars = [total + in_bars[i] for i, total in zip(const_at, const_bars, strict=True)]
            moved = [in_bars[n_consts + i] for i in carry_at]
            return (moved, const_bars), ([in_bars[n_consts + n_carry + i] for i in x_at], inner.noted())

        state = ([strong(bar) for bar in carry_bars], [jnp.zeros_like(consts[i]) for i in const_at])
        (carry_bars, const_bars), (x_bars, record) = lax.scan(
            back_step, state, (carries, xs, y_bars), reverse=not params["reverse"], **loop
        )
        walk.merge(slots, order, record)
        cotangents: list[Any] = [None] * len(values)
        for offset, at, found in (
            (0, const_at, const_bars), (n_consts, carry_at, carry_bars), (n_consts + n_carry, x_at, x_bars),
        ):  # fmt: skip
            for i, bar in zip(at, found, strict=True):
                cotangents[offset + i] = bar
        return cotangents

    return [*final, *ys], back


def _active_in_loop(body: Any, needs: list[bool], n_consts: int, n_carry: int) -> list[bool]:
    """Which operands of a loop's body depend on what is differentiated: a carry does as soon as anything that it is
    computed from does, in any step."""
    variables = jaxprs.parts(body)[0].invars
    active = [needed and is_inexact(v.aval.dtype) for needed, v in zip(needs, variables, strict=True)]
    sources = jaxprs.dependencies(body)[:n_carry]
    while True:
        grown = list(active)
        for i, source in enumerate(sources):
            if is_inexact(variables[n_consts + i].aval.dtype) and any(active[j] for j in source):
                grown[n_consts + i] = True
        if grown == active:
            return active
        active = grown


@structural("cond")
def _cond(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """Backwards, runs the branch that ran again. A name in a branch that did not run has a cotangent of zero."""
    index, *operands = values
    branches = eqn.params["branches"]
    outs = lax.switch(index, [lambda *ops, b=b: jaxprs.run(b, ops) for b in branches], *operands)
    slots = [walk.reserve(branch) for branch in branches]

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        present = [i for i, bar in enumerate(bars) if bar is not None]
        orders: list[list[str]] = [[] for _ in branches]

        def back_branch(number: int) -> Callable[..., Any]:
            def run(operands: Any, given: Any) -> Any:
                bars: list[Any] = [None] * len(outs)
                for i, bar in zip(present, given, strict=True):
                    bars[i] = bar
                inner = walk.inner()
                _, branch_back = inner.pullback(branches[number], operands, needs[1:])
                found = zeros(branch_back(bars), operands)
                orders[number][:] = inner.order()
                return [bar for bar, needed in zip(found, needs[1:], strict=True) if needed], inner.noted()

            return run

        backs = [back_branch(number) for number in range(len(branches))]
        given = [bars[i] for i in present]
        shapes = [jax.eval_shape(run, operands, given)[1] for run in backs]

        def uniform(number: int) -> Callable[..., Any]:
            def padded(operands: Any, given: Any) -> Any:
                records = [jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape) for shape in shapes]
                found, records[number] = backs[number](operands, given)
                return found, records

            return padded

        found, records = lax.switch(index, [uniform(number) for number in range(len(branches))], operands, given)
        for taken, order, record in zip(slots, orders, records, strict=True):
            walk.merge(taken, order, record)
        found = iter(found)
        return [None, *(next(found) if needed else None for needed in needs[1:])]

    return outs, back


@structural("while")
def _while(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    def back(bars: Sequence[Any]) -> Sequence[Any]:
        raise InputError(
            f"backprop: while_loop cannot be run backwards, its number of steps is not known "
            f"({walk.source_line(eqn)}); use lax.scan, or lax.fori_loop with constant bounds"
        )

    return jaxprs.bind(eqn, values), back
