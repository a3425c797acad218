#!/usr/bin/env python
"""Prints the hard inputs of the registry: what is right, what the op's gradient is, and autodiff's of the textbook
formula, at the coordinate where that is worst."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

import dlfn
from dlfn import registry
from dlfn.check.table import format_table
from dlfn.registry.all import entries


def gradients(op, trap):
    """The gradients in the arguments that the trap names, for a cotangent of ones, under jit."""
    args = [None if a is None else registry.as_argument(np.asarray(a), trap.dtype) for a in trap.args]
    at = tuple(trap.gradients)

    def loss(*moving):
        full = list(args)
        for i, value in zip(at, moving, strict=True):
            full[i] = value
        outs = jax.tree.leaves(op(*full, **trap.static))
        # Sums in float32, to be of the op and not of this.
        return sum(jnp.sum(y.astype(jnp.float32)) for y in outs)

    return jax.jit(jax.grad(loss, tuple(range(len(at)))))(*[args[i] for i in at])


def row(entry, trap):
    found = [gradients(f, trap) for f in (entry.op, dlfn.autodiff(entry.op))]
    worst = None
    for right, ours, auto in zip(trap.gradients.values(), *found, strict=True):
        right, ours, auto = (np.asarray(a, np.float64) for a in (right, ours, auto))
        with np.errstate(all="ignore"):
            gap = np.abs(auto - right) / np.maximum(np.abs(right), 1e-30)
        gap = np.where(np.isnan(gap), np.inf, gap)
        place = np.unravel_index(np.argmax(gap), gap.shape)
        if worst is None or gap[place] > worst[0]:
            worst = gap[place], right[place], ours[place], auto[place]
    return [entry.op.name, trap.name, trap.dtype, *(f"{figure:.4g}" for figure in worst[1:])]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", metavar="OP", help="names of ops (default: all)")
    arguments = parser.parse_args(argv)
    try:
        chosen = list(entries(arguments.ops))
    except dlfn.InputError as error:
        parser.error(str(error))
    rows = [row(entry, trap) for entry in chosen for trap in entry.traps]
    print(format_table(["op", "input", "dtype", "right", "dlfn", "autodiff"], rows))


if __name__ == "__main__":
    main()
