"""Whether the steps of a derivation hold."""

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from dlfn.catalogue.derivations.notation import Derivation, Step, parse

__all__ = ["Checked", "check", "derivation", "derivations", "has_sympy"]

_TEXTS = Path(__file__).parent / "text"
POINTS = 3


@dataclasses.dataclass(frozen=True)
class Checked:
    """What became of one step.

    Attributes:
        step: the step.
        problem: what is wrong, or None.
        proven: whether SymPy proves it, beside the numbers; None where it was not asked, or is not installed.
    """

    step: Step
    problem: str | None
    proven: bool | None


@functools.cache
def derivations() -> dict[str, Derivation]:
    """All derivations, by id."""
    return {each.id: each for text in sorted(_TEXTS.glob("*.txt")) for each in parse(text.read_text("utf-8"))}


def derivation(id: str) -> Derivation:
    """That of a row; KeyError where there is none."""
    return derivations()[id]


def has_sympy() -> bool:
    return importlib.util.find_spec("sympy") is not None


def check(derivation: Derivation, *, symbolically: bool = True, points: int = POINTS) -> Iterator[Checked]:
    """Evaluates the sides of every step at random points in float64 and, with SymPy, proves them where it can.

    >>> from dlfn.catalogue.derivations import derivation
    >>> results = list(check(derivation("linear.sigmoid"), symbolically=False))
    >>> all(result.problem is None for result in results), len(results) > 3
    (True, True)
    """
    for step in derivation.steps:
        problem = _problem(step, derivation, points)
        yield Checked(
            step, problem, _proven(step, derivation) if symbolically and not problem and has_sympy() else None
        )


def _problem(step: Step, derivation: Derivation, points: int) -> str | None:
    from dlfn.catalogue.derivations.numbers import agree, evaluate

    for seed in range(points):
        try:
            sides = evaluate(step, derivation, seed)
        except Exception as error:  # whatever it is, this step does not hold, and the others may
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if wrong := agree(sides, step.relation, step.tolerance):
            return wrong
    return None


def _proven(step: Step, derivation: Derivation) -> bool:
    from dlfn.catalogue.derivations.symbols import proven

    return proven(step, derivation)
