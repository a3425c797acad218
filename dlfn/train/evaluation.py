"""Metrics of a model on a whole set of examples."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.train.data import Source
from dlfn.train.placement import Placement
from dlfn.train.step import Learner, at_least_float32

__all__ = ["Evaluation"]

# Batches that take no more than this stay on the device from one evaluation to the next.
_KEPT_BYTES = 2**28


class Evaluation:
    """The means of the losses and metrics over all examples of a source, each counted once.

    The last batch may be smaller. Where the task has all its numbers for each example, it is filled up with examples
    that do not count, so that there is one compiled program; where one is a mean already, it has its own size.
    """

    def __init__(self, learner: Learner, source: Source, size: int, batches: int, placement: Placement):
        if source.size is None:
            raise InputError("the test data have no size; give data whose number of examples is known")
        if not source.size:
            raise InputError("the test data are empty; set a larger data.test_fraction, or leave out the test part")
        size = -(-min(size, source.size) // placement.parts) * placement.parts
        self._source, self._size, self._placement = source, size, placement
        self._stop = min(source.size, batches * size) if batches else source.size
        self._learner = learner
        self._sums = jax.jit(functools.partial(_sums, learner))
        self._kept: list[tuple[Any, Any]] | None = None

    def require_fit(self, params: Any, state: Any) -> None:
        """Traces the task on one example, before a run begins: whether it has its numbers for each.

        Raises:
            InputError: where the test data are not for the model, or for the task.
        """
        learner, batch = self._learner, self._source.rows(0, 1)
        learner.task.require_fit(batch, learner.outputs(params, state, batch))
        measured = jax.eval_shape(lambda *args: learner.measure(*args), params, state, batch)
        self._pads = all(values.ndim for values in (measured.losses, *measured.metrics.values()))

    def __call__(self, params: Any, state: Any) -> dict[str, float]:
        if self._kept is None:
            self.require_fit(params, state)
            first = next(iter(self._host_batches()))[0]
            share = sum(leaf.nbytes for leaf in jax.tree.leaves(first)) / self._size
            self._kept = list(self._batches()) if share * self._stop <= _KEPT_BYTES else []
        totals: dict[str, Any] = {}
        # On the host in float64, where sums of many batches lose nothing.
        for batch, counts in self._kept or self._batches():
            for name, value in self._sums(params, state, batch, counts).items():
                totals.setdefault(name, []).append(value)
        return {name: float(np.sum(jax.device_get(terms), dtype=float)) / self._stop for name, terms in totals.items()}

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        for batch, counts in self._host_batches():
            yield self._placement.put((batch, counts), axis=0)

    def _host_batches(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Batches, and for each example whether it counts."""
        for start in range(0, self._stop, self._size):
            count = min(self._size, self._stop - start)
            batch = self._source.rows(start, start + count)
            missing = self._size - count if self._pads else 0
            if missing:
                batch = jax.tree.map(lambda a, n=missing: np.concatenate([a, np.repeat(a[-1:], n, 0)]), batch)
            yield batch, np.arange(count + missing) < count


def _sums(learner: Learner, params: Any, state: Any, batch: Any, counts: jax.Array) -> dict[str, jax.Array]:
    measured = learner.measure(params, state, batch)

    def total(values: jax.Array) -> jax.Array:
        values = at_least_float32(values)
        if not values.ndim:
            return values * jnp.sum(counts)
        each = values.reshape(len(values), -1).mean(1)
        return jnp.sum(jnp.where(counts, each, 0))

    return {name: total(values) for name, values in {"loss": measured.losses, **measured.metrics}.items()}
