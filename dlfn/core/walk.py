"""The reverse walk over a jaxpr, and over the ops in it. Calls and control flow are in :mod:`dlfn.core.control`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.ref import set as write

from dlfn.core import _jax, jaxprs, references
from dlfn.core.activity import is_discrete, is_flat, moving_outputs
from dlfn.core.errors import InputError
from dlfn.core.platforms import form_flat, form_p
from dlfn.core.primitives import (
    Linear,
    evaluate_compiled,
    is_float,
    is_inexact,
    linear_p,
    op_flat,
    op_p,
    strong,
    transpose_compiled,
)
from dlfn.core.rules import RULES, NoRule

__all__ = ["Back", "Record", "Result", "Walk", "structural", "zeros"]

Record = dict[str, Any]
Back = Callable[[Sequence[Any]], Sequence[Any]]


Result = tuple[list[Any], Back]
Structural = Callable[[Any, list[Any], list[bool], "Walk"], Result]

STRUCTURAL: dict[str, Structural] = {}


def structural(*names: str) -> Callable[[Structural], Structural]:
    """Registers ``function(eqn, values, needs, walk) -> (outputs, back)`` for primitives that a rule of inputs, outputs
    and cotangents cannot express: they contain jaxprs, or save residuals."""

    def register(function: Structural) -> Structural:
        STRUCTURAL.update(dict.fromkeys(names, function))
        return function

    return register


class Walk:
    """A reverse walk and what it carries along: the record of named cotangents (``None``: keep none), and whether the
    rules of ``custom_vjp`` and ``custom_jvp`` functions are used."""

    def __init__(self, record: Record | None, use_custom_rules: bool):
        self.record = record
        self.use_custom_rules = use_custom_rules
        self.line = ""

    def inner(self) -> "Walk":
        """A walk for a body that is traced by itself, which must return the walk's record as one of its outputs."""
        return Walk(None if self.record is None else {}, self.use_custom_rules)

    def source_line(self, eqn: Any) -> str:
        """The user's line of an equation, or that of the call around it where jax had traced the inside of that
        before."""
        return jaxprs.source_line(eqn) or self.line

    def slot(self, name: str) -> str:
        """A unique name, reserved in the order of the forward pass."""
        if self.record is None:
            return name
        count = 1 + sum(key == name or key.startswith(f"{name}#") for key in self.record)
        key = name if count == 1 else f"{name}#{count}"
        self.record[key] = None
        return key

    def reserve(self, *jaxprs_inside: Any) -> list[str]:
        """Slots for all names inside bodies that are traced on their own, in the order in which walks meet them."""
        if self.record is None:
            return []
        return [self.slot(name) for jaxpr in jaxprs_inside for name in _names(jaxpr, self.use_custom_rules)]

    def note(self, slot: str, cotangent: Any) -> None:
        if self.record is not None:
            self.record[slot] = cotangent

    def noted(self) -> Record:
        """The record, without the names that no cotangent reached."""
        return {name: bar for name, bar in (self.record or {}).items() if bar is not None}

    def order(self) -> list[str]:
        return list(self.record or ())

    def merge(self, slots: Sequence[str], order: Sequence[str], record: Record) -> None:
        """Takes over the record of an inner walk: the n-th name that it met has the n-th of the slots."""
        for slot, name in zip(slots, order, strict=True):
            self.note(slot, record.get(name))

    def _refuse_what_is_no_number(self, eqn: Any) -> None:
        """Raises where an equation makes of numbers what is neither a number nor discrete: backprop would lose the
        cotangent in it."""
        for var in () if eqn.primitive.name in STRUCTURAL else eqn.outvars:
            if not (is_inexact(var.aval.dtype) or is_discrete(var)):
                raise InputError(
                    f"backprop: {eqn.primitive.name!r} makes a {var.aval.dtype} of a number "
                    f"({self.source_line(eqn)}), which has no cotangent; use jax.grad"
                )

    def refuse_hidden_state(self, jaxpr: Any) -> None:
        """Raises where a jaxpr uses a mutable object that is not a reference: what is written into it and read again
        would look like a constant."""
        for eqn in jaxprs.parts(jaxpr)[0].eqns:
            for var in (*eqn.invars, *eqn.outvars):
                if not hasattr(var.aval, "dtype"):
                    raise InputError(
                        f"backprop: {eqn.primitive.name!r} uses a {type(var.aval).__name__} ({self.source_line(eqn)}), "
                        "and backprop follows arrays and references to them alone; pass arrays, or use jax.new_ref"
                    )
            for sub in jaxprs.subjaxprs(eqn):
                self.refuse_hidden_state(sub)

    def pullback(self, jaxpr: Any, inputs: Sequence[Any], active: Sequence[bool]) -> Result:
        """Evaluates a jaxpr. Returns its outputs and the function from their cotangents (``None``: zero) to those of
        the inputs, ``None`` at inputs that are not ``active`` or that no cotangent reached."""
        open_jaxpr, consts = jaxprs.parts(jaxpr)
        if references.mentioned(jaxpr):
            return self._without_references(jaxpr, inputs, [*[False] * len(consts), *active])
        env = dict(zip([*open_jaxpr.constvars, *open_jaxpr.invars], [*consts, *inputs], strict=True))
        moving = {
            var for var, here in zip(open_jaxpr.invars, active, strict=True) if here and is_inexact(var.aval.dtype)
        }
        steps: list[tuple[Any, list[bool], Back]] = []

        def read(atom: Any) -> Any:
            # A literal may be a bare number, and rules may use the shape and dtype of their inputs.
            return np.asarray(atom.val, _dtype(atom)) if isinstance(atom, Literal) else env[atom]

        for eqn in open_jaxpr.eqns:
            values = [read(atom) for atom in eqn.invars]
            needs = [not isinstance(atom, Literal) and atom in moving for atom in eqn.invars]
            outs, eqn_back = self.step(eqn, values, needs)
            if eqn_back is not None:
                steps.append((eqn, needs, eqn_back))
                moved = moving_outputs(eqn, needs, self.use_custom_rules)
                moving.update(var for var, moves in zip(eqn.outvars, moved, strict=True) if moves)
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
                for atom, needed, bar in zip(eqn.invars, needs, eqn_back(bars_out), strict=True):
                    if needed:
                        add(atom, bar)
            return [bars.get(var) for var in open_jaxpr.invars]

        return [read(atom) for atom in open_jaxpr.outvars], back

    def step(self, eqn: Any, values: list[Any], needs: Sequence[bool]) -> tuple[list[Any], Back | None]:
        """Evaluates one equation. Returns its outputs and the function from their cotangents (``None``: zero, but not
        all of them) to those of its inputs, ``None`` where an input is not one of those that it ``needs``; no function
        where no output moves."""
        with _jax.context(eqn):
            if not any(needs) or is_flat(eqn):
                for name in _names_of(eqn, self.use_custom_rules):
                    self.slot(name)
                return jaxprs.bind(eqn, values), None
            self._refuse_what_is_no_number(eqn)
            outs, back = STRUCTURAL.get(eqn.primitive.name, _by_rule)(eqn, values, list(needs), self)

        def fitting(bars: Sequence[Any]) -> list[Any]:
            with _jax.context(eqn):
                found = back(bars)
            return [
                _fitting(eqn, atom, bar) if needed and bar is not None else None
                for atom, needed, bar in zip(eqn.invars, needs, found, strict=True)
            ]

        return outs, fitting

    def _without_references(self, jaxpr: Any, inputs: Sequence[Any], active: Sequence[bool]) -> Result:
        """:meth:`pullback` of a jaxpr with references; ``active`` is for its constants too. References from outside the
        jaxpr hold what it wrote to them afterwards."""
        jaxpr, values, outside = references.as_values(jaxpr, inputs)
        outs, back = self.pullback(jaxpr, values, active)
        n_outs, n_consts = len(outs) - len(outside), len(values) - len(inputs)
        for ref, value in zip(outside, outs[n_outs:], strict=True):
            write(ref, ..., value)
        return outs[:n_outs], lambda bars: back([*bars, *[None] * len(outside)])[n_consts:]


def _dtype(atom: Any) -> Any:
    return atom.aval.dtype


def _fitting(eqn: Any, atom: Any, bar: Any) -> Any:
    bar = strong(bar)
    if bar.shape != atom.aval.shape or bar.dtype != atom.aval.dtype:
        raise InputError(
            f"backprop: the rule of {eqn.primitive.name!r} returned a cotangent {bar.dtype}{list(bar.shape)} for an "
            f"input {atom.aval.dtype}{list(atom.aval.shape)} ({jaxprs.source_line(eqn)})"
        )
    return bar


def zeros(bars: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    return [jnp.zeros_like(v) if bar is None else bar for bar, v in zip(bars, values, strict=True)]


def _by_rule(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    outs = jaxprs.bind(eqn, values)
    name, several = eqn.primitive.name, eqn.primitive.multiple_results
    slot = walk.slot(_path(eqn)) if name == "name" else None
    line = walk.source_line(eqn)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        rule = RULES.get(name)
        if rule is None:
            raise InputError(
                f"backprop: no rule for the primitive {name!r} ({line}); "
                f"give it one with dlfn.register_rule({name!r}, lambda dy, y, *xs, **params: ...)"
            )
        if slot is not None:
            walk.note(slot, bars[0])
        result = rule(bars if several else bars[0], outs if several else outs[0], *values, **eqn.params)
        result = result if isinstance(result, tuple | list) else (result,)
        for needed, bar in zip(needs, result, strict=True):
            if needed and isinstance(bar, NoRule):
                raise InputError(f"backprop: {name!r} has no rule {bar} ({line})")
        return result

    return outs, back


def _names(jaxpr: Any, use_custom_rules: bool) -> Iterator[str]:
    for eqn in jaxprs.parts(jaxpr)[0].eqns:
        yield from _names_of(eqn, use_custom_rules)


def _names_of(eqn: Any, use_custom_rules: bool) -> Iterator[str]:
    """The names that a walk over an equation records, in its order."""
    if eqn.primitive.name == "name":
        yield _path(eqn)
    elif eqn.primitive is op_p and not eqn.params["residuals"]:
        yield eqn.params["call"].op.name
    elif eqn.primitive.name in STRUCTURAL and not (use_custom_rules and eqn.primitive.name.startswith("custom_")):
        for jaxpr in jaxprs.subjaxprs(eqn):
            yield from _names(jaxpr, use_custom_rules)


def _path(eqn: Any) -> str:
    """A layer names its output after its place in its parent; the name stack knows the parents."""
    name, stack = eqn.params["name"], _jax.name_stack(eqn)
    return stack if stack.endswith(f"/{name}") else name


# Ops


@structural(op_p.name)
def _op(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    call, residuals = eqn.params["call"], eqn.params["residuals"]
    if residuals:  # an inner gradient has applied the rule already: its forward is ordinary code to differentiate
        return walk.pullback(jax.make_jaxpr(lambda *values: op_flat(*values, **eqn.params))(*values), values, needs)
    y, rest = evaluate_compiled(call, True, *values)
    outs, y_tree = jax.tree.flatten(y)
    rest, rest_tree = jax.tree.flatten(rest)
    floats = tuple(is_float(out.dtype) for out in outs)
    wrt = tuple(i for i, needed in enumerate(needs) if needed)
    slot = walk.slot(call.op.name)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        dy = zeros(bars, outs)
        walk.note(slot, y_tree.unflatten(dy))
        dy = [bar for bar, floating in zip(dy, floats, strict=True) if floating]
        cotangents: list[Any] = [None] * len(values)
        for i, bar in zip(wrt, transpose_compiled(Linear(call, wrt, y_tree, floats, rest_tree), rest, dy), strict=True):
            cotangents[i] = bar
        return cotangents

    return outs, back


@structural(form_p.name)
def _form(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """An inner gradient has applied a rule whose form depends on the platform: the default form is ordinary code."""
    default = jax.make_jaxpr(lambda *values: form_flat(*values, **eqn.params))
    return walk.pullback(default(*values), values, needs)


@structural(linear_p.name)
def _linear(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    linear = eqn.params["linear"]
    n_rest = len(values) - len(linear.wrt)

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        if any(needs[:n_rest]):
            raise InputError(
                f"backprop: the forward-mode derivative of {linear.call.op.name} ({walk.source_line(eqn)}) cannot be "
                "differentiated once more in its point; use jax.grad around it"
            )
        dy = zeros(bars, [v.aval for v in eqn.outvars])
        return [None] * n_rest + transpose_compiled(linear, values[:n_rest], dy)

    return jaxprs.bind(eqn, values), back
