"""``dlfn formulas``: the catalogue, and with ``--check`` whether it holds."""

import argparse
import json
from pathlib import Path
from typing import Any

HELP = "print the formulas of the documents with what implements them, and check them"
EXAMPLE = "dlfn formulas linear.softmax activation.gelu --check --json formulas.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of formulas, such as linear.softmax (default: all)")
    parser.add_argument("--check", action="store_true", help="run the checks of each")
    parser.add_argument(
        "--derivations", action="store_true", help="derive each, and check every step by numbers and by SymPy"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows to FILE")


def run(arguments: argparse.Namespace) -> int:
    from dlfn.catalogue import ROWS, find
    from dlfn.files import write_text

    chosen = [find(id) for id in dict.fromkeys(arguments.ids)] or ROWS
    if arguments.derivations:
        return _derive([row.id for row in chosen], arguments.json)
    rows = []
    for row in chosen:
        result, problems = _look_at(row, arguments.check)
        print(_text(row, result, problems), flush=True)
        rows.append(result)
    ok = all(row["ok"] for row in rows)
    done = "checked and ok" if arguments.check else "ok (--check runs their checks)"
    print(f"{sum(row['ok'] for row in rows)} of {len(rows)} formulas {done}")
    if arguments.json:
        write_text(arguments.json, json.dumps({"ok": ok, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    return 0 if ok else 1


def _derive(ids: list[str], file: Path | None) -> int:
    from dlfn.catalogue.derivations import check, derivation, has_sympy
    from dlfn.files import write_text

    rows = []
    for id in ids:
        results = []
        print(id, flush=True)
        for number, result in enumerate(check(derivation(id)), 1):
            marks = "FAILED" if result.problem else "proven" if result.proven else "ok"
            print(f"  {number}. {result.step}  [{marks}]\n     {result.step.why}", flush=True)
            if result.problem:
                print(f"     PROBLEM {result.problem}")
            results.append(
                {"step": str(result.step), "why": result.step.why, "problem": result.problem, "proven": result.proven}
            )
        rows.append({"id": id, "ok": not any(each["problem"] for each in results), "steps": results})
    steps = [step for row in rows for step in row["steps"]]
    proven = sum(bool(step["proven"]) for step in steps)
    ok = all(row["ok"] for row in rows)
    print(
        f"{sum(row['ok'] for row in rows)} of {len(rows)} derivations, "
        f"{sum(not step['problem'] for step in steps)} of {len(steps)} steps checked, "
        + (f"{proven} of them symbolically" if has_sympy() else "none symbolically: pip install sympy for that")
    )
    if file:
        write_text(file, json.dumps({"ok": ok, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    return 0 if ok else 1


def _look_at(row: Any, check: bool) -> tuple[dict[str, Any], list[str]]:
    from dlfn.catalogue import checks, implemented_by, resolve

    problems = []
    names = implemented_by(row)
    for name in names:
        try:
            resolve(name)
        except (ImportError, AttributeError) as error:
            problems.append(f"{name}: {error}")
    covering = list(checks(row))
    if not names:
        problems.append("nothing implements it")
    if not covering:
        problems.append("nothing checks it")
    if check:
        problems += [f"{item.name}: {wrong}" for item in covering if (wrong := item.run())]
    result = {
        "id": row.id,
        "where": row.where,
        "papers": list(row.papers),
        "implemented_by": names,
        "checked_by": [item.name for item in covering],
        "erratum": row.erratum,
        "ok": not problems,
    }
    return result, problems


def _text(row: Any, result: dict[str, Any], problems: list[str]) -> str:
    lines = [f"{row.id}  ({row.where}){'' if result['ok'] else '  FAILED'}", f"    {row.latex}"]
    lines += [f"    paper: {paper.replace('*', '')}" for paper in row.papers]
    lines.append(f"    implemented by {', '.join(result['implemented_by'])}")
    lines += [f"    checked by {name}" for name in result["checked_by"]]
    if row.erratum:
        lines.append(f"    erratum: {row.erratum}")
    return "\n".join([*lines, *(f"    PROBLEM {problem}" for problem in problems), ""])
