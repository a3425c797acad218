#!/usr/bin/env python
"""Fits a curve with a network whose weights are distributions (Bayes by backprop), and shows how its uncertainty grows
away from the data."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlfn import nn, ops, optimizers
from scripts._example import fit, positive, pyplot, save, with_plot

NOISE, POINTS, DRAWS = 0.1, 80, 500
MODEL = nn.Serial(
    hidden=nn.BayesianLinear(50, std_init=0.05),
    act=nn.ReLU(),
    y=nn.BayesianLinear(1, prior_std=0.3, std_init=0.05),
)


def curve(x):
    return np.sin(3 * x) + 0.3 * x


def negative_bound(params, x, y, key):
    """What the data lack in log-likelihood, plus the divergence of the weights from their prior, per point."""
    prediction, _ = MODEL.apply(params, (), x, key=key, train=True)
    misfit = -jnp.mean(ops.normal_log_prob(y, prediction, NOISE))
    kl = sum(layer.kl(params[name]) for name, layer in MODEL.children().items() if params[name])
    return misfit + kl / POINTS


def plot(path, grid, predictions, x, y):
    mean, std = predictions.mean(0), predictions.std(0)
    figure, (above, below) = pyplot().subplots(
        2, 1, figsize=(7, 5.5), sharex=True, height_ratios=[3, 1], layout="constrained"
    )
    above.fill_between(grid, mean - 2 * std, mean + 2 * std, alpha=0.25, label="mean ± 2 deviations")
    above.plot(grid, predictions[:8].T, color="C0", linewidth=0.5, alpha=0.6)
    above.plot(grid, mean, color="C0", label="mean")
    above.plot(grid, curve(grid), color="gray", linestyle="--", label="the curve")
    above.plot(x, y, "k.", markersize=4, label="data")
    above.legend(loc="upper center", ncols=2, fontsize=8)
    above.set(ylabel="y", title="a network whose weights are distributions, and eight draws of it")
    below.plot(grid, std)
    below.axvspan(-1, 1, color="gray", alpha=0.15, linewidth=0)
    below.set(xlabel="x", ylabel="deviation", ylim=(0, None))
    save(figure, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=positive, default=8000, help="of Adam (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and draws (default: %(default)s)")
    arguments = with_plot(parser, argv, "bayes_regression", "data, predictions and uncertainty")
    rng = np.random.default_rng(arguments.seed)
    x = rng.uniform(-1, 1, (POINTS, 1)).astype(np.float32)
    y = (curve(x) + NOISE * rng.normal(size=x.shape)).astype(np.float32)
    keys = jax.random.split(jax.random.key(arguments.seed), 3)
    params, _ = jax.jit(MODEL.init)(keys[0], x)
    draws = jax.random.split(keys[1], arguments.steps)
    optimizer = optimizers.adam(optax.cosine_decay_schedule(1e-2, arguments.steps))
    params, losses = fit(lambda params, key: negative_bound(params, x, y, key), params, optimizer, (draws,))
    grid = np.linspace(-2.5, 2.5, 201, dtype=np.float32)
    draw = lambda key: MODEL.apply(params, (), grid[:, None], key=key, train=True)[0][:, 0]  # noqa: E731
    predictions = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(keys[2], DRAWS)))
    std = predictions.std(0)
    print(f"negative bound {np.mean(losses[-100:]):.3f} nats per point after {arguments.steps} steps")
    print(
        "deviation of the predictions at x =",
        ", ".join(f"{x:g}: {std[abs(grid - x).argmin()]:.3f}" for x in range(-2, 3)),
    )
    plot(arguments.plot, grid, predictions, x, y)
    return 0


if __name__ == "__main__":
    sys.exit(main())
