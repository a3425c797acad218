"""A jaxpr as a list of steps: calls are opened, loops and branches stay, and what is between them is compiled at once.

Each step's result is kept, as the program's own equations round it: without XLA's optimiser, which would compute half
types with more digits than they have.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from dlfn.core import jaxprs
from dlfn.core.tracked import called, derivative_of, widened

__all__ = ["Plan", "Programs", "Step", "compiled", "is_inexact", "make_plan", "wide_type"]

_LOOPS = ("scan", "while", "cond")
_COMPILER_OPTIONS = {
    "xla_allow_excess_precision": False,
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@dataclasses.dataclass(frozen=True)
class Step:
    """An equation and where it stands. Operands and results are numbers of slots.

    Attributes:
        lines: the source line of the equation, and those of the calls around it, from the inside.
        path: the names of the calls around it.
        derivative_of: the primitive that it computes, or computes the derivative of.
        bits: the number of the call around it that computes with the bits of floating-point numbers, if there is one.
            What such a call does depends on the dtype, and it is not followed in float64.
    """

    eqn: Any
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    lines: tuple[str, ...]
    path: tuple[str, ...]
    derivative_of: str
    bits: int | None

    @property
    def loops(self) -> bool:
        return self.eqn.primitive.name in _LOOPS


@dataclasses.dataclass(frozen=True)
class Plan:
    """The steps of a jaxpr, in segments: either one loop or branch, or several equations that are compiled together."""

    inputs: tuple[int, ...]
    constants: dict[int, Any]
    segments: tuple[tuple[Step, ...], ...]
    outputs: tuple[int, ...]


def make_plan(jaxpr: Any, lines: tuple[str, ...] = (), path: tuple[str, ...] = ()) -> Plan:
    """The plan of a jaxpr that stands within calls at these lines."""
    return _Planner().plan(jaxpr, lines, path)


class _Planner:
    def __init__(self) -> None:
        self.slots = 0
        self.constants: dict[int, Any] = {}
        self.steps: list[Step] = []

    def plan(self, jaxpr: Any, lines: tuple[str, ...], path: tuple[str, ...]) -> Plan:
        inputs = tuple(self.slot() for _ in jaxprs.parts(jaxpr)[0].invars)
        outputs = self.open(jaxpr, inputs, lines, path, None)
        segments: list[tuple[Step, ...]] = []
        for step in self.steps:
            if step.loops or not segments or segments[-1][-1].loops:
                segments.append((step,))
            else:
                segments[-1] = (*segments[-1], step)
        return Plan(inputs, self.constants, tuple(segments), outputs)

    def slot(self) -> int:
        self.slots += 1
        return self.slots

    def constant(self, value: Any) -> int:
        slot = self.slot()
        self.constants[slot] = value
        return slot

    def open(
        self, jaxpr: Any, ins: Sequence[int], lines: tuple[str, ...], path: tuple[str, ...], bits: int | None
    ) -> tuple[int, ...]:
        """Adds the steps of a jaxpr with these operands, and returns the slots of its outputs."""
        jaxpr, consts = jaxprs.parts(jaxpr)
        env = dict(zip(jaxpr.invars, ins, strict=True))
        env.update((var, self.constant(value)) for var, value in zip(jaxpr.constvars, consts, strict=True))

        def read(atom: Any) -> int:
            aval = atom.aval
            return self.constant(np.asarray(atom.val, aval.dtype)) if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            operands = tuple(map(read, eqn.invars))
            line = jaxprs.source_line(eqn)
            here = lines if not line or line in lines[:1] else (line, *lines)
            inside = called(eqn)
            if inside is None:
                outs = tuple(self.slot() for _ in eqn.outvars)
                self.steps.append(Step(eqn, operands, outs, here, path, derivative_of(eqn), bits))
            else:
                name = str(eqn.params.get("name", ""))
                within = (*path, name) if line and name and not name.startswith("_") else path
                number = bits if bits is not None or not _takes_bits(inside) else len(self.steps)
                outs = self.open(inside, operands, here, within, number)
            env.update(zip(eqn.outvars, outs, strict=True))
        return tuple(map(read, jaxpr.outvars))


def _takes_bits(jaxpr: Any) -> bool:
    eqns: Any = jaxprs.parts(jaxpr)[0].eqns
    return any(eqn.primitive.name == "bitcast_convert_type" and is_inexact(eqn.invars[0].aval.dtype) for eqn in eqns)


def is_inexact(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


@dataclasses.dataclass(frozen=True)
class Programs:
    """A segment compiled.

    Attributes:
        narrow: the results of its steps from their operands, both by slot.
        wide: the same in float64, from operands in float64 and what ``narrow`` returned, of which integers and flags,
            and so all decisions, are taken.
        rounded: the slots whose equation has no form in float64, once ``wide`` was traced.
    """

    narrow: Callable[[dict[int, Any]], dict[int, Any]]
    wide: Callable[[dict[int, Any], dict[int, Any]], dict[int, Any]]
    rounded: set[int]


def compiled(segment: tuple[Step, ...]) -> Programs:
    rounded: set[int] = set()

    def narrow(values: dict[int, Any]) -> dict[int, Any]:
        values = dict(values)
        for step in segment:
            values.update(zip(step.outs, jaxprs.bind(step.eqn, [values[i] for i in step.ins]), strict=True))
        return {slot: values[slot] for step in segment for slot in step.outs}

    def wide(values: dict[int, Any], narrow: dict[int, Any]) -> dict[int, Any]:
        values = {**narrow, **values}
        for step in segment:
            if step.bits is not None or any(is_inexact(var.aval.dtype) for var in step.eqn.outvars):
                outs, exact = _bind_wide(step, [values[i] for i in step.ins])
                values.update(zip(step.outs, outs, strict=True))
                rounded.update(() if exact else step.outs)
        slots = (slot for step in segment for slot in step.outs)
        return {slot: values[slot] for slot in slots if is_inexact(values[slot].dtype)}

    return Programs(
        jax.jit(narrow, compiler_options=_COMPILER_OPTIONS), jax.jit(wide, compiler_options=_COMPILER_OPTIONS), rounded
    )


def _bind_wide(step: Step, values: list[Any]) -> tuple[list[Any], bool]:
    """An equation in float64, and True; or in its own dtypes, on operands rounded to them, where it has no other form,
    and False."""
    if step.eqn.primitive.name == "reduce_precision":
        return values[:1], True
    if step.bits is None and not any(jaxprs.subjaxprs(step.eqn)):
        try:
            return jaxprs.bind(widened(step.eqn), values), True
        except Exception:  # whatever a primitive says of operands in float64
            pass
    types = [var.aval.dtype for var in step.eqn.invars]
    narrow = [x.astype(dtype) if is_inexact(x.dtype) else x for x, dtype in zip(values, types, strict=True)]
    return [y.astype(wide_type(y.dtype)) if is_inexact(y.dtype) else y for y in jaxprs.bind(step.eqn, narrow)], False


def wide_type(dtype: Any) -> Any:
    return jnp.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.float64
