"""What is wrong with a step whose loss or gradient is not finite, and whether the gradients agree."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from dlfn import autodiff
from dlfn.check import compare, why
from dlfn.train.step import Carry, Learner, Metrics

__all__ = ["TrainingError", "compare_gradients", "explanation", "first_bad_step"]

_COMPARED_EXAMPLES = 16


class TrainingError(Exception):
    """Training failed: the loss or a gradient is not finite, or the gradients disagree."""


def first_bad_step(start: int, metrics: Metrics, paths: list[str]) -> tuple[int, str] | None:
    """The first step of a dispatch whose loss or gradient is not finite, counted from 0, and what is said of it."""
    if metrics.alive.all():
        return None
    index = int(metrics.alive.argmin())
    leaves = [path for path, norm in zip(paths, metrics.gradient_norms[index], strict=True) if not np.isfinite(norm)]
    where = f"the first leaf whose gradient is not finite is {leaves[0]!r}" if leaves else "all gradients are finite"
    message = f"step {start + index + 1}: the loss is {metrics.loss[index]:.4g}, and {where}; "
    return start + index, message + "try a lower optimizer.learning_rate"


def explanation(learner: Learner, carry: Carry, batch: Any, key: jax.Array) -> str:
    """Where a step goes wrong that begins with ``carry``, in lines of their own."""
    batch = learner.augmented(batch, key)
    loss_of = lambda params: learner.loss(params, carry.state, batch, key)[0]  # noqa: E731
    return str(why(autodiff(loss_of) if learner.gradient == "autodiff" else loss_of, lossy=None)(carry.params))


def compare_gradients(learner: Learner, carry: Carry, batch: Any, key: jax.Array) -> str:
    """The table of the three gradients on a few examples, in the dtype that the parameters are kept in.

    Raises:
        TrainingError: with that table, if they disagree.
    """
    few = jax.tree.map(lambda a: a[:_COMPARED_EXAMPLES], batch)
    learner = replace(learner, compute=None)
    comparison = compare(lambda params: learner.loss(params, carry.state, few, key)[0])(carry.params)
    if not comparison.ok:
        raise TrainingError(f"{comparison}\nthe gradients of the model disagree, see the table")
    return str(comparison)
