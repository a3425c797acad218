"""What a comparison of gradients found, as data and as a table."""

import dataclasses
from collections.abc import Sequence

from dlfn.check.measures import FINITE_DIFFERENCE_TOLERANCE, LINEARITY, NUMERIC

__all__ = ["Comparison", "Failure", "Row", "format_table"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of the arguments. ``norm`` is ‖autodiff‖∞. Errors are ‖ours − autodiff‖∞ / ``scale``, or None where
    something is not finite or was not computed. (Where there is no autodiff of the definitions, the hand rule has its
    place, and ``hand`` is None.) ``scale`` is ``norm``, or larger where that is so small that the
    tolerance of it is below rounding, as :func:`compare` explains. ``linearity`` is how far the hand rule is from
    linear in its cotangent, relative to the terms that are compared."""

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
    culprit: str = ""  # where the definition's derivative is wrong, and not the hand rule's


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
    tolerance: float
    dtype: str
    notes: tuple[str, ...] = ()
    reference: str = "autodiff"  # whose gradient the others are compared with
    failure: Failure | None = None  # the first probe that failed, where the arguments themselves did not

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows) and self.value_ok and self.failure is None

    def __bool__(self) -> bool:
        return self.ok

    @property
    def value_ok(self) -> bool:
        """Whether the function and its definitions have the same value."""
        return self.value_error is not None and self.value_error <= self.tolerance

    def __str__(self) -> str:
        header = (
            "leaf",
            "shape",
            f"|{self.reference}|",
            "hand rule",
            "backprop",
            NUMERIC,
            LINEARITY,
            "worst coordinate",
            "",
        )
        lines = [
            (row.path, str(list(row.shape)), f"{row.norm:.3g}", _error(row.hand), _error(row.backprop),
             _error(row.finite_difference), _error(row.linearity), row.worst, self._verdict(row))
            for row in self.rows
        ]  # fmt: skip
        verdict = "all gradients agree" if self.ok else "NOT ALL GRADIENTS AGREE"
        numeric = any(row.finite_difference is not None for row in self.rows)
        tail = (
            f"{verdict}: {self.dtype}, against {_AGAINST[self.reference]}, to {self.tolerance:g} of each leaf's "
            f"largest entry{f' (finite differences {FINITE_DIFFERENCE_TOLERANCE:g})' * numeric}"
        )
        return "\n".join([format_table(header, lines), *self.notes, tail])

    def _verdict(self, row: Row) -> str:
        if row.culprit:
            return "ok: the definition is wrong"
        if not row.ok:
            return "FAIL"
        return "ok: 0 but for rounding" if 0 < row.norm <= self.tolerance * row.scale else "ok"


_AGAINST = {
    "autodiff": "autodiff of the definitions",
    "reference": "the reference",
    "hand rule": "the hand rule",
}


def _error(error: float | None) -> str:
    return "–" if error is None else f"{error:.1e}"


def format_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [header, ["-" * width for width in widths], *lines]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip
