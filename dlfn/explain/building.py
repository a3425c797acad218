"""The steps of an explanation out of what a tape recorded."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dlfn.check.describing import operands
from dlfn.check.rules import rule_of
from dlfn.core.primitives import op_p
from dlfn.explain.costs import bytes_moved, flops
from dlfn.explain.explanation import Group, Input, LoopInfo, Output, Parameter, Step, Term
from dlfn.explain.formulas import formulas_of
from dlfn.explain.latex import symbols
from dlfn.explain.naming import source_of
from dlfn.explain.summaries import Summary, summarized
from dlfn.explain.tape import Key, Loop, Recorded, Slot, Tape

__all__ = ["Argument", "built"]

_MINOR = frozenset((
    "broadcast_in_dim", "convert_element_type", "copy", "device_put", "expand_dims", "iota", "layout_constraint",
    "optimization_barrier", "pvary", "reshape", "reshard", "sharding_constraint", "squeeze", "stop_gradient",
))  # fmt: skip
_EXAMINED = 64  # times of a step in a loop, of which it is asked where its operands come from


class Argument(NamedTuple):
    """An input of the program: its name, and what is shown of its gradient, if it is differentiated."""

    name: str
    kind: str
    parameter: Parameter | None


def built(
    tape: Tape, arguments: Sequence[Argument], keep: bool
) -> tuple[tuple[Group, ...], tuple[LoopInfo, ...], tuple[Step, ...]]:
    """Layers, loops and steps."""
    builder = _Builder(tape, arguments, keep)
    steps = tuple(builder.step(recorded) for recorded in tape.steps.values())
    return tuple(builder.groups.values()), tuple(builder.loops.values()), steps


class _Builder:
    def __init__(self, tape: Tape, arguments: Sequence[Argument], keep: bool):
        self.tape, self.arguments, self.keep = tape, arguments, keep
        self.numbers: dict[Key, int] = {key: i for i, key in enumerate(tape.steps)}
        self.groups: dict[str, Group] = {}
        self.loops: dict[Key, LoopInfo] = {}
        self.names = self._names()
        self.fresh: dict[int, list[Parameter]] = {}  # of steps that only hand parameters on
        self.labels: dict[Key, list[str]] = {}

    def _names(self) -> dict[Key, str]:
        """Names that were given; the variable of a line of the user's for the last step in it; else what a step does,
        and in which layer."""
        steps = [recorded for recorded in self.tape.steps.values() if recorded.eqn is not None]
        last = {
            (recorded.context.source[:2], recorded.key[:-1]): recorded.key
            for recorded in steps
            if recorded.context.source and recorded.eqn.primitive.name not in _MINOR
        }
        found = {}
        for recorded in steps:
            source = source_of(recorded.context.source)
            is_last = source is not None and last.get(((source.file, source.line), recorded.key[:-1])) == recorded.key
            called = "/".join(filter(None, (recorded.context.group, _called(recorded.eqn))))
            variable = source.variable if source is not None and is_last else ""
            found[recorded.key] = self.tape.names.get((recorded.key, 0)) or variable or called
        return found

    def step(self, recorded: Recorded) -> Step:
        number = self.numbers[recorded.key]
        outputs = tuple(self._output(recorded, i) for i in range(len(recorded.outputs[0])))
        terms = tuple(term for i in range(len(outputs)) for term in self._terms(recorded, i))
        if recorded.eqn is None:
            argument = self.arguments[number]
            self.fresh[number] = [] if argument.parameter is None else [argument.parameter]
            return Step(
                number, argument.name, argument.kind, argument.kind, None, None, f"an {argument.kind}" if
                argument.kind == "argument" else f"a {argument.kind}", None, None, None, False, (), outputs, terms, (),
                None, None,
            )  # fmt: skip
        eqn, context = recorded.eqn, recorded.context
        needs = [slot is not None and slot.moving for slot in recorded.inputs[0]]
        moves = any(slot.moving for slot in recorded.outputs[0])
        equation, rule, reason = formulas_of(eqn, needs if moves else [False] * len(needs))
        minor = eqn.primitive.name in _MINOR or not moves
        inputs = self._inputs(recorded)
        parameters = [p for each in inputs for p in self.fresh.pop(each.step, ())]
        if minor:
            self.fresh[number], parameters = parameters, []
        times = len(recorded.outputs)
        kind = "op" if eqn.primitive is op_p else "rule" if rule_of(eqn) is not None else "primitive"
        return Step(
            number, self.names[recorded.key], kind, _called(eqn), equation, rule, reason, source_of(context.source),
            self._group(context.group), self._loop(context.loop), minor, inputs, outputs, terms, tuple(parameters),
            times * flops(eqn), times * bytes_moved(eqn), times,
        )  # fmt: skip

    def _output(self, recorded: Recorded, i: int) -> Output:
        slots = [outs[i] for outs in recorded.outputs]
        first = slots[0].value
        bars = [slot.bar for slot in slots]
        reached = any(bar is not None for bar in bars)
        shown = isinstance(first.dtype, np.dtype)  # random keys have no numbers
        return Output(
            tuple(first.shape),
            str(first.dtype),
            self._summary(recorded, [slot.value for slot in slots]) if shown else None,
            self._summary(recorded, _filled(bars, slots)) if reached else None,
        )

    def _terms(self, recorded: Recorded, i: int) -> list[Term]:
        slots = [outs[i] for outs in recorded.outputs]
        found = []
        for use in dict.fromkeys(use for slot in slots for use in slot.terms):
            key, operand = use
            value = self._summary(recorded, _filled([slot.terms.get(use) for slot in slots], slots))
            found.append(Term(i, self.numbers[key], operand, self._labels(self.tape.steps[key])[operand], value))
        return found

    def _summary(self, recorded: Recorded, values: Sequence[Any]) -> Summary:
        if recorded.context.loop is None:
            return summarized(values[0], keep=self.keep)
        order = sorted(range(len(values)), key=lambda i: recorded.at[i])
        steps = [recorded.at[i][-1] for i in order] if len(recorded.at[0]) == 1 else range(len(values))
        return summarized(np.stack([np.asarray(values[i]) for i in order]), keep=self.keep, steps=steps)

    def _inputs(self, recorded: Recorded) -> tuple[Input, ...]:
        found: dict[tuple[int, int, int, bool], None] = {}
        times = len(recorded.inputs)
        chosen = range(times) if times <= _EXAMINED else (0, 1, times // 2, times - 1)
        for time in chosen:
            for operand, slot in enumerate(recorded.inputs[time]):
                for maker in [] if slot is None else slot.makers():
                    if maker.maker is not None:
                        carried = _carried(maker, recorded, recorded.at[time])
                        found[(operand, self.numbers[maker.maker.key], maker.output, carried)] = None
        labels = self._labels(recorded)
        return tuple(Input(step, output, labels[operand], carried) for operand, step, output, carried in sorted(found))

    def _labels(self, recorded: Recorded) -> list[str]:
        if recorded.key not in self.labels:
            self.labels[recorded.key] = _labels(recorded.eqn)
        return self.labels[recorded.key]

    def _group(self, path: str) -> int | None:
        if not path:
            return None
        if path not in self.groups:
            above, _, label = path.rpartition("/")
            parent = self._group(above)
            self.groups[path] = Group(len(self.groups), path, label, parent)
        return self.groups[path].id

    def _loop(self, loop: Loop | None) -> int | None:
        if loop is None:
            return None
        if loop.key not in self.loops:
            parent, source = self._loop(loop.around), source_of(loop.source)
            name = loop.group or (source.variable or source.code if source else "") or "scan"
            length, reverse = loop.eqn.params["length"], loop.eqn.params["reverse"]
            self.loops[loop.key] = LoopInfo(len(self.loops), name, length, reverse, parent, source)
        return self.loops[loop.key].id


def _labels(eqn: Any) -> list[str]:
    if eqn.primitive is op_p or rule_of(eqn) is not None:
        return operands(eqn)
    return list(symbols(eqn.primitive.name, len(eqn.invars))[1])


def _called(eqn: Any) -> str:
    rule = rule_of(eqn)
    return rule.name if rule is not None else eqn.primitive.name


def _filled(bars: Sequence[Any], slots: Sequence[Slot]) -> list[Any]:
    return [
        np.zeros(slot.value.shape, slot.value.dtype) if b is None else b for b, slot in zip(bars, slots, strict=True)
    ]


def _carried(maker: Slot, user: Recorded, at: tuple[int, ...]) -> bool:
    """Whether a value comes from another step of a loop that both are in."""
    assert maker.maker is not None
    theirs, ours = _loops(maker.maker.context.loop), _loops(user.context.loop)
    shared = 0
    while shared < min(len(theirs), len(ours)) and theirs[shared] == ours[shared]:
        shared += 1
    return maker.at[:shared] != at[:shared]


def _loops(loop: Loop | None) -> list[Key]:
    return [] if loop is None else [*_loops(loop.around), loop.key]
