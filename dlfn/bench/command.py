"""``dlfn bench``: how fast and how large the ops are beside the best plain JAX."""

import argparse
import dataclasses
import json
from pathlib import Path

HELP = "time ops, forward and backward, against the best plain JAX"
EXAMPLE = "dlfn bench linear gelu --json bench.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ops", nargs="*", metavar="OP", help="names of ops (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows to FILE")


def run(arguments: argparse.Namespace) -> int:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from dlfn.bench.measure import measure
    from dlfn.check.registry import as_argument, entries
    from dlfn.files import write_text

    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, default dtype, forward and backward under one jit")
    print("speedup: baseline time over ours, median of interleaved pairs [quartiles]; bytes: ours / baseline\n")
    rows = []
    for entry in entries(arguments.ops):
        for bench in entry.benches:
            rng = np.random.default_rng(0)
            args = tuple(as_argument(spec(rng), jnp.result_type(float)) for spec in bench.arguments)
            static = dict(bench.static)
            ours = bench.ours or entry.op
            for name, baseline in bench.baselines.items():
                for label, rival in ((name, baseline), (f"{name} + checkpoint", None)):
                    plain = lambda *args, f=baseline: f(*args, **static)  # noqa: E731
                    rival = jax.checkpoint(plain) if rival is None else plain
                    m = measure(lambda *args: ours(*args, **static), rival, args)
                    rows.append({"op": entry.op.name, "case": bench.name, "baseline": label, **dataclasses.asdict(m)})
                    low = "" if m.speedup >= bench.floor or rival is not plain else f"  BELOW {bench.floor:g}"
                    print(
                        f"{entry.op.name:22} {bench.name:28} {label:22} {m.speedup:6.2f}× "
                        f"[{m.speedup_low:.2f}, {m.speedup_high:.2f}]  temp {_bytes(m.temp_bytes)} / "
                        f"{_bytes(m.baseline_temp_bytes)}  residuals {_bytes(m.residual_bytes)} / "
                        f"{_bytes(m.baseline_residual_bytes)}{low}",
                        flush=True,
                    )
    if arguments.json:
        write_text(arguments.json, json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


def _bytes(n: int) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"
