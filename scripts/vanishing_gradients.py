#!/usr/bin/env python
"""Measures how much of its past reaches the present of a vanilla RNN and of an LSTM: the norm of ∂h_t/∂h_{t−k}
against k, for recurrent weights and forget biases of several sizes. The LSTM's h is its whole state, h and c."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import functools

import jax

from dlfn import nn
from dlfn.check import jacobian_norms
from dlfn.check.table import format_table
from dlfn.nn.initializers import orthogonal
from scripts._example import positive, pyplot, save, with_plot

HIDDEN, FEATURES = 64, 8
CELLS = {
    **{
        f"RNN, W of radius {gain:g}": nn.RNNCell(HIDDEN, recurrent_init=functools.partial(orthogonal, gain=gain))
        for gain in (0.9, 1.0, 1.5)
    },
    **{
        f"LSTM, forget bias {bias:g}": nn.LSTMCell(HIDDEN, recurrent_init=orthogonal, forget_bias=bias)
        for bias in (0.0, 1.0, 3.0)
    },
}


def norms_of(cell, xs, key):
    carry = cell.initial(xs[0])
    params, _ = cell.init(key, (carry, xs[0]))
    return jacobian_norms(lambda carry, x: cell.apply(params, (), (carry, x))[0][0], carry, xs)


def plot(path, norms):
    figure, axes = pyplot().subplots(figsize=(7, 4), layout="constrained")
    for name, values in norms.items():
        shade = pyplot().get_cmap("Oranges" if name.startswith("RNN") else "Blues")
        rank = [n for n in norms if n[:3] == name[:3]].index(name)
        axes.plot(values, label=name, color=shade(0.45 + 0.22 * rank))
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set(yscale="log", xlim=(0, None), xlabel="$k$", ylabel=r"$\|\partial h_t / \partial h_{t-k}\|$",
             title="what is left of a gradient k steps back")  # fmt: skip
    axes.legend(fontsize=8)
    save(figure, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=positive, default=100, help="length of the sequence (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs (default: %(default)s)")
    arguments = with_plot(parser, argv, "vanishing_gradients", "the norms against k")
    inputs, weights = jax.random.split(jax.random.key(arguments.seed))
    xs = jax.random.normal(inputs, (arguments.steps, FEATURES))
    norms = {name: norms_of(cell, xs, weights) for name, cell in CELLS.items()}
    at = sorted({round(share * arguments.steps) for share in (0.1, 0.25, 0.5, 1)})
    rows = [[name, *(f"{values[k]:.1e}" for k in at)] for name, values in norms.items()]
    print(format_table(["‖∂h_t/∂h_{t−k}‖", *(f"k = {k}" for k in at)], rows))
    plot(arguments.plot, norms)
    return 0


if __name__ == "__main__":
    sys.exit(main())
