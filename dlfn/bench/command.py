"""``dlfn bench``: how fast and how large the ops are beside the best plain JAX."""

import argparse
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HELP = "time ops, forward and backward, against the best plain JAX"
EXAMPLE = "dlfn bench linear gelu --json bench.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ops", nargs="*", metavar="OP", help="names of ops (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows to FILE")


def run(arguments: argparse.Namespace) -> int:
    import jax

    from dlfn.check.registry import entries
    from dlfn.files import write_text

    chosen = list(entries(arguments.ops))
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, forward and backward under one jit")
    print("speedup: baseline time over ours, median of interleaved pairs [quartiles]; bytes: ours / baseline\n")
    rows = []
    for entry in chosen:
        for bench in entry.benches:
            for row in _rows(entry, bench):
                print(_line(row, bench), flush=True)
                rows.append(row)
    if arguments.json:
        write_text(arguments.json, json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


def _rows(entry: Any, bench: Any) -> Iterator[dict[str, Any]]:
    """One row per baseline; each plain one also runs under ``jax.checkpoint``, the fair rival in memory."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dlfn.bench.measure import measure
    from dlfn.check.registry import as_argument

    rng = np.random.default_rng(0)
    args = tuple(as_argument(spec(rng), jnp.result_type(float)) for spec in bench.arguments)
    ours = functools.partial(bench.ours or entry.op, **bench.static)
    rivals: dict[str, Any] = {}
    for name, baseline in bench.baselines.items():
        rivals[name] = functools.partial(baseline, **bench.static)
        rivals[f"{name} + checkpoint"] = jax.checkpoint(rivals[name])
    for name, make in bench.peers.items():
        try:
            rivals[name] = make()
        except ImportError as error:
            print(f"{entry.op.name:21} {bench.name:29} {name:20} skipped: {error}; pip install 'dlfn[bench]'")
    for name, rival in rivals.items():
        measured = dataclasses.asdict(measure(ours, rival, args))
        yield {"op": entry.op.name, "case": bench.name, "baseline": name, **measured}


def _line(row: dict[str, Any], bench: Any) -> str:
    missed = ""
    if not row["baseline"].endswith("checkpoint"):
        if row["speedup"] < bench.floor:
            missed += f"  BELOW {bench.floor:g}×"
        bounded = bench.memory is not None and row["baseline"] in bench.baselines
        if bounded and row["temp_bytes"] > bench.memory * row["baseline_temp_bytes"]:
            missed += f"  MORE THAN {bench.memory:.3g}× THE MEMORY"
    return (
        f"{row['op']:21} {row['case']:29} {row['baseline']:20} {row['speedup']:5.2f}× "
        f"[{row['speedup_low']:.2f}, {row['speedup_high']:.2f}]  "
        f"temp {_bytes(row['temp_bytes'])} / {_bytes(row['baseline_temp_bytes'])}  "
        f"residuals {_bytes(row['residual_bytes'])} / {_bytes(row['baseline_residual_bytes'])}"
        f"{missed}"
    )


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"
