"""What :func:`dlfn.why` found, as data and as a report."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dlfn.check.causes import explain
from dlfn.check.origins import Origin
from dlfn.check.table import as_json

__all__ = ["Finding", "Why", "chain", "finding"]

_SHOWN = 3  # how many coordinates


@dataclasses.dataclass(frozen=True)
class Finding:
    """An equation at which a value became nan, inf or 0, or lost its digits.

    Attributes:
        kind: "nan"; "inf"; "zero", rounded to 0; "dead", where a whole cotangent ends; or "lossy".
        phase: "forward" or "backward".
        line: the source line, ``model.py:12:8 (loss)``, the innermost of the user's and of rules; empty for arguments.
        called_from: the lines of the calls around it, the innermost first.
        path: the loops, steps, branches and rules around it, the outermost first.
        equation: the primitive that the equation computes.
        derivative_of: the primitive whose derivative it belongs to; empty where it belongs to the function itself.
        dtype, shape: of its result.
        count: how many coordinates of that are concerned.
        coordinates: the first of them.
        operands: at the first of them; operands of another shape in a summary.
        cause: what happened, in a sentence.
        reaches: the values and gradients that are wrong for it.
    """

    kind: str
    phase: str
    line: str
    called_from: tuple[str, ...]
    path: tuple[str, ...]
    equation: str
    derivative_of: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    coordinates: tuple[tuple[int, ...], ...]
    operands: tuple[Any, ...]
    cause: str
    reaches: tuple[str, ...]

    def __str__(self) -> str:
        where = f" at {self.line}" if self.line else ""
        place = "".join(f", in {name}" for name in reversed(self.path)) if self.line else ""
        calls = [f"called from {', from '.join(self.called_from)}"] if self.called_from else []
        of = f" (derivative of {self.derivative_of})" if self.derivative_of else ""
        at = f", first at {list(self.coordinates[0])}" if self.coordinates else ""
        count = f"{self.count} of {math.prod(self.shape)} in {self.dtype}{list(self.shape)}"
        return "\n    ".join(
            [
                f"{self.kind}, {self.phase}{where}{place}",
                *calls,
                self.cause,
                f"{self.equation}{of}: {count}{at}; reaches {', '.join(self.reaches)}",
            ]
        )


@dataclasses.dataclass(frozen=True)
class Why:
    """What :func:`dlfn.why` found; true if it found anything. Printing it gives a report, whose first finding is the
    first that went wrong."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __str__(self) -> str:
        nothing = (
            [] if self.findings else ["nothing found: no value or gradient is nan, inf, all zeros or without digits"]
        )
        return "\n".join([*nothing, *map(str, self.findings), *self.notes])

    def to_json(self) -> str:
        """The report for programs: an object with ``findings`` and ``notes``. What is not finite is a string."""
        return as_json(dataclasses.asdict(self))


def finding(origin: Origin, reaches: Iterable[str]) -> Finding:
    """An origin for people."""
    shown = origin.at[:_SHOWN] if origin.shape else ()
    return Finding(
        kind=origin.kind,
        phase=origin.phase,
        line=origin.lines[0] if origin.lines else "",
        called_from=origin.lines[1:],
        path=origin.path,
        equation=origin.primitive,
        derivative_of=origin.derivative_of,
        dtype=origin.dtype,
        shape=origin.shape,
        count=len(origin.at),
        coordinates=tuple(tuple(map(int, np.unravel_index(at, origin.shape))) for at in shown),
        operands=origin.operands,
        cause=explain(origin),
        reaches=tuple(reaches),
    )


def chain(origin: Origin) -> Iterator[Origin]:
    """An origin and those that led to it. That the derivative of a primitive is infinite is said together with the nan
    that 0 times it makes."""
    yield origin
    for cause in origin.causes:
        same = origin.derivative_of and (cause.derivative_of, cause.lines) == (origin.derivative_of, origin.lines)
        if not (same and origin.primitive == "mul"):
            yield from chain(cause)
