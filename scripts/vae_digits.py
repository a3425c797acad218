#!/usr/bin/env python
"""Trains a variational autoencoder on handwritten digits, made of dlfn's layers and the closed-form KL, and prints
its evidence lower bound. With --against pytorch also trains the same model there: from the same weights, on the same
batches, with the same noise; exits 1 if our loss is then more than 1.02 times as large."""

import argparse
import importlib.util
import math
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import nn, ops, optimizers, weights
from dlfn.train.data import batch_indices, digit_images, split
from scripts._example import fit, positive, pyplot, save, with_plot

RATE, TOLERANCE, LATENT = 1e-3, 1.02, 8
ENCODER = nn.Serial(hidden=nn.Linear(256), act=nn.Tanh(), code=nn.Linear(2 * LATENT))
DECODER = nn.Serial(hidden=nn.Linear(256), act=nn.Tanh(), pixels=nn.Linear(64))
LOG_CHOICES = np.log([math.comb(16, k) for k in range(17)]).astype(np.float32)


def terms(params, counts, noise):
    """The two terms of the negative bound, in nats per image. A pixel counts the points that are set in a block of 4×4
    of a scan, and so is binomial: 16 times the cross-entropy of one point, less the logarithm of the choices."""
    mean, log_variance = jnp.split(ENCODER.apply(params["encoder"], (), counts / 16)[0], 2, axis=-1)
    logits, _ = DECODER.apply(params["decoder"], (), mean + jnp.exp(log_variance / 2) * noise)
    points = 16 * ops.binary_cross_entropy(logits, counts / 16, reduction="sum")
    choices = jnp.sum(jnp.asarray(LOG_CHOICES)[counts.astype(int)])
    return (points - choices) / len(counts), ops.normal_kl(mean, log_variance)


def loss(params, counts, noise):
    return sum(terms(params, counts, noise))


def fit_in_pytorch(params, batches, noises):
    """The losses of every step, of the same model from the same weights."""
    import torch

    torch.set_num_threads(1)  # such small products take longer in several threads

    def network(layers, params):
        module = torch.nn.Sequential()
        for name in layers.children():
            module.add_module(name, torch.nn.Linear(*params[name]["w"].shape) if params[name] else torch.nn.Tanh())
        arrays = weights.export_state(params, (), weights.torch_names(layers))
        module.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in arrays.items()})
        return module

    encoder, decoder = network(ENCODER, params["encoder"]), network(DECODER, params["decoder"])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], RATE)
    losses = []
    choices = torch.tensor(LOG_CHOICES)
    for counts, noise in zip(torch.tensor(batches), torch.tensor(np.asarray(noises))):
        mean, log_variance = encoder(counts / 16).chunk(2, dim=-1)
        logits = decoder(mean + torch.exp(log_variance / 2) * noise)
        kl = (mean**2 + torch.exp(log_variance) - 1 - log_variance).sum(-1).mean() / 2
        points = 16 * torch.nn.functional.binary_cross_entropy_with_logits(logits, counts / 16, reduction="sum")
        loss = (points - choices[counts.long()].sum()) / len(counts) + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.asarray(losses)


def plot(path, params, counts, key):
    @jax.jit
    def decoded(code):
        return ops.sigmoid(DECODER.apply(params["decoder"], (), code)[0])

    x = counts[:10] / 16
    codes = ENCODER.apply(params["encoder"], (), x)[0][:, :LATENT]
    rows = {
        "test images": x,
        "reconstructions": decoded(codes),
        "samples": decoded(jax.random.normal(key, (60, LATENT))),
    }
    figure, axes = pyplot().subplots(3, 1, figsize=(6, 5.8), height_ratios=[1, 1, 6], layout="constrained")
    for ax, (title, images) in zip(axes, rows.items()):
        tiles = np.pad(np.asarray(images).reshape(-1, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
        ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(-1, 100), cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, loc="left", fontsize=10)
        ax.axis("off")
    save(figure, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=positive, default=3000, help="of Adam (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=128, help="images in a batch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and noise (default: %(default)s)")
    parser.add_argument("--against", choices=["pytorch"], help="what else to train the same model with")
    arguments = with_plot(parser, argv, "vae_digits", "test images, reconstructions and samples")
    if arguments.against and importlib.util.find_spec("torch") is None:
        parser.error("argument --against: pytorch is not installed: pip install torch")
    images, labels = digit_images()
    images = images.reshape(-1, 64).astype(np.float32)
    train, test = (images[part] for part in split(labels, arguments.seed, test_fraction=0.2))
    keys = jax.random.split(jax.random.key(arguments.seed), 5)
    params = {
        "encoder": jax.jit(ENCODER.init)(keys[0], train[:1])[0],
        "decoder": jax.jit(DECODER.init)(keys[1], np.zeros((1, LATENT), np.float32))[0],
    }
    steps = range(arguments.steps)
    batches = train[[batch_indices(arguments.seed, step, len(train), arguments.batch_size) for step in steps]]
    noise = jax.random.normal(keys[2], (*batches.shape[:2], LATENT))
    fitted, losses = fit(loss, params, optimizers.adam(RATE), (batches, noise))
    losses = np.asarray(losses)
    reconstruction, kl = jax.jit(terms)(fitted, test, jax.random.normal(keys[3], (len(test), LATENT)))
    last = min(100, arguments.steps)
    print(f"training ELBO {-losses[-last:].mean():.2f} nats per image (mean of the last {last} of {len(losses)} steps)")
    print(f"test ELBO {-reconstruction - kl:.2f} = {-reconstruction:.2f} of reconstruction − {kl:.2f} of KL")
    plot(arguments.plot, fitted, test, keys[4])
    if arguments.against is None:
        return 0
    theirs = fit_in_pytorch(params, batches, noise)
    ratio = losses[-last:].mean() / theirs[-last:].mean()
    print(f"PyTorch, training ELBO {-theirs[-last:].mean():.2f}; our loss over theirs {ratio:.5f}, first step "
          f"{losses[0] / theirs[0]:.7f}")  # fmt: skip
    return 0 if ratio <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
