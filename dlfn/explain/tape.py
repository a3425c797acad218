"""A program run once, on numbers, with all that its backward pass does written down.

Loops are run step by step, and of branches the one that is taken, so that every value of every step has its own
cotangent, and every cotangent is known as the sum of what each user of the value gave it. An equation is differentiated
by the rules of :func:`dlfn.backprop`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from dlfn.core import jaxprs, references
from dlfn.core.activity import moving_outputs
from dlfn.core.entering import CALLS
from dlfn.core.primitives import is_inexact
from dlfn.core.walk import Walk

__all__ = ["ENTERED", "Context", "Key", "Loop", "Recorded", "Slot", "Tape", "Use"]

Key = tuple[int, ...]  # an equation and those around it, by their identities

_CALLS = frozenset((*CALLS, "remat2", "checkpoint", "composite", "xla_metadata_call")) - {
    "custom_jvp_call",
    "custom_vjp_call",
}
# Calls, loops and branches, whose steps are shown in their place, and names, which are no steps.
ENTERED = frozenset((*_CALLS, "cond", "scan", "name"))


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """A scan; ``around`` is the loop that it is in."""

    key: Key
    eqn: Any
    group: str
    source: Any
    around: "Loop | None"


@dataclasses.dataclass(frozen=True)
class Context:
    """Where an equation is: in which calls, loops and branches, at which steps of the loops, in which layers, and what
    the user wrote there."""

    key: Key = ()
    at: tuple[int, ...] = ()
    loop: Loop | None = None
    group: str = ""
    source: Any = None

    def inside(self, eqn: Any, **more: Any) -> "Context":
        group = "/".join(filter(None, (self.group, jaxprs.name_stack(eqn))))
        source = jaxprs.source(eqn) or self.source
        key = (*self.key, id(eqn))
        return dataclasses.replace(self, key=key, group=group, source=source, **more)


@dataclasses.dataclass(eq=False)
class Recorded:
    """An equation at its place, or an input of the program (without one), with its values at all steps of the loops
    around it.

    Attributes:
        inputs: of each time that it ran, the slots of its operands; None for literals.
        outputs: of each time, the slots of its results.
        at: of each time, the steps of the loops around it.
    """

    key: Key
    eqn: Any
    context: Context
    inputs: list[list["Slot | None"]] = dataclasses.field(default_factory=list)
    outputs: list[list["Slot"]] = dataclasses.field(default_factory=list)
    at: list[tuple[int, ...]] = dataclasses.field(default_factory=list)


Use = tuple[Key, int]  # who uses a value, as which operand


@dataclasses.dataclass(eq=False)
class Slot:
    """A value, who made it, and its cotangent, in all and from each user.

    Attributes:
        of: for a slice of another value, or a stack of others, these: it was made by those that made them.
        stacked: whether it is such a stack.
    """

    value: Any
    moving: bool
    maker: Recorded | None = None
    output: int = 0
    at: tuple[int, ...] = ()
    of: tuple["Slot", ...] = ()
    stacked: bool = False
    bar: Any = None
    terms: dict[Use, Any] = dataclasses.field(default_factory=dict)

    def add(self, use: Use | None, bar: Any) -> None:
        self.bar = bar if self.bar is None else self.bar + bar
        if use is not None:
            self.terms[use] = bar if use not in self.terms else self.terms[use] + bar

    def makers(self) -> list["Slot"]:
        """The slots of the equations or inputs that made it."""
        if not self.of:
            return [self]
        return [maker for slot in self.of for maker in slot.makers()]


class Tape:
    """What was recorded: ``steps`` in the order in which they first ran, and ``names`` that the user or a layer gave to
    values."""

    def __init__(self) -> None:
        self.steps: dict[Key, Recorded] = {}
        self.names: dict[tuple[Key, int], str] = {}
        self._walk = Walk(None, True)
        self._events: list[Callable[[], None]] = []

    def input(self, value: Any, moving: bool) -> Slot:
        recorded = Recorded((-1 - len(self.steps),), None, Context())
        slot = Slot(jnp.asarray(value), moving, recorded)
        recorded.inputs.append([])
        recorded.outputs.append([slot])
        recorded.at.append(())
        self.steps[recorded.key] = recorded
        return slot

    def back(self) -> None:
        """Runs backwards, from the cotangents that were added to the outputs."""
        for event in reversed(self._events):
            event()

    def program(self, jaxpr: Any, inputs: Sequence[Any], moving: Sequence[bool]) -> tuple[list[Slot], list[Slot]]:
        """Runs a program, whose inputs are recorded, and after them the arrays that it closes over: the slots of both,
        and of its outputs."""
        slots = [self.input(value, moves) for value, moves in zip(inputs, moving, strict=True)]
        closed_over = [self.input(const, False) for const in jaxprs.parts(jaxpr)[1]]
        return [*slots, *closed_over], self.run(jaxpr, slots, Context(), closed_over)

    def run(
        self, jaxpr: Any, slots: Sequence[Slot], context: Context, closed_over: Sequence[Slot] | None = None
    ) -> list[Slot]:
        if references.mentioned(jaxpr):
            jaxpr, values, outside = references.as_values(jaxpr, [slot.value for slot in slots])
            consts = closed_over or [Slot(value, False) for value in values[: len(values) - len(slots)]]
            return self.run(jaxpr, [*consts, *slots], context)[: -len(outside) or None]
        jaxpr, consts = jaxprs.parts(jaxpr)
        consts = closed_over or [Slot(const, False) for const in consts]
        env = dict(zip([*jaxpr.invars, *jaxpr.constvars], [*slots, *consts], strict=True))

        def read(atom: Any) -> Slot:
            # A literal may be a bare number, and rules may use the shape and dtype of their inputs.
            return Slot(np.asarray(atom.val, _dtype(atom)), False) if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            env.update(zip(eqn.outvars, self._equation(eqn, [read(atom) for atom in eqn.invars], context), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, ins: list[Slot], context: Context) -> Sequence[Slot]:
        name = eqn.primitive.name
        if name == "name":
            self._name(ins[0], eqn, context)
            return ins
        inside = context.inside(eqn)
        if name in _CALLS:
            body = eqn.params[CALLS[name]] if name in CALLS else next(jaxprs.subjaxprs(eqn))
            return self.run(body, ins, inside)
        if name == "cond":
            branches = eqn.params["branches"]
            chosen = int(np.clip(np.asarray(ins[0].value), 0, len(branches) - 1))
            return self.run(branches[chosen], ins[1:], dataclasses.replace(inside, key=(*inside.key, chosen)))
        if name == "scan":
            return self._scan(eqn, ins, inside)
        return self._leaf(eqn, ins, inside)

    def _name(self, slot: Slot, eqn: Any, context: Context) -> None:
        given = eqn.params["name"]
        full = context.inside(eqn).group
        for maker in slot.makers():
            if maker.maker is not None and maker.maker.eqn is not None:
                name = full if full.rpartition("/")[2] == given.rpartition("/")[2] else given
                self.names.setdefault((maker.maker.key, maker.output), name)

    def _scan(self, eqn: Any, ins: list[Slot], context: Context) -> list[Slot]:
        n_consts, n_carry = jaxprs.scan_counts(eqn)
        consts, carry, xs = ins[:n_consts], ins[n_consts : n_consts + n_carry], ins[n_consts + n_carry :]
        loop = Loop(context.key, eqn, context.group, context.source, context.loop)
        length = eqn.params["length"]
        slices = [self._slices(x, length) for x in xs]
        results: list[list[Slot]] = [[] for _ in eqn.outvars[n_carry:]]
        steps = range(length)
        for t in reversed(steps) if eqn.params["reverse"] else steps:
            here = dataclasses.replace(context, at=(*context.at, t), loop=loop)
            outs = self.run(eqn.params["jaxpr"], [*consts, *carry, *(x[t] for x in slices)], here)
            carry = outs[:n_carry]
            for result, out in zip(results, outs[n_carry:], strict=True):
                result.append(out)
        if eqn.params["reverse"]:
            results = [result[::-1] for result in results]
        stacked = [self._stack(result, var.aval) for result, var in zip(results, eqn.outvars[n_carry:], strict=True)]
        return [*carry, *stacked]

    def _slices(self, whole: Slot, length: int) -> list[Slot]:
        of = whole.of if whole.stacked else [whole] * length
        parts = [Slot(whole.value[t], whole.moving, of=(of[t],)) for t in range(length)]

        def back() -> None:
            bars = [part.bar for part in parts]
            if any(bar is not None for bar in bars):
                zero = jnp.zeros(whole.value.shape[1:], whole.value.dtype)
                whole.add(None, jnp.stack([zero if bar is None else bar for bar in bars]))
                for use in dict.fromkeys(use for part in parts for use in part.terms):
                    whole.terms[use] = jnp.stack([part.terms.get(use, zero) for part in parts])

        if whole.moving:
            self._events.append(back)
        return parts

    def _stack(self, parts: list[Slot], aval: Any) -> Slot:
        value = jnp.stack([part.value for part in parts]) if parts else jnp.zeros(aval.shape, aval.dtype)
        whole = Slot(value, any(part.moving for part in parts), of=tuple(parts), stacked=True)

        def back() -> None:
            for t, part in enumerate(parts):
                if whole.bar is not None and part.moving:
                    part.add(None, whole.bar[t])
                    for use, bar in whole.terms.items():
                        part.terms[use] = bar[t]

        self._events.append(back)
        return whole

    def _leaf(self, eqn: Any, ins: list[Slot], context: Context) -> list[Slot]:
        needs = [slot.moving and is_inexact(slot.value.dtype) for slot in ins]
        values, back = self._walk.step(eqn, [slot.value for slot in ins], needs)
        moved = moving_outputs(eqn, needs, True) if back else [False] * len(values)
        recorded = self.steps.setdefault(context.key, Recorded(context.key, eqn, context))
        outs = [Slot(v, moves, recorded, i, context.at) for i, (v, moves) in enumerate(zip(values, moved, strict=True))]
        literal = [isinstance(atom, Literal) for atom in eqn.invars]
        recorded.inputs.append([None if lit else slot for lit, slot in zip(literal, ins, strict=True)])
        recorded.outputs.append(outs)
        recorded.at.append(context.at)

        def run_back() -> None:
            bars = [out.bar for out in outs]
            if back is not None and any(bar is not None for bar in bars):
                for operand, (slot, bar) in enumerate(zip(ins, back(bars), strict=True)):
                    if bar is not None:
                        slot.add((context.key, operand), bar)

        if back is not None:
            self._events.append(run_back)
        return outs


def _dtype(atom: Any) -> Any:
    return atom.aval.dtype
