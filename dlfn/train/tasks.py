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
from dlfn.train.foreign import foreign

__all__ = [
    "ELBO",
    "TASKS",
    "Classification",
    "Measured",
    "NextToken",
    "Regression",
    "Supervised",
    "Task",
    "as_task",
    "not_finite",
]


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

    def require_fit(self, batch: Any, outputs: Any) -> None:  # noqa: B027
        """Looks at the first batch and the shapes of what the model makes of it, before a run begins, and at the batch
        of a step whose loss is not finite.

        Raises:
            InputError: where they are not for this task.
        """

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

    def require_fit(self, batch, outputs):
        _, targets = _pair(self, batch)
        for name, function in {"loss": self.loss, **self.metrics}.items():
            with foreign(f"the {name} fails"):
                values = jax.eval_shape(function, outputs, targets)
            count = len(jax.tree.leaves(targets)[0])
            if not hasattr(values, "shape") or values.shape[:1] not in ((), (count,)):
                raise InputError(
                    f"the {name} returns {_shown(values)} for a batch of {count}, and must return a number for each "
                    "example, or one, their mean"
                )

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

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing = {self.label_smoothing}: must be at least 0 and below 1")

    def require_fit(self, batch, outputs):
        _, labels = _pair(self, batch)
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise InputError(
                f"classification: the targets are {_shown(labels)}, and must be labels, which are integers; take "
                "other data, or the task 'regression'"
            )
        _require_logits("classification", outputs, labels)
        _require_ids("classification: a label of the data", labels, outputs.shape[-1])

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x, labels = batch
        logits, state = model.apply(params, state, x, key=key, train=train)
        smoothing = self.label_smoothing if train else 0.0
        losses = ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return Measured(losses, state, {"accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)})


@dataclass(frozen=True)
class NextToken(Task):
    """Cross-entropy of every next token, of batches of tokens (batch, steps + 1), in nats, and in bits as a metric. A
    model with a method ``loss(params, state, tokens, targets, *, key, train, reduction)``, which
    returns losses and state, computes it without logits of all tokens at once, as :func:`dlfn.nn.models.gpt` does."""

    def inputs(self, batch):
        if isinstance(batch, tuple) or not jnp.issubdtype(batch.dtype, jnp.integer) or batch.ndim < 2:
            raise InputError(
                f"next_token: a batch of the data is {_shown(batch)}, and must be tokens, integers of shape "
                "(batch, steps + 1); take data of text, or another task"
            )
        return batch[..., :-1]

    def require_fit(self, batch, outputs):
        _require_logits("next_token", outputs, self.inputs(batch))
        _require_ids("next_token: a token of the data", batch, outputs.shape[-1])

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

    def require_fit(self, batch, outputs):
        _, targets = _pair(self, batch)
        if not hasattr(outputs, "shape"):
            raise InputError(f"regression: the model returns {_shown(outputs)}, and must return an array")
        if outputs.shape not in (targets.shape, (*targets.shape, 1)):
            raise InputError(
                f"regression: the model's outputs have shape {list(outputs.shape)} and the targets "
                f"{list(targets.shape)}; set the model's outputs to the number of targets"
            )
        if (found := not_finite(targets)) is not None:
            raise InputError(f"regression: a target of the data is {found}; remove it, or give a number")

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x, targets = batch
        outputs, state = model.apply(params, state, x, key=key, train=train)
        outputs = outputs[..., 0] if outputs.ndim > targets.ndim else outputs
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

    def __post_init__(self):
        if not 0 <= self.beta < math.inf:
            raise InputError(f"beta = {self.beta}: must be at least 0 and finite")

    def require_fit(self, batch, outputs):
        x = self.inputs(batch)
        if not (isinstance(outputs, tuple) and len(outputs) == 3 and outputs[0].size == x.size):
            raise InputError(
                f"elbo: the model returns {_shown(outputs)}, and must return logits, mean and log-variance, the logits "
                f"in the shape of the inputs, {_shown(x)}; take the model 'vae', or another task"
            )
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"elbo: the inputs go from {low:.4g} to {high:.4g}, and pixels must be from 0 to 1; for data of images "
                "set standardise = false"
            )

    def measure(self, model, params, state, batch, *, key=None, train=False):
        x = self.inputs(batch)
        (logits, mean, log_variance), state = model.apply(params, state, x, key=key, train=train)
        flat = (len(x), -1)
        pixels = ops.binary_cross_entropy(logits.reshape(flat), x.reshape(flat), reduction="none").sum(-1)
        divergence = ops.normal_kl(mean, log_variance, reduction="none")
        return Measured(pixels + self.beta * divergence, state, {"reconstruction": pixels, "kl": divergence})


def _pair(task: Task, batch: Any) -> tuple[Any, Any]:
    if not (isinstance(batch, tuple) and len(batch) == 2):
        name = type(task).__name__.lower()
        raise InputError(
            f"{name}: a batch of the data is {_shown(batch)}, and must be inputs and targets; take other data, or "
            "another task"
        )
    return batch


def _require_logits(task: str, outputs: Any, ids: Any) -> None:
    if not hasattr(outputs, "shape") or outputs.shape[:-1] != ids.shape or not outputs.ndim:
        raise InputError(
            f"{task}: the model returns {_shown(outputs)} for targets {_shown(ids)}, and must return logits, an array "
            "of one more axis; take another model or task"
        )


def _require_ids(name: str, ids: Any, count: int) -> None:
    for each in (int(ids.min()), int(ids.max())):
        if not 0 <= each < count:
            raise InputError(
                f"{name} is {each}, and the model has outputs for 0 to {count - 1}; take a model with more"
            )


def not_finite(values: Any) -> str | None:
    """The first number among the leaves of a batch that is not finite, and where it is; None where all are."""
    for leaf in jax.tree.leaves(values):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not (finite := jnp.isfinite(leaf)).all():
            at = tuple(map(int, jnp.argwhere(~finite)[0]))
            return f"{leaf[at]}, at {list(at)} of the batch"
    return None


def _shown(tree: Any) -> str:
    """The dtypes and shapes of arrays, ``(float32[8,64], int32[8])``."""
    leaves = jax.tree.leaves(tree)
    shown = ", ".join(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" for leaf in leaves)
    return shown if len(leaves) == 1 else f"({shown})"


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
