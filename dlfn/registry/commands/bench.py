"""``dlfn bench``: how fast and how large the ops are beside the best plain JAX."""

import argparse
import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HELP = """time ops, forward and backward, against the best plain JAX

A row is marked BELOW where its median speedup is under the op's floor, 0.97 for most, and less for those whose
exactness has a price. With --fail-below such a row fails the command, and RATIO takes the place of the floors from 0.97
up; an op with a lower floor is held to that one or to RATIO, whichever is lower. Rows under jax.checkpoint, which is
there to be compared in memory, and memory itself do not fail it."""
EXAMPLE = "dlfn bench linear gelu --json bench.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ops", nargs="*", metavar="OP", help="names of ops (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows, machine and versions to FILE")
    parser.add_argument(
        "--fail-below", metavar="RATIO", type=_ratio, help="exit with 1 where a row is slower than RATIO, such as 0.9"
    )


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 0.9")
    return value


def run(arguments: argparse.Namespace) -> int:
    import jax

    from dlfn.bench import environment
    from dlfn.files import write_text
    from dlfn.registry.all import entries

    chosen = list(entries(arguments.ops))
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, forward and backward under one jit")
    print("speedup: baseline time over ours, median of interleaved pairs [quartiles]; bytes: ours / baseline\n")
    rows, below = [], 0
    for entry in chosen:
        for bench in entry.benches:
            floor = _floor(bench, arguments.fail_below)
            for row in _rows(entry, bench):
                print(_line(row, bench, floor), flush=True)
                rows.append(row)
                below += _is_below(row, floor)
    failed = arguments.fail_below is not None and below > 0
    if arguments.fail_below is not None:
        print(f"\n{len(rows)} rows, below the floor: {below}")
    if arguments.json:
        write_text(arguments.json, json.dumps({"ok": not failed, **environment(), "rows": rows}, indent=1) + "\n")
    return 1 if failed else 0


def _floor(bench: Any, ratio: float | None) -> float:
    """The speedup that is asked of a row. A ratio stands in for the common floor, an op's own lower one stays."""
    if ratio is None:
        return bench.floor
    return ratio if bench.floor >= type(bench).floor else min(ratio, bench.floor)


def _is_below(row: dict[str, Any], floor: float) -> bool:
    return row["speedup"] < floor and not row["baseline"].endswith("checkpoint")


def _rows(entry: Any, bench: Any) -> Iterator[dict[str, Any]]:
    """One row per baseline; each plain one also runs under ``jax.checkpoint``, the fair rival in memory."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dlfn.bench.measurement import measure
    from dlfn.registry.entry import as_argument

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


def _line(row: dict[str, Any], bench: Any, floor: float) -> str:
    missed = f"  BELOW {floor:g}×" if _is_below(row, floor) else ""
    if not row["baseline"].endswith("checkpoint"):
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
