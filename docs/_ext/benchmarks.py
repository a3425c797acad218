"""The benchmarks page: every row of the files in benchmarks/, newest first."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INTRODUCTION = """\
# Benchmarks

Every row that was measured, the slower ones included; `dlfn bench` and `scripts/accelerators.py` measure them again. A
ratio above 1 means that dlfn is faster. Figures of a machine that does other work as well scatter: the quartiles say
how much. What the rows of the accelerator mean is told in
[GPUs and TPUs](accelerators.md).
"""


def page() -> str:
    parts = [INTRODUCTION]
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "benchmarks").glob("*.json"))]
    for report in sorted(files, key=lambda report: report["date"], reverse=True):
        parts.append(_section(report))
    return "\n".join(parts)


def _section(report: dict[str, Any]) -> str:
    on_cpu = report["device"] == "cpu"
    machine = f"{report['cores']} cores of {report['processor']}" if on_cpu else report["device"]
    heading = f"## {machine}, {report['date']}"
    about = (
        f"dlfn {report.get('dlfn', 'of that day')}, jax {report['jax']}. Forward and backward together, of one program."
    )
    table = _ratios(report["rows"]) if isinstance(report["rows"], list) else _times(report["rows"])
    return "\n".join([heading, "", about, "", *table, ""])


def _ratios(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| op | case | against | times as fast | quartiles |", "|---|---|---|---|---|"]
    for row in rows:
        quartiles = f"{row['speedup_low']:.2f} to {row['speedup_high']:.2f}"
        lines.append(f"| {row['op']} | {row['case']} | {row['baseline']} | {row['speedup']:.2f} | {quartiles} |")
    return lines


def _times(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| row | ms | temporary memory |", "|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['ms']:.3g} | {row['temporary_mb']:.3g} MB |")
    return lines
