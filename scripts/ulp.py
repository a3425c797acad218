#!/usr/bin/env python
"""Prints the largest error of every activation's derivative in units in the last place; exits 1 on a missed bound."""

import argparse
import sys
import time
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dlfn.core import InputError
from dlfn.registry import ulp
from dlfn.registry.all import entries

EXHAUSTIVE = """all 2^32 float32 inputs, not a dense sample: 20 to 45 minutes for each configuration of an op, some four
hours for all (extrapolated from 16 million inputs each on a busy machine of two cores)"""


def progress(chunks):
    """Passes chunks on, and once in a while says on stderr how many have been."""
    start = time.monotonic()
    total = (1 << 32) // ulp.CHUNK
    for i, chunk in enumerate(chunks):
        yield chunk
        if i % 32 == 31:
            done = time.monotonic() - start
            print(f"  {i + 1}/{total} chunks, {done / 60:.0f} of about {done / 60 / (i + 1) * total:.0f} min",
                  file=sys.stderr, flush=True)  # fmt: skip


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", metavar="OP", help="names of activations (default: all)")
    parser.add_argument("--exhaustive", action="store_true", help=EXHAUSTIVE)
    arguments = parser.parse_args(argv)
    try:
        chosen = list(entries(arguments.ops))
    except InputError as error:
        parser.error(str(error))
    cases = [(entry, case) for entry in chosen for case in entry.cases if case.slope]
    if not cases:
        parser.error(f"no closed form of a derivative is registered for {', '.join(arguments.ops)}")
    measurements = []
    for entry, case in cases:
        print(f"{entry.op.name} {case.name}", file=sys.stderr, flush=True)
        watch = progress if arguments.exhaustive else iter
        measurements.append(ulp.measure(entry, case, exhaustive=arguments.exhaustive, watch=watch))
    print(ulp.report(measurements))
    return 0 if all(m.ok for m in measurements) else 1


if __name__ == "__main__":
    sys.exit(main())
