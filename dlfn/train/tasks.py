"""What a run learns: how a batch becomes inputs, losses and metrics."""

import abc
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.core import InputError

__all__ = ["ELBO", "TASKS", "Classification", "Measured", "NextToken", "Regression", "Supervised", "Task", "as_task"]


class Measured(NamedTuple):
    """What a task makes of a batch.

    Attributes:
        losses: one for each example, (batch, ...), or their mean, a scalar.
        state: the model's new state.
        metrics: by name, in the shape of the losses or scalars.
    """

    losses: jax.Array
    state: Any
    metrics: Mapping[str, jax.Array]


class Task(abc.ABC):
    """What is learnt from a batch. Subclasses are frozen dataclasses, whose fields a configuration sets.

    >>> import dlfn.nn as nn
    >>> model, x, labels = nn.Linear(2), jnp.ones((3, 4)), jnp.array([0, 1, 1])
    >>> params, state = model.init(jax.random.key(0), x)
    >>> measured = Classification().measure(model, params, state, (x, labels))
    >>> measured.losses.shape, sorted(measured.metrics)
    ((3,), ['accuracy'])
    """

    def inputs(self, batch: Any) -> Any:
        """What the model is initialised with and applied to."""
        return batch[0] if isinstance(batch, tuple) else batch

    def unit(self, batch: Any) -> tuple[str, int]:
        """What a batch is counted in, and how many it has."""
        return "examples", len(jax.tree.leaves(batch)[0])

    @abc.abstractmethod
    def measure(
        self, model: Any, params: Any, state: Any, batch: Any, *, key: Any = None, train: bool = False
    ) -> Measured:
        """The losses of a batch, the model's new state, and metrics."""


@dataclass(frozen=True)
class Supervised(Task):
    """``loss(outputs, targets)`` of batches ``(x, targets)``, and metrics that are functions of the same two.

    A loss of one number per example lets a last, smaller batch of an evaluation be padded and masked. If it is the mean
    of them, that batch is evaluated in its own size.
    """

    loss: Callable[[Any, Any], jax.Array]
    metrics: Mapping[str, Callable[[Any, Any], jax.Array]] = field(default_factory=dict)

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x, targets = batch
        outputs, state = model.apply(params, state, x, key=key, train=train)
        metrics = {name: metric(outputs, targets) for name, metric in self.metrics.items()}
        return Measured(self.loss(outputs, targets), state, metrics)


@dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy of logits (batch, ..., classes) and labels (batch, ...), with the accuracy.

    Args:
        label_smoothing: in training alone.
    """

    label_smoothing: float = 0.0

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x, labels = batch
        logits, state = model.apply(params, state, x, key=key, train=train)
        smoothing = self.label_smoothing if train else 0.0
        losses = ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return Measured(losses, state, {"accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)})


@dataclass(frozen=True)
class NextToken(Task):
    """Cross-entropy of every next token, of batches of tokens (batch, steps + 1), with the perplexity's logarithm in
    bits per token. A model with a method ``loss(params, state, tokens, targets, *, key, train, reduction)``, which
    returns losses and state, computes it without logits of all tokens at once, as :func:`dlfn.nn.gpt` does."""

    def inputs(self, batch):
        return batch[..., :-1]

    def unit(self, batch):
        return "tokens", math.prod(jax.eval_shape(self.inputs, batch).shape)

    def measure(self, model, params, state, batch, *, key=None, train=False):
        tokens, targets = batch[..., :-1], batch[..., 1:]
        if hasattr(model, "loss"):
            reduction = "mean" if train else "none"  # the mean's gradient takes one product less
            losses, state = model.loss(params, state, tokens, targets, key=key, train=train, reduction=reduction)
        else:
            logits, state = model.apply(params, state, tokens, key=key, train=train)
            losses = ops.softmax_cross_entropy(logits, targets, reduction="none")
        return Measured(losses, state, {"bits": losses / jnp.log(2.0)})


@dataclass(frozen=True)
class Regression(Task):
    """The loss of targets (batch,) or (batch, targets), with the mean absolute error.

    Args:
        loss: the squared or the absolute error, or Huber's.
    """

    loss: Literal["mse", "mae", "huber"] = "mse"

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x, targets = batch
        outputs, state = model.apply(params, state, x, key=key, train=train)
        if outputs.ndim == targets.ndim + 1 and outputs.shape[-1] == 1:
            outputs = outputs[..., 0]
        if outputs.shape != targets.shape:
            raise InputError(
                f"the model's outputs have shape {list(outputs.shape)} and the targets {list(targets.shape)}; "
                "set the model's outputs to the number of targets"
            )
        losses = getattr(ops, self.loss)(outputs, targets, reduction="none")
        return Measured(losses, state, {"mae": jnp.abs(outputs - targets)})


@dataclass(frozen=True)
class ELBO(Task):
    r"""The negative evidence lower bound of a variational autoencoder with Bernoulli pixels,
    :math:`-\mathrm E_q \log p(x \mid z) + \beta\, \mathrm{KL}(q(z \mid x) \,\|\, \mathcal N(0, I))`.

    The model returns logits of the pixels, in the shape of x, and mean and logarithm of the variance of z. Labels are
    left alone.

    Args:
        beta: the weight of the divergence.

    Source: Kingma & Welling 2014, *Auto-Encoding Variational Bayes*; Higgins et al. 2017, *beta-VAE*, for beta.
    """

    beta: float = 1.0

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x = self.inputs(batch)
        (logits, mean, log_variance), state = model.apply(params, state, x, key=key, train=train)
        flat = (len(x), -1)
        pixels = ops.binary_cross_entropy(logits.reshape(flat), x.reshape(flat), reduction="none").sum(-1)
        divergence = ops.normal_kl(mean, log_variance, reduction="none")
        return Measured(pixels + self.beta * divergence, state, {"reconstruction": pixels, "kl": divergence})


TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "next_token": NextToken,
    "regression": Regression,
    "elbo": ELBO,
}


def as_task(loss: Any, metrics: Mapping[str, Callable[[Any, Any], jax.Array]] | None = None) -> Task:
    """The task that a loss stands for: a :class:`Task`, the name of one, or a function of outputs and targets.

    Raises:
        InputError: on what is none of them, and on metrics beside a task, which has its own.
    """
    if isinstance(loss, str):
        if loss not in TASKS:
            raise InputError(f"loss is {loss!r}, and must be a function of outputs and targets, or one of {[*TASKS]}")
        loss = TASKS[loss]()
    if isinstance(loss, Task):
        if metrics:
            raise InputError(f"metrics go with a loss function, and {type(loss).__name__} has its own")
        return loss
    if inspect.isclass(loss) or not isinstance(loss, Callable):
        raise InputError(f"loss is {loss!r}, and must be a function of outputs and targets, a task or its name")
    return Supervised(loss, dict(metrics or {}))
