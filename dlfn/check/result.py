"""What a comparison of gradients found, as data and as a table."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from dlfn.check.calls import Audit
from dlfn.check.measures import FINITE_DIFFERENCE_TOLERANCE, LINEARITY, NUMERIC
from dlfn.check.table import as_json, format_table, shortened, width, wrapped
from dlfn.core import GradientError

__all__ = ["Comparison", "Failure", "Row"]

# How many leaves a table shows at most. Of those that agree, the few that are nearest to their bounds say enough.
_FAILING, _PASSING = 20, 8
_LEAF = 16  # how many characters of a path are worth more than its shape


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of the arguments. ``norm`` is ‖autodiff‖∞. Errors are ‖ours − autodiff‖∞ / ``scale``, or None where
    something is not finite or was not computed. (Where there is no autodiff of the definitions, the hand rule has its
    place, and ``hand`` is None.) ``scale`` is ``norm``, or larger where that is so small that the
    tolerance of it is below rounding, as :func:`compare` explains. ``linearity`` is how far the hand rule is from
    linear in its cotangent, relative to the terms that are compared.

    ``bound`` is the largest error that passes, which rounding sets in dtypes narrower than float64. A rule whose
    gradient is too large, or too small, by more than ``hidden`` of it would be found for sure. ``excess`` is the
    largest error as a multiple of its bound, and infinite where something is not finite."""

    path: str
    shape: tuple[int, ...]
    norm: float
    scale: float
    hand: float | None
    backprop: float | None
    finite_difference: float | None
    linearity: float | None
    worst: str
    ok: bool
    bound: float = math.inf
    hidden: float | None = None
    culprit: str = ""  # where the definition's derivative is wrong, and not the hand rule's
    excess: float = 0.0


@dataclasses.dataclass(frozen=True)
class Failure:
    """A probe at which the hand rule is not the definition's gradient: its name, the argument, and the coordinate where
    the two differ most."""

    probe: str
    path: str
    worst: str

    def __str__(self) -> str:
        return f"wrong at a probe, {self.probe}: {self.path} {self.worst}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found. ``ok``, which is also its truth, says whether all gradients agree; printing it gives
    the table."""

    rows: tuple[Row, ...]
    value_error: float | None
    value_bound: float
    tolerance: float | None  # None where rounding sets the bound of each row
    dtype: str
    notes: tuple[str, ...] = ()
    reference: str = "autodiff"  # whose gradient the others are compared with
    failure: Failure | None = None  # the first probe that failed, where the arguments themselves did not
    audit: Audit | None = None  # of the hand-written rules, where the comparison failed and there are any

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows) and self.value_ok and self.failure is None

    def __bool__(self) -> bool:
        return self.ok

    @property
    def value_ok(self) -> bool:
        """Whether the function and its definitions have the same value."""
        return self.value_error is not None and self.value_error <= self.value_bound

    def raise_if_failed(self) -> None:
        """Does nothing where all gradients agree.

        Raises:
            GradientError: an ``AssertionError`` with the table, where they do not.

        >>> import jax.numpy as jnp, dlfn
        >>> dlfn.compare(jnp.sin)(1.0).raise_if_failed()
        """
        __tracebackhide__ = True
        if not self.ok:
            raise GradientError(f"\n{self}")

    def to_json(self) -> str:
        """Everything that was found, as JSON: ``ok``, ``value_ok``, the fields of the comparison by their names, and
        under ``rows`` those of each row, in the order of the arguments. What is missing is null; JSON has no numbers
        that are not finite, which are the strings ``"nan"``, ``"inf"`` and ``"-inf"``.

        >>> import json, jax.numpy as jnp, dlfn
        >>> found = json.loads(dlfn.compare(jnp.sin)(1.0).to_json())
        >>> found["ok"], found["rows"][0]["path"], found["rows"][0]["backprop"]
        (True, 'x', 0.0)
        """
        found = {"ok": self.ok, "value_ok": self.value_ok, **dataclasses.asdict(self)}
        return as_json(found)

    def __str__(self) -> str:
        rounded = self.tolerance is None
        verdict = "all gradients agree" if self.ok else "NOT ALL GRADIENTS AGREE"
        numeric = any(row.finite_difference is not None for row in self.rows)
        if rounded:
            bound = "without rounding, to what rounding may change; an error of a whole leaf below hidden is not seen"
        else:
            bound = f"to {self.tolerance:g} of each leaf's largest entry"
            bound += f" (finite differences {FINITE_DIFFERENCE_TOLERANCE:g})" * numeric
        tail = f"{verdict}: {self.dtype}, against {_AGAINST[self.reference]}, {bound}"
        rules = [] if self.audit is None else [str(self.audit)]
        return "\n".join([*self._table(), *rules, *map(wrapped, (*self.notes, tail))])

    def _table(self) -> Iterator[str]:
        """Leaves that fail come first, the worst of them at the top; then the others, in the order of the arguments."""
        by_excess = sorted(self.rows, key=lambda row: -row.excess)
        failing = [row for row in by_excess if not row.ok]
        passing = [row for row in by_excess if row.ok]
        shown = [*failing[:_FAILING], *sorted(passing[:_PASSING], key=self.rows.index)]
        header, rule, *lines = _fitted(f"|{self.reference}|", shown, rounded=self.tolerance is None)
        yield from (header, rule)
        for row, line in zip(shown, lines, strict=True):
            yield line
            if remark := self._remark(row):
                yield f"  {shortened(remark, width() - 2)}"
        for hidden, verdict in ((failing[_FAILING:], "FAIL"), (passing[_PASSING:], "agree")):
            if hidden:
                yield f"… {len(hidden)} more {verdict}"

    def _remark(self, row: Row) -> str:
        if row.culprit:
            return f"the definition is wrong: {row.worst}"
        if not row.ok:
            return row.worst
        return "0 but for rounding" if 0 < row.norm <= row.bound * row.scale else ""


_AGAINST = {
    "autodiff": "autodiff of the definitions",
    "reference": "the reference",
    "hand rule": "the hand rule",
}


def _fitted(reference: str, rows: Sequence[Row], *, rounded: bool) -> list[str]:
    """The lines of a table of rows, in which paths are shortened, and shapes left out, where it would be too wide. In
    narrow dtypes, where there are no finite differences, it says what would not be seen in their place."""
    table = [["leaf", "shape", reference, "hand rule", "backprop", "hidden" if rounded else NUMERIC, LINEARITY, ""]]
    for row in rows:
        errors = (row.hand, row.backprop, row.hidden if rounded else row.finite_difference, row.linearity)
        verdict = "ok" if row.ok else "FAIL"
        table.append([row.path, str(list(row.shape)), f"{row.norm:.3g}", *map(_error, errors), verdict])

    def room() -> int:
        """What the other columns, each with a gap of two, leave for the paths."""
        return width() - sum(2 + max(map(len, column)) for column in list(zip(*table, strict=True))[1:])

    if room() < min(_LEAF, max(len(row.path) for row in rows)):
        table = [[path, *others] for path, _, *others in table]
    limit = max(room(), _LEAF)
    header, *lines = [[shortened(path, limit), *others] for path, *others in table]
    return [shortened(line, width()) for line in format_table(header, lines).split("\n")]


def _error(error: float | None) -> str:
    return "–" if error is None else f"{error:.1e}"
