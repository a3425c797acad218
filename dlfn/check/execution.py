"""Running a plan: every step's result beside its twin in float64, and loops step by step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.origins import Value, judge
from dlfn.check.plan import Plan, Programs, Step, compiled, is_inexact, make_plan, wide_type
from dlfn.check.shards import born_inside
from dlfn.core import jaxprs

__all__ = ["Execution"]


class Execution:
    """Runs jaxprs; what is compiled for the body of a loop serves for all of its steps.

    Args:
        twins: whether to compute in float64 beside.
    """

    def __init__(self, twins: bool):
        self.twins = twins
        self._plans: dict[tuple[int, tuple[str, ...]], Plan] = {}
        self._programs: dict[int, Programs] = {}
        self._kept: list[Any] = []  # jaxprs whose ids are keys

    def value(self, x: Any, backward: bool = False) -> Value:
        """An argument or a constant."""
        x = x if isinstance(x, jax.Array) else jnp.asarray(x)
        value = Value(x, backward=backward)
        if self.twins and value.floating:
            value.wide = np.asarray(x).astype(wide_type(x.dtype))
            value.unit = float(jnp.finfo(x.dtype).eps)
        return value

    def run(
        self, jaxpr: Any, values: Sequence[Value], path: tuple[str, ...] = (), lines: tuple[str, ...] = ()
    ) -> list[Value]:
        plan = self._plan(jaxpr, lines)
        env = dict(zip(plan.inputs, values, strict=True))
        env.update((slot, self.value(x)) for slot, x in plan.constants.items())
        for segment in plan.segments:
            if segment[0].loops:
                self._loop(segment[0], env, path)
            else:
                self._segment(segment, env, path)
        return [env[slot] for slot in plan.outputs]

    def _plan(self, jaxpr: Any, lines: tuple[str, ...]) -> Plan:
        key = (id(jaxpr), lines)
        if key not in self._plans:
            self._plans[key] = make_plan(jaxpr, lines)
            self._kept.append(jaxpr)
        return self._plans[key]

    def _segment(self, segment: tuple[Step, ...], env: dict[int, Value], path: tuple[str, ...]) -> None:
        if id(segment) not in self._programs:
            self._programs[id(segment)] = compiled(segment)
        programs = self._programs[id(segment)]
        made = {slot for step in segment for slot in step.outs}
        operands = {slot: env[slot] for step in segment for slot in step.ins if slot not in made}
        narrow = programs.narrow({slot: value.narrow for slot, value in operands.items()})
        wide = self._wide(programs, operands, narrow) if self.twins else {}
        for step in segment:
            outs = []
            for slot in step.outs:
                env[slot] = Value(narrow[slot], wide.get(slot), rounded=slot in programs.rounded)
                outs.append(env[slot])
            ins = [env[slot] for slot in step.ins]
            judge(step, ins, outs, (*path, *step.path))
            if step.eqn.primitive.name == "shard_map":
                for out in outs:
                    if out.bad is not None and out.bad.step is step:
                        out.bad = born_inside(step, ins, out.bad.kind, (*path, *step.path)) or out.bad

    def _wide(self, programs: Programs, operands: dict[int, Value], narrow: dict[int, Any]) -> dict[int, Any]:
        given = {slot: x.narrow if x.wide is None else x.wide for slot, x in operands.items()}
        try:
            with jax.enable_x64(True):
                return jax.device_get(programs.wide(given, narrow))
        except Exception:  # whatever XLA says of a primitive in float64
            programs.rounded.update(narrow)
            floats = {slot: y for slot, y in narrow.items() if is_inexact(y.dtype)}
            return {slot: np.asarray(y).astype(wide_type(y.dtype)) for slot, y in floats.items()}

    def _loop(self, step: Step, env: dict[int, Value], path: tuple[str, ...]) -> None:
        values, path = [env[slot] for slot in step.ins], (*path, *step.path)
        run = {"scan": self._scan, "while": self._while, "cond": self._cond}[step.eqn.primitive.name]
        env.update(zip(step.outs, run(step, values, path), strict=True))

    def _scan(self, step: Step, values: list[Value], path: tuple[str, ...]) -> list[Value]:
        n_consts, n_carry = jaxprs.scan_counts(step.eqn)
        consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
        length = step.eqn.params["length"]
        ys: list[list[Value]] = [[] for _ in step.outs[n_carry:]]
        for t in reversed(range(length)) if step.eqn.params["reverse"] else range(length):
            inputs = [*consts, *carry, *(_item(x, t) for x in xs)]
            outs = self.run(step.eqn.params["jaxpr"], inputs, (*path, f"scan step {t}"), step.lines)
            carry = outs[:n_carry]
            for stack, y in zip(ys, outs[n_carry:], strict=True):
                stack.append(y)
        if step.eqn.params["reverse"]:
            ys = [stack[::-1] for stack in ys]
        shapes = [var.aval for var in step.eqn.outvars[n_carry:]]
        return [*carry, *(_stacked(stack) if stack else self._empty(s) for stack, s in zip(ys, shapes, strict=True))]

    def _empty(self, aval: Any) -> Value:
        return self.value(jnp.zeros(aval.shape, aval.dtype))

    def _while(self, step: Step, values: list[Value], path: tuple[str, ...]) -> list[Value]:
        params = step.eqn.params
        n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
        cond, body, carry = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
        t = 0
        while True:
            here = (*path, f"while step {t}")
            if not self.run(params["cond_jaxpr"], [*cond, *carry], here, step.lines)[0].narrow:
                return carry
            carry = self.run(params["body_jaxpr"], [*body, *carry], here, step.lines)
            t += 1

    def _cond(self, step: Step, values: list[Value], path: tuple[str, ...]) -> list[Value]:
        branches = step.eqn.params["branches"]
        index = int(np.clip(int(values[0].narrow), 0, len(branches) - 1))
        return self.run(branches[index], values[1:], (*path, f"branch {index} of cond"), step.lines)


def _item(stack: Value, t: int) -> Value:
    wide = None if stack.wide is None else stack.wide[t]
    return Value(stack.narrow[t], wide, stack.backward, stack.rounded, stack.unit, stack.error, stack.bad, stack.zero,
                 stack.lossy)  # fmt: skip


def _stacked(items: list[Value]) -> Value:
    wide = None if any(item.wide is None for item in items) else np.stack([item.wide for item in items])
    worst = max(items, key=lambda item: item.error)
    return Value(
        jnp.stack([item.narrow for item in items]),
        wide,
        backward=any(item.backward for item in items),
        rounded=any(item.rounded for item in items),
        unit=worst.unit,
        error=worst.error,
        bad=_first(item.bad for item in items),
        zero=_first(item.zero for item in items),
        lossy=worst.lossy,
    )


def _first(origins: Any) -> Any:
    return min(filter(None, origins), key=lambda origin: origin.number, default=None)
