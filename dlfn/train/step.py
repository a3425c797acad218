"""Training steps: the loss, its gradient by any of three paths, and many steps in one dispatch."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import dlfn
from dlfn import ops
from dlfn.nn import Layer

__all__ = ["GRADIENTS", "Carry", "Metrics", "make_dispatch", "make_evaluate", "make_loss"]

# Each makes value-and-gradient of a loss that returns (value, aux).
GRADIENTS: dict[str, Callable[..., Callable[..., Any]]] = {
    "hand": lambda loss: jax.value_and_grad(loss, has_aux=True),
    "backprop": lambda loss: dlfn.backprop_value_and_grad(loss, has_aux=True),
    "autodiff": lambda loss: jax.value_and_grad(dlfn.autodiff(loss), has_aux=True),
}


class Carry(NamedTuple):
    """What one step hands to the next."""

    params: Any
    state: Any
    optimizer: Any


class Metrics(NamedTuple):
    """What a step reports. ``finite`` has one flag for each leaf of the gradient."""

    loss: jax.Array
    accuracy: jax.Array
    finite: jax.Array


def make_loss(model: Layer) -> Callable[..., tuple[jax.Array, Any]]:
    """``loss(params, state, x, y, key) -> (mean cross-entropy, (new state, accuracy))``, in training mode."""

    def loss(params: Any, state: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = model.apply(params, state, x, key=key, train=True)
        return ops.softmax_cross_entropy(logits, y), (state, _accuracy(logits, y))

    return loss


def make_dispatch(model: Layer, optimizer: optax.GradientTransformation, gradient: str) -> Any:
    """``dispatch(carry, x, y, key, first_step, indices) -> (carry, Metrics)``: one step for each row of ``indices``.

    The carry's buffers are donated. Metrics have a leading axis of steps. A step draws its random numbers from ``key``
    and its own number, so that how many steps share a dispatch makes no difference.
    """
    value_and_grad = GRADIENTS[gradient](make_loss(model))

    @functools.partial(jax.jit, donate_argnums=0)
    def dispatch(carry: Carry, x: jax.Array, y: jax.Array, key: jax.Array, first_step: jax.Array, indices: jax.Array):
        def step(carry: Carry, inputs: tuple[jax.Array, jax.Array]) -> tuple[Carry, Metrics]:
            number, rows = inputs
            step_key = jax.random.fold_in(key, number)
            (loss, (state, accuracy)), grads = value_and_grad(carry.params, carry.state, x[rows], y[rows], step_key)
            finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads)])
            updates, optimizer_state = optimizer.update(grads, carry.optimizer, carry.params)
            params = optax.apply_updates(carry.params, updates)
            return Carry(params, state, optimizer_state), Metrics(loss, accuracy, finite)

        return jax.lax.scan(step, carry, (first_step + jnp.arange(indices.shape[0]), indices))

    return dispatch


def make_evaluate(model: Layer) -> Any:
    """``evaluate(params, state, x, y) -> (mean cross-entropy, accuracy)``, outside of training mode and compiled."""

    @jax.jit
    def evaluate(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, _ = model.apply(params, state, x)
        return ops.softmax_cross_entropy(logits, y), _accuracy(logits, y)

    return evaluate


def _accuracy(logits: jax.Array, y: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == y).mean()
