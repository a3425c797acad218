#!/usr/bin/env python
"""Measures the largest errors of first and second derivatives of every elementwise op, in units in the last place: of
dlfn, of jax.nn, of its formulas with jax.lax.AccuracyMode.HIGHEST, and of PyTorch. bfloat16 and float16 are measured at
all of their numbers, float32 at a sample or, with --exhaustive, at all 2^32. The file keeps what is measured, after
every chunk, so that the script can be stopped at any time: called again, it goes on.

    python scripts/accuracy.py benchmarks/accuracy/cpu.json
    python scripts/accuracy.py benchmarks/accuracy/cpu.json --exhaustive

docs/accuracy.md is made of the file.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax

from dlfn.bench import environment
from dlfn.core import InputError
from dlfn.files import write_text
from dlfn.registry import accuracy
from dlfn.registry.all import entries

EXHAUSTIVE = "all 2^32 float32 inputs: a night and more on a CPU"
DEVICE = "compute the exact values in float64 on the accelerator, and not in long double on the host"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the JSON file to write and to go on from")
    parser.add_argument("ops", nargs="*", metavar="OP", help="names of elementwise ops (default: all)")
    parser.add_argument("--exhaustive", action="store_true", help=EXHAUSTIVE)
    parser.add_argument("--on-device", action="store_true", help=DEVICE)
    parser.add_argument("--dtype", action="append", choices=accuracy.DTYPES, help="these dtypes alone (default: all)")
    parser.add_argument("--again", action="store_true", help="measure anew what the file has")
    arguments = parser.parse_args(argv)
    try:
        chosen = [entry for entry in entries(arguments.ops) if entry.elementwise]
    except InputError as error:
        parser.error(str(error))
    if not chosen:
        parser.error(f"no closed form of a derivative is registered for {', '.join(arguments.ops)}")
    try:
        import torch
    except ModuleNotFoundError:
        torch = None
        print("PyTorch is not installed: its column is left out", file=sys.stderr)
    rows = json.loads(arguments.file.read_text(encoding="utf-8"))["rows"] if arguments.file.exists() else {}
    about = {**environment(), "torch": torch.__version__ if torch else None}
    for entry in chosen:
        for case in entry.cases:
            for dtype in arguments.dtype or accuracy.DTYPES:
                for order in (1, 2):
                    key = f"{accuracy.named(entry, case)}, {dtype}, {order}"
                    total = accuracy.chunks(dtype) if dtype != "float32" or arguments.exhaustive else 0
                    row = rows.get(key)
                    if row and row["done"] >= total == row["chunks"] and not arguments.again:
                        continue
                    print(key, file=sys.stderr, flush=True)
                    rivals, refused = able(accuracy.columns(entry, case, order, torch), dtype)
                    start = {"done": 0, "chunks": total, "columns": {}, "refused": refused}
                    if not row or row["chunks"] != total or arguments.again:
                        row = {**start, "op": entry.op.name, "case": case.name}
                    for further in measured(case, dtype, order, rivals, row, on_device=arguments.on_device):
                        rows[key] = {**further, "dtype": dtype, "order": order, "date": about["date"]}
                        write_text(arguments.file, json.dumps({**about, "rows": rows}, indent=1) + "\n")


def able(rivals, dtype):
    """Those that take the dtype and the order, and what the others say: PyTorch has not every second derivative."""
    refused = {}
    for name, derivative in rivals.items():
        try:
            derivative(accuracy.chunk(dtype, 0)[:1])
        except RuntimeError as error:
            refused[name] = str(error).splitlines()[0]
    return {name: f for name, f in rivals.items() if name not in refused}, refused


def measured(case, dtype, order, rivals, row, *, on_device):
    """The row after each chunk; a sample is no chunk, and followed by the neighbourhoods of the worst points in it."""
    figures = {name: accuracy.Worst(**figure) for name, figure in row["columns"].items()}

    def judged(x, done):
        with jax.enable_x64(on_device):
            accuracy.judge(case, order, rivals, x, figures, on_device=on_device)
        return {**row, "done": done, "columns": {name: dataclasses.asdict(figure) for name, figure in figures.items()}}

    if not row["chunks"]:
        row = judged(accuracy.sample(case), 0)
        for point in sorted({figure.at for figure in figures.values()}):
            row = judged(accuracy.neighbours(point), 0)
        yield row
    for number in range(row["done"], row["chunks"]):
        yield judged(accuracy.chunk(dtype, number), number + 1)


if __name__ == "__main__":
    main()
