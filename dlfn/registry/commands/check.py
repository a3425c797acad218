"""``dlfn check``: the gradients of every op, by every path, as a table, or those of anybody's function."""

import argparse
import json
from pathlib import Path

from dlfn.core import InputError
from dlfn.registry.commands import check_function

HELP = "check gradients by hand rule, backprop, autodiff and finite differences: of dlfn's ops, or of your function"
EXAMPLE = "dlfn check sigmoid linear --json check.json; dlfn check my.losses:focal --args my.losses:example"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ops", nargs="*", metavar="OP", help="names of ops (default: all), or one function of yours: module:function"
    )
    parser.add_argument(
        "--args",
        metavar="MODULE:NAME",
        help="for module:function: a tuple or dict of arguments, or a function that returns one",
    )
    parser.add_argument(
        "--platform-forms",
        action="store_true",
        help="the ops that are computed otherwise on this machine's GPU or TPU, by hand rule, on it",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to FILE")


def run(arguments: argparse.Namespace) -> int:
    if any(":" in name for name in arguments.ops):
        return check_function.run(arguments)
    if arguments.args is not None:
        raise InputError("argument --args: is for a function of yours, module:function; ops have their own")

    import jax

    from dlfn.check.table import format_table
    from dlfn.files import write_text
    from dlfn.registry.all import entries
    from dlfn.registry.gradients import DTYPES, PATHS, check_case, has_forms

    chosen, dtypes, paths, precision = entries(arguments.ops), DTYPES, PATHS, None
    if arguments.platform_forms:
        if jax.default_backend() == "cpu":
            raise InputError("argument --platform-forms: there is no GPU or TPU here; on a CPU leave it out")
        # Float64 is not what forms are for. Products in float32 are not in float32 there unless one asks for it.
        precision = "highest"
        chosen, dtypes, paths = [e for e in chosen if has_forms(e)], ("float32", "bfloat16", "float16"), ("hand",)
    header = ("op", "case", "dtype", "path", "argument", "error", "tolerance", "worst coordinate")
    results = []
    for entry in chosen:
        with jax.default_matmul_precision(precision):
            of_op = [r for case in entry.cases for dtype in dtypes for r in check_case(entry, case, dtype, paths=paths)]
        results += of_op
        failed = sum(not r.ok for r in of_op)
        print(f"{entry.op.name}: {len(of_op)} gradients, {f'{failed} FAILED' if failed else 'all agree'}", flush=True)

    def cells(r):
        error = "not finite" if r.max_relative_error is None else f"{r.max_relative_error:.1e}"
        return (r.op, r.case, r.dtype, r.path, r.argument, error, f"{r.tolerance:.1e}", r.worst)

    # The worst of each op, dtype and path says it all, unless something failed.
    worst = {}
    for r in results:
        key = (r.op, r.dtype, r.path)
        share = float("inf") if r.max_relative_error is None else r.max_relative_error / r.tolerance
        if key not in worst or share > worst[key][0]:
            worst[key] = (share, r)
    print("\nthe worst of each op, dtype and path:\n" + format_table(header, [cells(r) for _, r in worst.values()]))
    failures = [r for r in results if not r.ok]
    if failures:
        print("\nFAILED\n" + format_table(header, [cells(r) for r in failures]))
    print(f"\n{len(results)} gradients, ops: {len({r.op for r in results})}, failed: {len(failures)}")
    if arguments.json:
        rows = [
            {"op": r.op, "case": r.case, "dtype": r.dtype, "path": r.path, "argument": r.argument,
             "max_relative_error": r.max_relative_error, "tolerance": r.tolerance, "ok": r.ok}
            for r in results
        ]  # fmt: skip
        write_text(arguments.json, json.dumps({"ok": not failures, "cases": rows}, indent=1) + "\n")
    return 1 if failures else 0
