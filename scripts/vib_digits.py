#!/usr/bin/env python
"""Trains a variational information bottleneck on handwritten digits at several prices β of a nat: a classifier that
sees a noisy code of an image, and pays β for each nat that the code tells of it. Prints accuracy against rate."""

import argparse
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import nn, ops, optimizers
from dlfn.check.table import format_table
from dlfn.train.data import batch_indices, digits
from scripts._example import fit, positive, pyplot, save, with_plot

PRICES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
LATENT, BATCH, RATE = 16, 128, 1e-3
ENCODER = nn.Serial(flat=nn.Flatten(), hidden=nn.Linear(128), act=nn.ReLU(), code=nn.Linear(2 * LATENT))
DECODER = nn.Linear(10)


def logits_and_rate(params, x, noise):
    """What the decoder makes of a code, and the bound on the information in it, in nats per image."""
    mean, log_variance = jnp.split(ENCODER.apply(params["encoder"], (), x)[0], 2, axis=-1)
    code = mean + jnp.exp(log_variance / 2) * noise
    return DECODER.apply(params["decoder"], (), code)[0], ops.normal_kl(mean, log_variance)


def train(price, params, batches):
    def loss(params, x, labels, noise):
        logits, rate = logits_and_rate(params, x, noise)
        return ops.softmax_cross_entropy(logits, labels) + price * rate

    return fit(loss, params, optimizers.adam(RATE), batches)[0]


def test(params, x, labels, noise):
    logits, rate = logits_and_rate(params, x, noise)
    return rate, ops.softmax_cross_entropy(logits, labels), jnp.mean(logits.argmax(-1) != labels)


def plot(path, rates, losses, errors):
    figure, (plane, line) = pyplot().subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    most = np.linspace(0, 2 * max(rates), 10_000)
    plane.plot(most, np.minimum(most, np.log(10)), "--", color="gray", linewidth=0.8, label="the most that can be")
    plane.plot(rates, np.log(10) - losses, "o-", label="test images")
    plane.set(xscale="symlog", xlabel="rate: nats of the image in the code", ylabel="nats of the label in the code",
              xlim=(0, 2 * max(rates)), ylim=(-0.1, 2.5), title="what the code tells")  # fmt: skip
    plane.legend(loc="lower right")
    line.plot(PRICES, 100 * errors, "o-")
    line.set(xscale="log", yscale="log", xlabel="β, price of a nat", ylabel="test error in %", title="what it costs")
    save(figure, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=positive, default=1500, help="of Adam, for each β (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and noise (default: %(default)s)")
    arguments = with_plot(parser, argv, "vib_digits", "rate, information and error")
    train_set, test_set, _ = digits(arguments.seed, 0.2)
    (train_x, train_y), test_examples = train_set.rows(0, train_set.size), test_set.rows(0, test_set.size)
    keys = jax.random.split(jax.random.key(arguments.seed), 4)
    params = {
        "encoder": jax.jit(ENCODER.init)(keys[0], train_x[:1])[0],
        "decoder": jax.jit(DECODER.init)(keys[1], np.zeros((1, LATENT), np.float32))[0],
    }
    steps = range(arguments.steps)
    chosen = np.stack([batch_indices(arguments.seed, step, len(train_x), BATCH) for step in steps])
    batches = train_x[chosen], train_y[chosen], jax.random.normal(keys[2], (*chosen.shape, LATENT))
    # All prices at once: the whole training is batched over them.
    fitted = jax.vmap(train, (0, None, None))(jnp.asarray(PRICES), params, batches)
    noise = jax.random.normal(keys[3], (len(test_examples[0]), LATENT))
    rates, losses, errors = map(
        np.asarray, jax.jit(jax.vmap(test, (0, None, None, None)))(fitted, *test_examples, noise)
    )
    rows = [
        [f"{price:g}", f"{rate:.2f}", f"{np.log(10) - loss:z.2f}", f"{100 * (1 - error):.1f} %"]
        for price, rate, loss, error in zip(PRICES, rates, losses, errors)
    ]
    print(format_table(["β", "rate (nats)", "of the label (nats)", "test accuracy"], rows))
    plot(arguments.plot, rates, losses, errors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
