"""A training run, from a configuration to trained parameters."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import autodiff, nn
from dlfn.check import compare, why
from dlfn.train.config import Config, to_toml
from dlfn.train.data import Dataset, batch_indices, digits
from dlfn.train.optimizer import make_optimizer
from dlfn.train.progress import progress
from dlfn.train.run import RunFolder
from dlfn.train.step import Carry, Metrics, make_dispatch, make_evaluate, make_loss

__all__ = ["Trained", "TrainingError", "train"]

_COMPARED_EXAMPLES = 16


class TrainingError(Exception):
    """Training failed: the loss or a gradient is not finite, or the gradients disagree."""


class Trained(NamedTuple):
    """A trained model and its metrics on the test set."""

    model: nn.Layer
    params: Any
    state: Any
    metrics: dict[str, float]


def train(config: Config) -> Trained:
    """Trains the configured model, writes the run's folder and prints how it goes.

    Raises:
        InputError: on bad input, and when another run is at work in the folder, before a file is written.
        TrainingError: when the loss or a gradient is not finite, with the report of :func:`dlfn.why` on that step, and
            when the trained model's gradients by hand, by backprop and by autodiff disagree.
    """
    with contextlib.closing(RunFolder(config.run.folder, to_toml(config), fresh=True)) as folder:
        return _train(config, folder)


def _train(config: Config, folder: RunFolder) -> Trained:
    optimizer = make_optimizer(config)
    data = digits(config.seed, config.data.test_fraction)
    batch_indices(config.seed, 0, len(data.train_x), config.train.batch_size)  # refuses one larger than the data
    model = _make_model(config, data)
    example = jax.ShapeDtypeStruct((config.train.batch_size, *data.train_x.shape[1:]), data.train_x.dtype)
    print(nn.summary(model, example))

    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    params, state = model.init(init_key, example)
    carry = Carry(params, state, optimizer.init(params))
    started = time.perf_counter()
    dispatch = make_dispatch(model, optimizer, config.gradient)
    run_chunk = _compile(config, dispatch, carry, data, step_key)
    run_test = make_evaluate(model).lower(params, state, data.test_x, data.test_y).compile()
    seconds = time.perf_counter() - started
    print(f"compiled in {seconds:.2f} s; gradient = {config.gradient}, run.folder = {folder.path}")

    folder.start()
    test, window, seconds = {}, [], 0.0
    with progress(config.train.steps) as shown:

        def record(step: int, metrics: dict[str, float]) -> None:
            folder.log(step, metrics)
            shown.report(step, metrics)

        for start, stop in _chunks(config):
            before = jax.tree.map(jnp.copy, carry)  # whose own buffers are donated
            started = time.perf_counter()
            carry, metrics = jax.block_until_ready(run_chunk(carry, start, stop))
            seconds += time.perf_counter() - started
            metrics = jax.device_get(metrics)
            explain = functools.partial(_explain, config, model, dispatch, before, data, step_key, start)
            _check_finite(start, metrics, carry.params, explain)
            shown.advance(stop)
            for step, loss, accuracy in zip(range(start + 1, stop + 1), metrics.loss, metrics.accuracy, strict=True):
                window.append((loss, accuracy))
                if step % config.train.log_every == 0 or step == config.train.steps:
                    mean_loss, mean_accuracy = np.mean(window, axis=0, dtype=float)
                    record(step, {"train/loss": mean_loss, "train/accuracy": mean_accuracy})
                    window.clear()
            if stop % config.train.eval_every == 0 or stop == config.train.steps:
                loss, accuracy = run_test(carry.params, carry.state, data.test_x, data.test_y)
                test = {"test/loss": float(loss), "test/accuracy": float(accuracy)}
                record(stop, test)

    rate = config.train.steps / seconds
    print(
        f"trained {config.train.steps} steps in {seconds:.2f} s ({rate:,.0f} steps/s, "
        f"{rate * config.train.batch_size:,.0f} examples/s); test accuracy {test['test/accuracy']:.2%}"
    )
    if config.train.compare:
        _compare_gradients(model, carry, data, step_key)
    folder.finish(carry.params, test, state=carry.state)
    print(f"the run is in {folder.path}")
    return Trained(model, carry.params, carry.state, test)


def _make_model(config: Config, data: Dataset) -> nn.Layer:
    settings = asdict(config.model)
    return nn.mlp(settings.pop("widths"), data.classes, **settings)


def _chunks(config: Config) -> Iterator[tuple[int, int]]:
    """The steps of each dispatch, from the first up to but not including the last; none goes past an evaluation."""
    start = 0
    while start < config.train.steps:
        evaluation = (start // config.train.eval_every + 1) * config.train.eval_every
        stop = min(start + config.train.steps_per_dispatch, evaluation, config.train.steps)
        yield start, stop
        start = stop


def _chunk_lengths(config: Config) -> set[int]:
    """Between evaluations, and after the last one, come full chunks and what is left over."""
    steps, every, full = config.train.steps, config.train.eval_every, config.train.steps_per_dispatch
    spans = (min(steps, every), steps % every)
    return {length for span in spans for length in (min(span, full), span % full) if length}


def _compile(
    config: Config, dispatch: Any, carry: Carry, data: Dataset, key: jax.Array
) -> Callable[[Carry, int, int], tuple[Carry, Metrics]]:
    """``run(carry, start, stop)``, compiled for every length of chunk that there will be."""
    x, y = jnp.asarray(data.train_x), jnp.asarray(data.train_y)

    def arguments(carry: Carry, start: int, stop: int) -> tuple[Any, ...]:
        return carry, x, y, key, np.int32(start), _indices(config, len(x), start, stop)

    compiled = {length: dispatch.lower(*arguments(carry, 0, length)).compile() for length in _chunk_lengths(config)}
    return lambda carry, start, stop: compiled[stop - start](*arguments(carry, start, stop))


def _indices(config: Config, examples: int, start: int, stop: int) -> np.ndarray:
    """The examples of each step's batch."""
    steps = range(start, stop)
    return np.stack([batch_indices(config.seed, step, examples, config.train.batch_size) for step in steps])


def _check_finite(start: int, metrics: Metrics, params: Any, explain: Callable[[int], str] = lambda step: "") -> None:
    """Raises at the first step whose loss or gradient is not finite, with what ``explain`` says of that step."""
    bad = ~(np.isfinite(metrics.loss) & np.all(metrics.finite, axis=1))
    if not bad.any():
        return
    index = int(bad.argmax())
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]
    leaves = [path for path, finite in zip(paths, metrics.finite[index], strict=True) if not finite]
    where = f"the first leaf whose gradient is not finite is {leaves[0]!r}" if leaves else "all gradients are finite"
    raise TrainingError(
        f"step {start + index + 1}: the loss is {metrics.loss[index]:.4g}, and {where}; "
        f"try a lower optimizer.learning_rate{explain(start + index)}"
    )


def _explain(
    config: Config, model: nn.Layer, dispatch: Any, carry: Carry, data: Dataset, key: jax.Array, start: int, step: int
) -> str:
    """Where the step went wrong, from the carry before step ``start``, in lines of their own."""
    x, y = jnp.asarray(data.train_x), jnp.asarray(data.train_y)
    if step > start:
        carry, _ = dispatch(carry, x, y, key, np.int32(start), _indices(config, len(x), start, step))
    rows = _indices(config, len(x), step, step + 1)[0]
    loss = make_loss(model)

    def loss_of(params: Any) -> jax.Array:
        return loss(params, carry.state, x[rows], y[rows], jax.random.fold_in(key, step))[0]

    return f"\n{why(autodiff(loss_of) if config.gradient == 'autodiff' else loss_of, lossy=None)(carry.params)}"


def _compare_gradients(model: nn.Layer, carry: Carry, data: Dataset, key: jax.Array) -> None:
    x, y = data.test_x[:_COMPARED_EXAMPLES], data.test_y[:_COMPARED_EXAMPLES]
    loss = make_loss(model)
    comparison = compare(lambda params: loss(params, carry.state, x, y, key)[0])(carry.params)
    print(comparison)
    if not comparison.ok:
        raise TrainingError("the gradients of the trained model disagree, see the table")
