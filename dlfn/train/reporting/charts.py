"""Charts in SVG, which stretches to its place; their labels are HTML, so that they keep their size."""

import itertools
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from dlfn.markup import Markup, element

__all__ = ["Curve", "heat", "line_chart", "number", "scatter"]

# A series of more points is thinned out to about so many.
_POINTS = 400
_CELLS = 80
_LEVELS = 24


class Curve(NamedTuple):
    """A series of a run, which is counted from 0; ``test`` is drawn in dashes."""

    run: int
    name: str
    steps: Sequence[float]
    values: Sequence[float]
    test: bool = False


class _Axis(NamedTuple):
    low: float
    high: float
    ticks: list[float]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """In percent of its length."""
        low, high, value = (
            map(math.log, (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        )
        return 100 * (value - low) / (high - low)


def line_chart(title: str, curves: Sequence[Curve], *, logarithmic: bool = False) -> Markup:
    """Curves over steps. A logarithmic axis is taken where that is allowed and the values ask for it."""
    thin = [curve._replace(**dict(zip(("steps", "values"), _thinned(curve.steps, curve.values)))) for curve in curves]
    values = [value for curve in thin for value in curve.values]
    logarithmic = logarithmic and min(values) > 0 and max(values) > 20 * min(values)
    x = _linear([step for curve in thin for step in curve.steps], tight=True)
    y = (_logarithmic if logarithmic else _linear)(values)
    paths = []
    for curve in thin:
        points = [(x.at(step), 100 - y.at(value)) for step, value in zip(curve.steps, curve.values)]
        kind = f"run-{curve.run}" + " test" * curve.test
        paths.append(element("path", d="M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in points), class_=f"curve {kind}"))
        if len(points) < (20 if curve.test else 10):
            paths.append(element("path", d="".join(f"M{a:.2f} {b:.2f}h0" for a, b in points), class_=f"dots {kind}"))
    said = "; ".join(f"{curve.name}: last {number(curve.values[-1])}" for curve in curves)
    shown = [
        {"run": c.run, "name": c.name, "steps": c.steps, "values": [float(f"{v:.5g}") for v in c.values]} for c in thin
    ]
    title += " (logarithmic)" * logarithmic
    return _frame(title, "step", x, y, paths, said, json.dumps({"range": [x.low, x.high], "curves": shown}))


def scatter(title: str, below: str, run: int, xs: Sequence[float], ys: Sequence[float]) -> Markup:
    """Points, with the line on which both coordinates are equal."""
    axis = _linear([*xs, *ys])
    points = "".join(f"M{axis.at(a):.2f} {100 - axis.at(b):.2f}h0" for a, b in zip(xs, ys))
    paths = [element("path", d="M0 100L100 0", class_="grid"), element("path", d=points, class_=f"dots run-{run}")]
    return _frame(title, below, axis, axis, paths, f"{len(xs)} points", None)


def heat(rows: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> Markup:
    """A row for each name, with its positive values over steps as a strip of colours, on one logarithmic scale."""
    positive = [value for _, _, values in rows for value in values if value > 0]
    low, high = min(positive, default=1.0), max(positive, default=1.0)
    span = math.log(high / low) or 1.0
    last = max((steps[-1] for _, steps, _ in rows), default=1)
    lines = []
    for name, steps, values in rows:
        strip = element(
            "svg",
            *_strip(steps, values, low, span, last),
            viewBox="0 0 100 1",
            preserveAspectRatio="none",
            aria_hidden="true",
        )
        cells = (
            element("td", number(values[0])),
            element("td", strip, class_="strip"),
            element("td", number(values[-1])),
        )
        lines.append(element("tr", element("th", *_breakable(name), scope="row"), *cells))
    head = element(
        "thead",
        element(
            "tr", *(element("th", cell, scope="col") for cell in ("layer", "first", f"up to step {last:,}", "last"))
        ),
    )
    key = element("p", f"{number(low)} ", element("span", class_="ramp"), f" {number(high)}", class_="key")
    return Markup(element("table", head, element("tbody", *lines), class_="heat") + key)


def _short(value: float) -> str:
    """A tick's label, which has little room."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.4g}{letter}"
    return number(value)


def number(value: float) -> str:
    """In four significant digits at most, with an exponent only where it is needed.

    >>> [number(value) for value in (0.98765432, 12345.6, 0.0000123, 1000, 0)]
    ['0.9877', '12,346', '1.23e-05', '1,000', '0']
    """
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def _breakable(path: str) -> list[str]:
    """A path that can be folded after its slashes."""
    first, *rest = path.split("/")
    return [first, *(part for name in rest for part in ("/", Markup("<wbr>"), name))]


def _frame(title: str, below: str, x: _Axis, y: _Axis, paths: Sequence[Markup], said: str, data: str | None) -> Markup:
    grid = "".join(f"M0 {100 - y.at(tick):.2f}H100" for tick in y.ticks)
    svg = element(
        "svg",
        element("path", d=grid, class_="grid"),
        *paths,
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    labels = [
        *(element("span", _short(tick), class_="y", style=f"top:{100 - y.at(tick):.2f}%") for tick in y.ticks),
        *(element("span", _short(tick), class_="x", style=f"left:{x.at(tick):.2f}%") for tick in x.ticks),
    ]
    plot = element("div", svg, *labels, class_="plot", data_curves=data)
    under = element("div", below, class_="below")
    focus = None if data is None else 0
    attributes = {"class_": "chart", "role": "group", "aria_label": f"{title}. {said}", "tabindex": focus}
    return element("figure", element("figcaption", title), plot, under, **attributes)


def _linear(values: Sequence[float], tight: bool = False) -> _Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    unit = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    if not tight:
        low, high = math.floor(low / unit + 1e-9) * unit, math.ceil(high / unit - 1e-9) * unit
    first, final = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
    return _Axis(low, high, [i * unit for i in range(first, final + 1)])


def _logarithmic(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    every = max(1, len(decades) // 6)
    ticks = [m * 10.0**d for d in decades[::every] for m in steps]
    low = max((t for t in ticks if t <= low), default=low)
    high = min((t for t in ticks if t >= high), default=high)
    return _Axis(low, high, [tick for tick in ticks if low <= tick <= high], True)


def _thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """With the least and the largest value of every stretch, so that no peak is lost."""
    if len(steps) <= _POINTS:
        return list(steps), list(values)
    bounds = [round(i * len(steps) / (_POINTS // 2)) for i in range(_POINTS // 2 + 1)]
    kept = {0, len(steps) - 1}
    for start, stop in itertools.pairwise(bounds):
        stretch = range(start, stop)
        kept |= {min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)}
    order = sorted(kept)
    return [steps[i] for i in order], [values[i] for i in order]


def _strip(steps: Sequence[float], values: Sequence[float], low: float, span: float, last: float) -> list[Markup]:
    """Each value's cell reaches from the step before it to its own; neighbours of one colour are one."""
    stride = max(1, len(steps) // _CELLS)
    chosen = [*range(stride - 1, len(steps), stride)]
    cells, begin = [], 0.0
    for index in chosen:
        level = round(_LEVELS * math.log(values[index] / low) / span) if values[index] > 0 else 0
        cells.append((level, begin, steps[index], values[index]))
        begin = steps[index]
    shown = []
    for level, group in itertools.groupby(cells, key=lambda cell: cell[0]):
        group = list(group)
        left, right = 100 * group[0][1] / last, 100 * group[-1][2] / last
        title = element("title", f"steps {group[0][1]:,.0f} to {group[-1][2]:,}: about {number(group[-1][3])}")
        share = f"--share:{100 * level / _LEVELS:.0f}%"
        shown.append(element("path", title, d=f"M{left:.2f} 0H{right:.2f}V1H{left:.2f}z", style=share))
    return shown
