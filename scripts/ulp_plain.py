#!/usr/bin/env python
"""Prints the largest errors of σ′ and tanh′ in units in the last place: of plain JAX, with and without
jax.lax.AccuracyMode.HIGHEST, and of dlfn. Run it with each version of jax that is of interest."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from jax import lax

from dlfn import ops
from dlfn.check.table import format_table
from dlfn.registry import ulp
from dlfn.registry.all import entries

REGIONS = [("float32", 5), ("float32", 20), ("float32", np.inf), ("bfloat16", 5), ("bfloat16", np.inf)]
HIGHEST = lax.AccuracyMode.HIGHEST
RIVALS = {
    "sigmoid": {
        "jax.nn.sigmoid": jax.nn.sigmoid,
        "lax.logistic, HIGHEST": lambda x: lax.logistic(x, accuracy=HIGHEST),
        "dlfn": ops.sigmoid,
    },
    "tanh": {
        "jnp.tanh": jax.numpy.tanh,
        "lax.tanh, HIGHEST": lambda x: lax.tanh(x, accuracy=HIGHEST),
        "dlfn": ops.tanh,
    },
}


def figures(f, slope):
    """The largest error over each of the regions."""
    for dtype, bound in REGIONS:
        x = next(ulp.inputs(dtype, slope))
        error = ulp.ulp_error(f, slope, x)
        yield f"{error[np.abs(x.astype(float)) <= bound].max():.3g}"


def main(argv=None):
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    rows = []
    for entry in entries(list(RIVALS)):
        rows += [
            [f"{entry.op.name}′", name, *figures(f, entry.cases[0].slope)] for name, f in RIVALS[entry.op.name].items()
        ]
    print(f"jax {jax.__version__}, {jax.default_backend()}; largest error in ULP of the dtype")
    print(format_table(["", "of", *(f"{dtype}, |x| ≤ {bound:g}" for dtype, bound in REGIONS)], rows))


if __name__ == "__main__":
    main()
