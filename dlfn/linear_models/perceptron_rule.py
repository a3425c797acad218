"""Rosenblatt's perceptron: one pass over the examples after the other, until a plane separates them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn import ops
from dlfn.core import InputError
from dlfn.linear_models._examples import as_examples
from dlfn.ops.support.arguments import require_values

__all__ = ["Perceptron", "Steps", "perceptron"]


class Steps(NamedTuple):
    """What a perceptron did, an entry per step: the score z = w · x, its sign, the error t - sign, and w after it."""

    score: jax.Array
    prediction: jax.Array
    error: jax.Array
    weights: jax.Array


class Perceptron(NamedTuple):
    """Weights (bias first), the number of passes over the examples that were made, whether the last of them made no
    error, and the steps, if they were asked for."""

    weights: jax.Array
    passes: jax.Array
    converged: jax.Array
    steps: Steps | None


def perceptron(
    x: Any, targets: Any, *, learning_rate: Any = 1.0, passes: int = 100, record: bool = False
) -> Perceptron:
    r"""Perceptron rule, :math:`\Delta w = \eta (t - \hat y) x` with :math:`\hat y = \operatorname{sign}(w^\top x)`.

    sign(0) is +1. Weights begin at 0, and :math:`w_0` is the bias, of :math:`x_0 = 1`. The examples are passed through
    in order until a pass makes no error, which is bound to happen where a plane separates the classes, and ``passes``
    times at most.

    Args:
        x: (examples, features), without the column of ones.
        targets: (examples,), +1 or -1.
        learning_rate: :math:`\eta`, positive. As weights begin at 0 it only scales them.
        passes: the limit of passes over the examples, which others call epochs.
        record: whether to return all steps. Then all passes are made, those after the last error too, so that ``steps``
            has (passes · examples) entries.

    Raises:
        InputError: on empty data, other shapes, data that are not floating point, targets other than +1 and -1 (where
            they are known: not inside ``jit``), a learning rate that is not positive, and a limit below 1.

    Source: 001 section 1.

    >>> x = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> nand = jnp.array([1.0, 1.0, 1.0, -1.0])
    >>> print(perceptron(x, nand, passes=1, record=True).steps.weights[-1])  # the document's fourth step
    [-2. -2. -2.]
    >>> fit = perceptron(x, nand)
    >>> print(fit.weights, fit.passes, fit.converged)
    [ 2. -2. -2.] 3 True
    """
    x, targets = as_examples("perceptron", x, targets, "targets")
    learning_rate, targets = jnp.asarray(learning_rate, x.dtype), targets.astype(x.dtype)
    must_be = "+1 or -1; pass 2 * targets - 1 for 0 and 1"
    require_values("perceptron", "targets", targets, jnp.abs(targets) == 1, must_be)
    good = (learning_rate > 0) & (learning_rate < jnp.inf)
    require_values("perceptron", "learning_rate", learning_rate, good, "positive and finite")
    if not (isinstance(passes, int) and passes >= 1):
        raise InputError(f"perceptron: passes is {passes!r}, and must be an int, 1 or more")
    return _perceptron(x, targets, learning_rate, passes=passes, record=record)


@functools.partial(jax.jit, static_argnames=("passes", "record"))
def _perceptron(x, targets, learning_rate, *, passes, record):
    ones = jnp.ones((x.shape[0], 1), x.dtype)
    examples = jnp.concatenate([ones, x], axis=1), targets

    def step(weights, example):
        row, target = example
        score = ops.dot(weights, row)
        prediction = jnp.where(score >= 0, 1.0, -1.0).astype(row.dtype)
        error = target - prediction
        weights = weights + learning_rate * error * row
        return weights, Steps(score, prediction, error, weights)

    start = jnp.zeros(x.shape[1] + 1, x.dtype)
    if record:
        weights, steps = lax.scan(lambda weights, _: lax.scan(step, weights, examples), start, length=passes)
        right = jnp.all(steps.error == 0, axis=1)
        made = jnp.where(jnp.any(right), jnp.argmax(right) + 1, passes)
        steps = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), steps)
        return Perceptron(weights, made, right[-1], steps)

    def one_pass(state):
        weights, made, _ = state
        weights, steps = lax.scan(step, weights, examples)
        return weights, made + 1, jnp.all(steps.error == 0)

    state = start, jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    return Perceptron(*lax.while_loop(lambda state: (state[1] < passes) & ~state[2], one_pass, state), None)
