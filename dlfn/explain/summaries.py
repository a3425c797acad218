"""What is kept of an array: all of its numbers where they are few, otherwise its range, norm, histogram and picture."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Summary", "described", "sparkline", "summarized"]

_SMALL = 1024  # numbers, which are kept
_PIXELS = 48
_BINS = 32
_STEPS = 64  # of a loop, of which arrays are kept
_BARS = "▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """An array's figures. Those of position and spread are of its finite entries.

    Attributes:
        shape: of the whole; in loops the first axis has the steps at which there is such a value.
        zeros, nonfinite: how many entries are so.
        norm: the Euclidean one.
        array: its numbers, if they are few or were asked for.
        histogram: edges and counts.
        image: a matrix of at most 48 × 48 means of its last two axes, and whether they are means of several entries.
        over_steps: the norm at each step of the loops around it.
        kept, per_step: steps, and the summaries of the array at each.
    """

    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float
    norm: float
    zeros: int
    nonfinite: int
    array: np.ndarray | None = None
    histogram: tuple[np.ndarray, np.ndarray] | None = None
    image: tuple[np.ndarray, bool] | None = None
    over_steps: np.ndarray | None = None
    kept: tuple[int, ...] = ()
    per_step: tuple["Summary", ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As data that JSON has: what is not finite is a string."""
        found: dict[str, Any] = {
            "shape": list(self.shape),
            **{name: _number(getattr(self, name)) for name in ("min", "max", "mean", "std", "norm")},
            "zeros": self.zeros,
            "nonfinite": self.nonfinite,
            "data": _numbers(self.array) if self.array is not None and self.array.size <= _SMALL else None,
            "histogram": None,
            "image": None,
            "over_steps": None if self.over_steps is None else _numbers(self.over_steps),
        }
        if self.histogram is not None:
            edges, counts = self.histogram
            found["histogram"] = {"edges": _numbers(edges), "counts": counts.tolist()}
        if self.image is not None:
            pixels, pooled = self.image
            rows, columns = pixels.shape
            found["image"] = {"rows": rows, "columns": columns, "data": _numbers(pixels), "pooled": pooled}
        if self.per_step:
            found |= {"per_step": [step.to_json() for step in self.per_step], "kept": list(self.kept)}
        return found


def summarized(array: Any, *, keep: bool = False, steps: Sequence[int] | None = None) -> Summary:
    """The summary of an array; in loops its first axis has the ``steps``."""
    array = np.asarray(array)
    numbers = array if array.dtype.kind == "c" else array.astype(np.float64)
    if numbers.dtype.kind == "c":
        numbers = np.abs(numbers)
    finite = numbers[np.isfinite(numbers)]
    few = array.size <= _SMALL
    found = Summary(
        shape=array.shape,
        min=_of(np.min, finite),
        max=_of(np.max, finite),
        mean=_of(np.mean, finite),
        std=_of(np.std, finite),
        norm=_norm(numbers),
        zeros=int((numbers == 0).sum()),
        nonfinite=numbers.size - finite.size,
        array=array if few or keep else None,
        histogram=None if few or not finite.size else _histogram(finite),
    )
    if steps is None:
        return found if few else dataclasses.replace(found, image=_image(numbers))
    kept = np.unique(np.linspace(0, len(steps) - 1, min(_STEPS, len(steps))).round().astype(int)) if steps else ()
    return dataclasses.replace(
        found,
        over_steps=np.array([_norm(part) for part in numbers]),
        kept=() if few else tuple(int(steps[i]) for i in kept),
        per_step=() if few else tuple(summarized(array[i]) for i in kept),
    )


def described(found: Summary | None, room: int) -> str:
    """In at most so many characters: its numbers where there is room for them, else range, norm and a sparkline."""
    if found is None:
        return ""
    if found.array is not None and found.array.size <= 16:
        text = _digits(found.array)
        if len(text) <= room:
            return text
    bad = f", {found.nonfinite} not finite" if found.nonfinite else ""
    text = f"{found.min:.3g} to {found.max:.3g}, ‖{found.norm:.3g}‖{bad}"
    line = sparkline(found)
    return f"{text} {line}" if len(text) + len(line) < room else text[:room]


def sparkline(found: Summary) -> str:
    """Eight bars: of a loop the norms over its steps, else how often entries of each size are."""
    if found.over_steps is not None:
        heights = np.array([part.mean() for part in np.array_split(found.over_steps, min(8, len(found.over_steps)))])
    elif found.histogram is not None:
        heights = found.histogram[1].reshape(8, -1).sum(1)
    elif found.array is not None and found.array.size > 1 and not found.nonfinite:
        heights = np.histogram(np.abs(found.array) if found.array.dtype.kind == "c" else found.array, 8)[0]
    else:
        return ""
    heights = np.where(np.isfinite(heights), heights, 0)
    top = heights.max(initial=0) or 1
    return "".join(_BARS[min(7, int(8 * height / top))] for height in heights)


def _digits(array: np.ndarray) -> str:
    if array.ndim:
        return "[" + " ".join(_digits(part) for part in array) + "]"
    value = array.item()
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _of(figure: Any, finite: np.ndarray) -> float:
    return float(figure(finite)) if finite.size else math.nan


def _norm(numbers: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        size = np.abs(numbers).max(initial=0)
        return float(size * np.linalg.norm((numbers / size).ravel())) if np.isfinite(size) and size > 0 else float(size)


def _histogram(finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = float(finite.min()), float(finite.max())
    if not np.isfinite(high - low) or np.linspace(low, high, _BINS + 1)[1] <= low:  # no room between two numbers
        low, high = low - abs(low) / 2 - 1, low + abs(low) / 2 + 1
        finite = np.clip(finite, low, high)
    counts, edges = np.histogram(finite, _BINS, (low, high))
    return edges, counts


def _image(numbers: np.ndarray) -> tuple[np.ndarray, bool]:
    """Means over cells of the matrix of the last two axes, the others averaged; a vector is folded into rows."""
    if numbers.ndim < 2:
        columns = math.ceil(math.sqrt(numbers.size))
        padded = np.full(columns * math.ceil(numbers.size / columns), np.nan)
        padded[: numbers.size] = numbers.ravel()
        matrix = padded.reshape(-1, columns)
    else:
        matrix = numbers.reshape(-1, *numbers.shape[-2:]).mean(0)
    for axis in (0, 1):
        n = matrix.shape[axis]
        if n > _PIXELS:
            starts = np.arange(_PIXELS) * n // _PIXELS
            with np.errstate(all="ignore"):
                shape = [-1 if d == axis else 1 for d in (0, 1)]
                matrix = np.add.reduceat(matrix, starts, axis) / np.diff(np.append(starts, n)).reshape(shape)
    return matrix, matrix.size < numbers.size


def _numbers(array: np.ndarray) -> Any:
    if array.ndim:
        return [_numbers(part) for part in array]
    value = array.item()
    if isinstance(value, complex):
        return str(value)
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> Any:
    """In seven digits, which is what is shown."""
    return float(f"{value:.7g}") if math.isfinite(value) else str(value)
