#!/usr/bin/env python
"""The perceptron rule on the NAND table, step by step, until a pass makes no error (001 section 1)."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax.numpy as jnp

from dlfn.check.table import format_table
from dlfn.linear_models import perceptron

INPUTS = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
NAND = jnp.array([1.0, 1.0, 1.0, -1.0])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--learning-rate", type=float, default=1.0, metavar="RATE", help="of the rule (default: %(default)s)"
    )
    parser.add_argument("--passes", type=int, default=10, metavar="N", help="the most passes over the table")
    arguments = parser.parse_args(argv)
    if arguments.passes < 1:
        parser.error("--passes must be 1 or more")

    fit = perceptron(INPUTS, NAND, learning_rate=arguments.learning_rate, passes=arguments.passes, record=True)
    made = int(fit.passes) * len(INPUTS)
    rows = []
    for number in range(made):
        score, prediction, error, weights = (part[number] for part in fit.steps)
        x = [1, *INPUTS[number % len(INPUTS)]]
        rows.append([number + 1, _vector(x), int(NAND[number % len(NAND)]), f"{score:g}", int(prediction), int(error),
                     _vector(weights)])  # fmt: skip
    print(format_table(["step", "x", "t", "z", "sign z", "e", "w"], [[str(cell) for cell in row] for row in rows]))
    print(f"{'converged' if fit.converged else 'no end'} after {fit.passes} passes: w = {_vector(fit.weights)}")
    return 0 if fit.converged else 1


def _vector(x):
    return "[" + ", ".join(f"{float(entry):g}" for entry in x) + "]"


if __name__ == "__main__":
    sys.exit(main())
