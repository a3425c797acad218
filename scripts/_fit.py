"""What the examples share: training as one compiled loop, and a number of steps on the command line."""

import argparse

import jax
import optax
from jax import lax


def positive(text):
    """The type of an argument that counts something."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def fit(loss, params, optimizer, inputs):
    """Minimises ``loss(params, *batch)`` over the batches that the arrays of ``inputs`` have along their first axis.
    Returns the parameters, and the loss of every step."""

    def step(carry, batch):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def run(params, inputs):
        return lax.scan(step, (params, optimizer.init(params)), inputs)

    (params, _), losses = run(params, inputs)
    return params, losses
