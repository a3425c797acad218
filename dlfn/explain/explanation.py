"""What :func:`dlfn.explain` found, as data, as a table and as JSON."""

import dataclasses
import datetime
import importlib.metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dlfn.check.table import as_json, width
from dlfn.explain.naming import Source
from dlfn.explain.printing import text_of
from dlfn.explain.summaries import Summary
from dlfn.files import write_text

__all__ = ["Agreement", "Explanation", "Group", "Input", "LoopInfo", "Output", "Parameter", "Step", "Term"]


@dataclasses.dataclass(frozen=True)
class Input:
    """Where an operand comes from: the number of a step and which of its outputs. ``carried``: of the loop's step
    before."""

    step: int
    output: int
    label: str
    carried: bool


@dataclasses.dataclass(frozen=True)
class Output:
    """A value and its cotangent δ, None where none reaches it. In loops both have an axis in front for the times that
    the step ran; ``shape`` is without it."""

    shape: tuple[int, ...]
    dtype: str
    value: Summary | None
    delta: Summary | None


@dataclasses.dataclass(frozen=True)
class Term:
    """What one user of an output gives to its δ, which is the sum of its terms."""

    output: int
    user: int
    operand: int
    label: str
    value: Summary


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A leaf that is differentiated, with its gradient by ``jax.grad``, and how far those by backprop and by autodiff
    of the definitions are from it, relative to it; None where there is none."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    value: Summary
    gradient: Summary
    backprop: float | None
    autodiff: float | None
    ok: bool


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of the forward pass, and what the backward pass does at it.

    Attributes:
        id: its place among the steps.
        name: by layer path, variable, or what it does.
        kind: ``"argument"``, ``"parameter"`` (an argument that is differentiated), ``"constant"``, ``"op"``, ``"rule"``
            (somebody's ``custom_vjp`` or ``custom_jvp``) or ``"primitive"``.
        op: the op's or primitive's name.
        equation, rule: LaTeX; where one is None, ``reason`` says why.
        source: the line.
        group, loop: numbers of the layer and the loop that it is in.
        minor: whether it only moves or casts numbers, or nothing in it is differentiated.
        terms: what the δ's of its outputs are the sums of.
        parameters: those that it is the first to use.
        flops, bytes: what it costs, all its times together.
    """

    id: int
    name: str
    kind: str
    op: str
    equation: str | None
    rule: str | None
    reason: str | None
    source: Source | None
    group: int | None
    loop: int | None
    minor: bool
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    terms: tuple[Term, ...]
    parameters: tuple[Parameter, ...]
    flops: int | None
    bytes: int | None
    times: int = 1

    @property
    def value(self) -> Summary | None:
        """Of the first output."""
        return self.outputs[0].value if self.outputs else None

    @property
    def delta(self) -> Summary | None:
        """Of the first output."""
        return self.outputs[0].delta if self.outputs else None


@dataclasses.dataclass(frozen=True)
class Group:
    """A layer, by its path."""

    id: int
    name: str
    label: str
    parent: int | None


@dataclasses.dataclass(frozen=True)
class LoopInfo:
    """A loop of so many steps."""

    id: int
    name: str
    length: int
    reverse: bool
    parent: int | None
    source: Source | None


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The largest relative distances of the gradients by backprop and by autodiff from that by ``jax.grad``; None where
    there is none, which a note explains."""

    backprop: float | None
    autodiff: float | None
    ok: bool
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What :func:`dlfn.explain` found. Printing it gives a table.

    Attributes:
        title: what is explained.
        value: of the function, or its product with the cotangent.
        agreement: of the three gradients.
        groups, loops: layers and loops that steps are in.
        steps: in the order of the forward pass.
    """

    title: str
    value: float
    agreement: Agreement
    groups: tuple[Group, ...]
    loops: tuple[LoopInfo, ...]
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether the three gradients agree."""
        return self.agreement.ok

    def __getitem__(self, name: str) -> Step:
        """The first step of that name.

        Raises:
            KeyError: where there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """All of it as data that JSON has."""
        return {
            "title": self.title,
            "source": self.title,
            "dlfn": importlib.metadata.version("dlfn"),
            "jax": jax.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "value": _number(self.value),
            "agreement": _plain(dataclasses.asdict(self.agreement)),
            "groups": [dataclasses.asdict(group) for group in self.groups],
            "loops": [_plain(loop) for loop in self.loops],
            "steps": [_step(step) for step in self.steps],
        }

    def write_json(self, path: str | Path) -> None:
        write_text(Path(path), as_json(self.to_json()) + "\n")

    def to_html(self, path: str | Path) -> None:
        """Writes a page of it, which needs no other file and no network."""
        from dlfn.explain.page import render

        write_text(Path(path), render(self.to_json()))

    def __str__(self) -> str:
        return text_of(self, width())


def _step(step: Step) -> dict[str, Any]:
    found = _plain(step)
    del found["times"]
    return found


def _plain(found: Any) -> Any:
    if isinstance(found, Summary | Source):
        return found.to_json()
    if dataclasses.is_dataclass(found):
        return {field.name: _plain(getattr(found, field.name)) for field in dataclasses.fields(found)}
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(value) for value in found]
    return _number(found) if isinstance(found, float) else found


def _number(value: float) -> Any:
    return value if np.isfinite(value) else str(value)
