"""The accuracy page, of what scripts/accuracy.py stored."""

import json
import math
from pathlib import Path
from typing import Any

from dlfn.registry.accuracy import COLUMNS, DTYPES, SAMPLE

FILES = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy"
INTRODUCTION = """\
# Accuracy of derivatives

The largest error of the first and of the second derivative of every elementwise op of one array, in units in the last
place (ULP) of the result's own dtype, and the input at which it is. A correctly rounded result is off by at most 0.5; a
result without one right digit is off by 2²³ ≈ 8.4e6 and more in float32, by 2⁷ = 128 in bfloat16 and by 2¹⁰ = 1024 in
float16. ∞ is a derivative that is nan or infinite where the true one is finite.

| column | what it is |
|---|---|
| dlfn | the hand-derived rule; of second order, JAX's derivative of that rule, for which nothing is claimed |
| jax.nn | `jax.grad` of jax.nn's function, as it comes |
| HIGHEST | `jax.grad` of jax.nn's formula with `jax.lax.AccuracyMode.HIGHEST`; – where the formula has no exp, expm1, \
log1p, tanh or logistic |
| PyTorch | `torch.autograd.grad` of PyTorch's own function; – where it has none, or no derivative of that order |

An ULP is the spacing of the dtype at the true derivative; near a root where terms cancel, at the largest term. Results
below the smallest normal number count as 0, since XLA flushes those on CPUs. Points without a derivative (the kinks, of
the second) are left out. The true values are closed forms, in 80-bit long double on x86; those were held to mpmath's
derivatives of the definitions, in 120 digits, at random points and at the worst points of the dlfn column, where
these lie between 1e-30 and 100.
float64 would do as well: its own rounding is 2⁻²⁹ ULP of float32. Where it would not is the root of a derivative whose
terms cancel, and there an ULP is that of the terms.
"""


def page() -> str:
    parts = [INTRODUCTION]
    for path in sorted(FILES.glob("*.json")):
        parts.append(_section(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(parts)


def _section(report: dict[str, Any]) -> str:
    machine = report["processor"] if report["device"] == "cpu" else report["device"]
    rows = list(report["rows"].values())
    versions = f"dlfn {report['dlfn']}, jax {report['jax']}, PyTorch {report['torch']}, Python {report['python']}"
    lines = [f"## {machine}, {report['date']}", "", f"{versions}. What was run, by dtype:", ""]
    for dtype in DTYPES:
        lines.append(f"- **{dtype}**: {_run([row for row in rows if row['dtype'] == dtype])}")
    for order, name in ((1, "First derivative"), (2, "Second derivative")):
        for dtype in DTYPES:
            lines += [
                "",
                f"### {name}, {dtype}",
                "",
                *_table([r for r in rows if (r["order"], r["dtype"]) == (order, dtype)]),
            ]
    return "\n".join([*lines, ""])


def _run(rows: list[dict[str, Any]]) -> str:
    dates = sorted({row["date"] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    whole = [row for row in rows if row["chunks"] and row["done"] == row["chunks"]]
    if len(whole) == len(rows):
        return f"every number of the dtype, {when}"
    inputs = [figure["inputs"] for row in rows for figure in row["columns"].values()]
    return (
        f"**a sample**, {when}, of {min(inputs):,} numbers and more for each row: one bit pattern in {SAMPLE:,}, a "
        "dense grid up to |x| = 110, neighbourhoods of the points where f′ changes sign, saturates or underflows, and "
        f"2²¹ numbers around each worst point of these. {len(whole)} of {len(rows)} rows were measured at all 2³². The "
        "largest error of a sample is a lower bound"
    )


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"| op | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        name = row["op"] if row["case"] == "default" else f"{row['op']}, {row['case']}"
        cells = [_cell(row["columns"].get(column), row["chunks"] > 0) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(figure: dict[str, Any] | None, whole: bool) -> str:
    if figure is None:
        return "–"
    if figure["ulp"] == 0:
        return "0"
    size = "∞" if math.isinf(figure["ulp"]) else f"{figure['ulp']:.3g}"
    share = figure["off"] / figure["inputs"]
    often = f"; {100 * share:.2g} % off by more than 4" if whole and figure["off"] else ""
    return f"{size} at {figure['at']:.4g}{often}"
