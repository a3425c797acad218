"""The reverse walk: :func:`pullback` of a jaxpr, and of the equations that contain jaxprs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from dlfn.core import jaxprs
from dlfn.core.errors import InputError
from dlfn.core.primitives import Linear, evaluate, is_float, linear_p, op_flat, op_p, strong, transpose
from dlfn.core.rules import RULES

__all__ = ["Record", "pullback"]

Record = dict[str, Any]
Back = Callable[[list[Any]], Sequence[Any]]


class _Walk:
    """What one walk carries along: the record of named cotangents (``None``: keep none), and whether the rules of
    ``custom_vjp`` and ``custom_jvp`` functions are used."""

    def __init__(self, record: Record | None, use_custom_rules: bool):
        self.record = record
        self.use_custom_rules = use_custom_rules

    def inner(self) -> "_Walk":
        """For a body that is traced on its own: its record leaves it as an output."""
        return _Walk(None if self.record is None else {}, self.use_custom_rules)

    def slot(self, name: str) -> str | None:
        """A unique name, reserved in the order of the forward pass."""
        if self.record is None:
            return None
        count = 1 + sum(key == name or key.startswith(f"{name}#") for key in self.record)
        key = name if count == 1 else f"{name}#{count}"
        self.record[key] = None
        return key

    def merge(self, record: Record | None) -> None:
        for name, cotangent in (record or {}).items():
            self.record[self.slot(name.split("#")[0])] = cotangent


def pullback(
    jaxpr: Any, inputs: Sequence[Any], active: Sequence[bool], record: Record | None, use_custom_rules: bool
) -> tuple[list[Any], Back]:
    """Evaluates a jaxpr. Returns its outputs and the function from their cotangents (``None``: zero) to those of the
    inputs, ``None`` at inputs that are not ``active`` or that no cotangent reached."""
    return _pullback(jaxpr, inputs, active, _Walk(record, use_custom_rules))


def _pullback(jaxpr: Any, inputs: Sequence[Any], active: Sequence[bool], walk: _Walk) -> tuple[list[Any], Back]:
    open_jaxpr, consts = jaxprs.parts(jaxpr)
    env = dict(zip([*open_jaxpr.constvars, *open_jaxpr.invars], [*consts, *inputs], strict=True))
    moving = {var for var, here in zip(open_jaxpr.invars, active, strict=True) if here and is_float(var.aval.dtype)}
    steps: list[tuple[Any, list[bool], Back]] = []

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in open_jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        needs = [not isinstance(atom, Literal) and atom in moving for atom in eqn.invars]
        with eqn.ctx.manager:
            if any(needs) and not _is_flat(eqn):
                outs, back = _STRUCTURAL.get(eqn.primitive.name, _by_rule)(eqn, values, needs, walk)
                steps.append((eqn, needs, back))
                moving.update(var for var in eqn.outvars if is_float(var.aval.dtype))
            else:
                outs = jaxprs.bind(eqn, values)
        env.update(zip(eqn.outvars, outs, strict=True))

    def back(cotangents: Sequence[Any]) -> list[Any]:
        bars: dict[Any, Any] = {}

        def add(atom: Any, bar: Any) -> None:
            if bar is not None:
                bars[atom] = bars[atom] + bar if atom in bars else bar

        for atom, bar in zip(open_jaxpr.outvars, cotangents, strict=True):
            if not isinstance(atom, Literal) and atom in moving:
                add(atom, bar)
        for eqn, needs, eqn_back in reversed(steps):
            bars_out = [bars.pop(var, None) for var in eqn.outvars]
            if all(bar is None for bar in bars_out):
                continue
            with eqn.ctx.manager:
                bars_in = eqn_back(bars_out)
            for atom, needed, bar in zip(eqn.invars, needs, bars_in, strict=True):
                if needed and bar is not None:
                    add(atom, _fitting(eqn, atom, bar))
        return [bars.get(var) for var in open_jaxpr.invars]

    return [read(atom) for atom in open_jaxpr.outvars], back


def _is_flat(eqn: Any) -> bool:
    """Whether the derivative is zero everywhere."""
    return RULES.get(eqn.primitive.name, _by_rule) is None or not any(is_float(v.aval.dtype) for v in eqn.outvars)


def _fitting(eqn: Any, atom: Any, bar: Any) -> Any:
    bar = strong(bar)
    if bar.shape != atom.aval.shape or bar.dtype != atom.aval.dtype:
        raise InputError(
            f"backprop: the rule of {eqn.primitive.name!r} returned a cotangent {bar.dtype}{list(bar.shape)} for an "
            f"input {atom.aval.dtype}{list(atom.aval.shape)} ({jaxprs.source_line(eqn)})"
        )
    return bar


def _zeros(bars: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    return [jnp.zeros_like(v) if bar is None else bar for bar, v in zip(bars, values, strict=True)]


def _by_rule(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    outs = jaxprs.bind(eqn, values)
    name, several = eqn.primitive.name, eqn.primitive.multiple_results
    slot = walk.slot(_path(eqn)) if name == "name" else None

    def back(bars: list[Any]) -> Sequence[Any]:
        rule = RULES.get(name)
        if rule is None:
            raise InputError(
                f"backprop: no rule for the primitive {name!r} ({jaxprs.source_line(eqn)}); "
                f"give it one with dlfn.register_rule({name!r}, lambda dy, y, *xs, **params: ...)"
            )
        if slot is not None:
            walk.record[slot] = bars[0]
        result = rule(bars if several else bars[0], outs if several else outs[0], *values, **eqn.params)
        return result if isinstance(result, tuple | list) else (result,)

    return outs, back


def _path(eqn: Any) -> str:
    """A layer names its output after its place in its parent; the name stack knows the parents."""
    name, stack = eqn.params["name"], str(eqn.source_info.name_stack)
    return stack if stack.endswith(f"/{name}") else name


# Ops


def _op(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    call, residuals = eqn.params["call"], eqn.params["residuals"]
    if residuals:  # an inner gradient has applied the rule already: its forward is ordinary code to differentiate
        return _pullback(jax.make_jaxpr(lambda *values: op_flat(*values, **eqn.params))(*values), values, needs, walk)
    y, rest = evaluate(call, True, *values)
    outs, y_tree = jax.tree.flatten(y)
    rest, rest_tree = jax.tree.flatten(rest)
    floats = tuple(is_float(out.dtype) for out in outs)
    wrt = tuple(i for i, needed in enumerate(needs) if needed)
    slot = walk.slot(call.op.name)

    def back(bars: list[Any]) -> Sequence[Any]:
        dy = _zeros(bars, outs)
        if slot is not None:
            walk.record[slot] = y_tree.unflatten(dy)
        dy = [bar for bar, floating in zip(dy, floats, strict=True) if floating]
        cotangents: list[Any] = [None] * len(values)
        for i, bar in zip(wrt, transpose(Linear(call, wrt, y_tree, floats, rest_tree), rest, dy), strict=True):
            cotangents[i] = bar
        return cotangents

    return outs, back


def _linear(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    linear = eqn.params["linear"]
    n_rest = len(values) - len(linear.wrt)

    def back(bars: list[Any]) -> Sequence[Any]:
        if any(needs[:n_rest]):
            raise InputError(
                f"backprop: the forward-mode derivative of {linear.call.op.name} ({jaxprs.source_line(eqn)}) cannot be "
                "differentiated once more in its point; use jax.grad around it"
            )
        dy = _zeros(bars, [v.aval for v in eqn.outvars])
        return [None] * n_rest + transpose(linear, values[:n_rest], dy)

    return jaxprs.bind(eqn, values), back


# Calls


def _call(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    return _pullback(eqn.params["jaxpr"], values, needs, walk)


def _checkpoint(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    """Keep the inputs only; run forwards again when the cotangents arrive."""
    outs = jaxprs.run(eqn.params["jaxpr"], values)

    def back(bars: list[Any]) -> Sequence[Any]:
        again = lax.optimization_barrier(values) if eqn.params["prevent_cse"] else values
        return _pullback(eqn.params["jaxpr"], again, needs, walk)[1](bars)

    return outs, back


def _custom_jvp(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    """The rule's tangent is linear: its transpose is its pullback, at any point."""
    if not walk.use_custom_rules:
        return _pullback(eqn.params["call_jaxpr"], values, needs, walk)
    outs = jaxprs.run(eqn.params["call_jaxpr"], values)
    moving = [i for i, needed in enumerate(needs) if needed]

    def tangents(*given: Any) -> Any:
        dots = [jnp.zeros_like(v) if is_float(v.dtype) else _float0(v) for v in map(jnp.asarray, values)]
        for i, dot in zip(moving, given, strict=True):
            dots[i] = dot
        _, rule = eqn.primitive.get_bind_params(eqn.params)["subfuns"]
        moved = rule.call_wrapped(*values, *dots)[len(outs) :]
        return [dot for dot, out in zip(moved, outs, strict=True) if is_float(out.dtype)]

    def back(bars: list[Any]) -> Sequence[Any]:
        zeros = [jnp.zeros_like(values[i]) for i in moving]
        _, linear_back = _pullback(jax.make_jaxpr(tangents)(*zeros), zeros, [True] * len(zeros), walk.inner())
        given = [bar for bar, out in zip(bars, outs, strict=True) if is_float(out.dtype)]
        cotangents: list[Any] = [None] * len(values)
        for i, bar in zip(moving, linear_back(given), strict=True):
            cotangents[i] = bar
        return cotangents

    return outs, back


def _float0(value: Any) -> Any:
    return np.zeros(value.shape, jax.dtypes.float0)


def _custom_vjp(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    if not walk.use_custom_rules:
        return _pullback(eqn.params["call_jaxpr"], values, needs, walk)
    params = eqn.primitive.get_bind_params(eqn.params)
    _, forward, backward = params["subfuns"]
    outs = forward.call_wrapped(*[x for value, needed in zip(values, needs, strict=True) for x in (value, needed)])
    _, rest_tree, forwarded = params["out_trees"]()
    saved = iter(outs[: rest_tree.num_leaves - sum(i is not None for i in forwarded)])
    outs = list(outs[len(outs) - len(eqn.outvars) :])
    # A residual that is an argument is not returned but named by its position.
    rest = [next(saved) if i is None else values[i] for i in forwarded]

    def back(bars: list[Any]) -> Sequence[Any]:
        cotangents = backward.call_wrapped(*rest, *_zeros(bars, outs))
        return [bar if isinstance(bar, jax.Array) else None for bar in cotangents]

    return outs, back


# Control flow


def _scan(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    """Forwards, save the carry that enters each step; backwards, run each step again and pull its cotangents back."""
    body, params = eqn.params["jaxpr"], eqn.params
    n_consts, n_carry = jaxprs.scan_counts(eqn)
    consts, init, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    loop = {key: params[key] for key in ("length", "unroll")}

    def step(carry: Any, x: Any) -> Any:
        outs = jaxprs.run(body, [*consts, *carry, *x])
        return outs[:n_carry], (outs[n_carry:], carry)

    final, (ys, carries) = lax.scan(step, init, xs, reverse=params["reverse"], **loop)
    active = _active_in_loop(body, needs, n_consts, n_carry)
    const_at = [i for i in range(n_consts) if active[i]]
    carry_at = [i for i in range(n_carry) if active[n_consts + i]]
    x_at = [i for i in range(len(xs)) if active[n_consts + n_carry + i]]

    def back(bars: list[Any]) -> Sequence[Any]:
        carry_bars = _zeros([bars[i] for i in carry_at], [final[i] for i in carry_at])
        y_bars = [bar if is_float(y.dtype) else None for bar, y in zip(bars[n_carry:], ys, strict=True)]

        def back_step(state: Any, inputs: Any) -> Any:
            carry_bars, const_bars = state
            carry, x, y_bars = inputs
            inner = walk.inner()
            point = [*consts, *carry, *x]
            _, step_back = _pullback(body, point, active, inner)
            out_bars: list[Any] = [None] * n_carry
            for i, bar in zip(carry_at, carry_bars, strict=True):
                out_bars[i] = bar
            in_bars = _zeros(step_back([*out_bars, *y_bars]), point)
            const_bars = [total + in_bars[i] for i, total in zip(const_at, const_bars, strict=True)]
            moved = [in_bars[n_consts + i] for i in carry_at]
            return (moved, const_bars), ([in_bars[n_consts + n_carry + i] for i in x_at], _filled(inner.record))

        state = ([strong(bar) for bar in carry_bars], [jnp.zeros_like(consts[i]) for i in const_at])
        (carry_bars, const_bars), (x_bars, record) = lax.scan(
            back_step, state, (carries, xs, y_bars), reverse=not params["reverse"], **loop
        )
        walk.merge(record)
        cotangents: list[Any] = [None] * len(values)
        for offset, at, found in (
            (0, const_at, const_bars), (n_consts, carry_at, carry_bars), (n_consts + n_carry, x_at, x_bars),
        ):  # fmt: skip
            for i, bar in zip(at, found, strict=True):
                cotangents[offset + i] = bar
        return cotangents

    return [*final, *ys], back


def _active_in_loop(body: Any, needs: list[bool], n_consts: int, n_carry: int) -> list[bool]:
    """Which operands of a loop's body move: a carry moves as soon as anything that it depends on does."""
    variables = jaxprs.parts(body)[0].invars
    active = [needed and is_float(v.aval.dtype) for needed, v in zip(needs, variables, strict=True)]
    sources = jaxprs.dependencies(body)[:n_carry]
    while True:
        grown = list(active)
        for i, source in enumerate(sources):
            if is_float(variables[n_consts + i].aval.dtype) and any(active[j] for j in source):
                grown[n_consts + i] = True
        if grown == active:
            return active
        active = grown


def _filled(record: Record | None) -> Record:
    return {name: bar for name, bar in (record or {}).items() if bar is not None}


def _cond(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    index, *operands = values
    branches = eqn.params["branches"]
    outs = lax.switch(index, [lambda *ops, b=b: jaxprs.run(b, ops) for b in branches], *operands)

    def back(bars: list[Any]) -> Sequence[Any]:
        present = [i for i, bar in enumerate(bars) if bar is not None]

        def back_branch(branch: Any) -> Callable[..., Any]:
            def run(operands: Any, given: Any) -> Any:
                bars: list[Any] = [None] * len(outs)
                for i, bar in zip(present, given, strict=True):
                    bars[i] = bar
                inner = walk.inner()
                _, branch_back = _pullback(branch, operands, needs[1:], inner)
                found = _zeros(branch_back(bars), operands)
                return [bar for bar, needed in zip(found, needs[1:], strict=True) if needed], _filled(inner.record)

            return run

        backs = [back_branch(branch) for branch in branches]
        given = [bars[i] for i in present]
        # A name that only one branch knows has a zero cotangent when another one ran.
        shapes: Record = {}
        for run in backs:
            shapes.update(jax.eval_shape(run, operands, given)[1])

        def uniform(run: Any) -> Callable[..., Any]:
            def padded(operands: Any, given: Any) -> Any:
                found, record = run(operands, given)
                zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
                return found, {**zeros, **record}

            return padded

        found, record = lax.switch(index, [uniform(run) for run in backs], operands, given)
        walk.merge(record)
        found = iter(found)
        return [None, *(next(found) if needed else None for needed in needs[1:])]

    return outs, back


def _while(eqn: Any, values: list[Any], needs: list[bool], walk: _Walk) -> tuple[list[Any], Back]:
    def back(bars: list[Any]) -> Sequence[Any]:
        raise InputError(
            f"backprop: while_loop cannot be run backwards, its number of steps is not known "
            f"({jaxprs.source_line(eqn)}); use lax.scan, or lax.fori_loop with constant bounds"
        )

    return jaxprs.bind(eqn, values), back


_STRUCTURAL: dict[str, Callable[..., tuple[list[Any], Back]]] = {
    op_p.name: _op,
    linear_p.name: _linear,
    "jit": _call,
    "pjit": _call,
    "closed_call": _call,
    "remat2": _checkpoint,
    "checkpoint": _checkpoint,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "scan": _scan,
    "cond": _cond,
    "while": _while,
}
