"""Training steps: the loss, its gradient by any of three paths, and many steps in one dispatch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import dlfn
from dlfn.train.data import Source
from dlfn.train.tasks import Task

__all__ = ["GRADIENTS", "Carry", "Learner", "Metrics", "at_least_float32", "make_dispatch"]

# Each makes value-and-gradient of a loss that returns (value, aux).
GRADIENTS: dict[str, Callable[..., Callable[..., Any]]] = {
    "hand": lambda loss: jax.value_and_grad(loss, has_aux=True),
    "backprop": lambda loss: dlfn.backprop_value_and_grad(loss, has_aux=True),
    "autodiff": lambda loss: jax.value_and_grad(dlfn.autodiff(loss), has_aux=True),
}

# Parts of a batch and layers of a model fold in their index, which is below this.
_AUGMENT = 2**31 - 1


class Carry(NamedTuple):
    """What one step hands to the next.

    Attributes:
        average: the moving average of the parameters, or ``()`` without one.
        alive: False once a loss or gradient was not finite; all else is as it was before that step.
    """

    params: Any
    state: Any
    optimizer: Any
    average: Any
    alive: Any


class Metrics(NamedTuple):
    """What a step reports: the loss, the task's metrics by name, the norm of every leaf's gradient, and that of the
    updates together."""

    loss: jax.Array
    task: dict[str, jax.Array]
    gradient_norms: jax.Array
    update_norm: jax.Array
    alive: jax.Array


@dataclass(frozen=True)
class Learner:
    """A model that learns a task: what is the same in every step.

    Args:
        compute: the dtype of the forward and the backward pass, or None for that of the parameters.
        augment: ``augment(key, batch)``, or None.
        ema: the decay of the moving average of the parameters; 0 for none.
        accumulate: into how many parts a batch is taken apart.
    """

    model: Any
    task: Task
    optimizer: optax.GradientTransformation
    gradient: str = "hand"
    compute: Any = None
    augment: Callable[[jax.Array, Any], Any] | None = None
    ema: float = 0.0
    accumulate: int = 1

    def start(self, params: Any, state: Any) -> Carry:
        average = jax.tree.map(jnp.copy, params) if self.ema else ()
        return Carry(params, state, self.optimizer.init(params), average, jnp.array(True))

    def measure(self, params: Any, state: Any, batch: Any, **options: Any) -> Any:
        """What the task measures, computed in the dtype for that; the state keeps its own."""
        measured = self.task.measure(self.model, *self._cast((params, state, batch)), **options)
        new = jax.tree.map(lambda new, old: new.astype(old.dtype), measured.state, state)
        return measured._replace(state=new)

    def outputs(self, params: Any, state: Any, batch: Any) -> Any:
        """The shapes of what the model makes of a batch at inference."""
        apply = lambda params, state, batch: self.model.apply(params, state, self.task.inputs(batch))[0]  # noqa: E731
        return jax.eval_shape(apply, params, state, batch)

    def loss(self, params: Any, state: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """``(mean loss, (new state, means of the metrics))`` in training."""
        measured = self.measure(params, state, batch, key=key, train=True)
        means = {name: _mean(value) for name, value in measured.metrics.items()}
        return _mean(measured.losses), (measured.state, means)

    def augmented(self, batch: Any, key: jax.Array) -> Any:
        """The batch of a step, by a key that none of its parts and layers has."""
        return batch if self.augment is None else self.augment(jax.random.fold_in(key, _AUGMENT), batch)

    def step(self, carry: Carry, batch: Any, key: jax.Array) -> tuple[Carry, Metrics]:
        batch = self.augmented(batch, key)
        loss, state, means, grads = self._gradient(carry, batch, key)
        norms = jnp.stack([jnp.linalg.norm(leaf.astype(loss.dtype).reshape(-1)) for leaf in jax.tree.leaves(grads)])
        updates, optimizer = self.optimizer.update(grads, carry.optimizer, carry.params)
        params = optax.apply_updates(carry.params, updates)
        average = optax.incremental_update(params, carry.average, 1 - self.ema) if self.ema else ()
        alive = carry.alive & jnp.isfinite(loss) & jnp.isfinite(norms).all()
        # A step that would spoil the parameters is not taken, nor are those after it in the same dispatch: what is kept
        # is what the first bad step began with. The selection is part of the loops that compute the updates.
        new = Carry(params, state, optimizer, average, alive)
        carry = jax.tree.map(lambda new, old: jnp.where(alive, new, old), new, carry)
        return carry, Metrics(loss, means, norms, optax.tree.norm(updates), alive)

    def _gradient(self, carry: Carry, batch: Any, key: jax.Array) -> Any:
        value_and_grad = GRADIENTS[self.gradient](self.loss)
        if self.accumulate == 1:
            (loss, (state, means)), grads = value_and_grad(carry.params, carry.state, batch, key)
            return loss, state, means, grads

        # Every so-manieth example, so that a batch that is divided over devices stays so.
        parts = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(-1, self.accumulate, *a.shape[1:]), 1, 0), batch)

        def part(state: Any, inputs: Any) -> Any:
            index, batch = inputs
            own = jax.random.fold_in(key, index)
            (loss, (state, means)), grads = value_and_grad(carry.params, state, batch, own)
            return state, (loss, means, grads)

        def added(carried: Any, inputs: Any) -> Any:
            state, sums = carried
            state, terms = part(state, inputs)
            return (state, jax.tree.map(jnp.add, sums, terms)), None

        first, rest = jax.tree.map(lambda a: a[0], parts), jax.tree.map(lambda a: a[1:], parts)
        begin = part(carry.state, (0, first))
        (state, sums), _ = jax.lax.scan(added, begin, (jnp.arange(1, self.accumulate), rest))
        loss, means, grads = jax.tree.map(lambda a: a / self.accumulate, sums)
        return loss, state, means, grads

    def _cast(self, tree: Any) -> Any:
        if self.compute is None:
            return tree
        return jax.tree.map(lambda a: a.astype(self.compute) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def at_least_float32(values: jax.Array) -> jax.Array:
    """Losses and metrics as means of them are computed."""
    return values.astype(jnp.float32) if values.dtype.itemsize < 4 else values


def _mean(values: jax.Array) -> jax.Array:
    return jnp.mean(at_least_float32(values))


def make_dispatch(learner: Learner, source: Source, places: Any = None) -> Any:
    """``dispatch(carry, resident, key, first_step, drawn) -> (carry, Metrics)``: one step for each entry of ``drawn``.

    The carry's buffers are donated. Metrics have a leading axis of steps. A step draws its random numbers from ``key``
    and its own number, so that how many steps share a dispatch makes no difference. ``places`` are the shardings of the
    carry, without which XLA may choose others for what it returns, and the compiled program would not take that again.
    """

    def dispatch(carry: Carry, resident: Any, key: jax.Array, first_step: jax.Array, drawn: Any) -> Any:
        def step(carry: Carry, inputs: tuple[jax.Array, Any]) -> tuple[Carry, Metrics]:
            number, entry = inputs
            return learner.step(carry, source.take(resident, entry), jax.random.fold_in(key, number))

        count = len(jax.tree.leaves(drawn)[0])
        if count == 1:  # without a loop, which would keep XLA from what it does outside of loops
            carry, metrics = step(carry, (first_step, jax.tree.map(lambda a: a[0], drawn)))
            return carry, jax.tree.map(lambda a: a[None], metrics)
        return jax.lax.scan(step, carry, (first_step + jnp.arange(count), drawn))

    return jax.jit(dispatch, donate_argnums=0, out_shardings=(places, None))
