"""What a run measures, between its steps and its folder."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.train.plan import Plan
from dlfn.train.step import Metrics

__all__ = ["Recorder", "matmul_peak", "shown"]


class Recorder:
    """Means of the metrics of training, over the steps from one record to the next, with how fast they were.

    Args:
        plan: which says after which steps there is a record.
        leaves: the paths of the parameters, in their order.
        unit: what a step's examples are called, and ``count`` how many there are.
        utilisation: the share of what the devices can do that one step per second takes, if it is known.
        learning_rate: of a step, if it is known.
    """

    def __init__(
        self,
        plan: Plan,
        leaves: Sequence[str],
        unit: str,
        count: int,
        utilisation: float | None = None,
        learning_rate: Callable[[int], Any] | None = None,
    ):
        self._plan, self._leaves, self._unit, self._count = plan, leaves, unit, count
        self._utilisation, self._learning_rate = utilisation, learning_rate
        self._columns: list[tuple[np.ndarray, ...]] = []  # of every part of a dispatch
        self._norms: list[np.ndarray] = []
        self.total = self._counted = self._seconds = 0.0
        self._began: float | None = None

    def resume_clock(self) -> None:
        """Begins to count time, which is not that of compilation, evaluations and checkpoints."""
        self._began = time.perf_counter()

    def stop_clock(self) -> None:
        if self._began is not None:
            self.total += time.perf_counter() - self._began
            self._began = None

    def add(self, start: int, metrics: Metrics) -> list[tuple[int, dict[str, float]]]:
        """Takes the metrics of a dispatch, and returns the records that are complete. The time since those of the one
        before is shared by its steps."""
        records, first, count = [], 0, len(metrics.loss)
        self.stop_clock()
        share, self._counted = (self.total - self._counted) / count, self.total
        self.resume_clock()
        for end in range(1, count + 1):
            due = self._plan.is_due(self._plan.log_every, start + end)
            if due or end == count:
                columns = metrics.loss, metrics.update_norm, *metrics.task.values()
                self._columns.append(tuple(np.asarray(column[first:end]) for column in columns))
                self._norms.append(np.asarray(metrics.gradient_norms[first:end]))
                self._seconds += share * (end - first)
                first = end
            if due:
                records.append((start + end, self._record(start + end, list(metrics.task))))
        return records

    def _record(self, step: int, names: Sequence[str]) -> dict[str, float]:
        columns = [np.concatenate(parts) for parts in zip(*self._columns)]
        loss, update, *task = (np.mean(column, dtype=float) for column in columns)
        norms = np.sqrt(np.mean(np.square(np.concatenate(self._norms), dtype=float), axis=0))
        rate = len(columns[0]) / self._seconds if self._seconds else math.nan
        record = {"train/loss": loss, **{f"train/{name}": value for name, value in zip(names, task, strict=True)}}
        if self._learning_rate is not None:
            record["learning_rate"] = float(self._learning_rate(step - 1))
        record |= {"gradient_norm": math.hypot(*norms), "update_norm": update, "steps_per_second": rate}
        record[f"{self._unit}_per_second"] = rate * self._count
        if self._utilisation is not None:
            record["flop_utilisation"] = rate * self._utilisation
        record |= {f"gradient_norm/{leaf}": norm for leaf, norm in zip(self._leaves, norms, strict=True)}
        self._columns.clear()
        self._norms.clear()
        self._seconds = 0.0
        return {name: float(value) for name, value in record.items()}


def shown(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of a record that a person is shown while it runs."""
    names = ("learning_rate", "gradient_norm", "steps_per_second")
    return {name: value for name, value in metrics.items() if name.startswith(("train/", "test/")) or name in names}


def matmul_peak(dtype: Any, devices: int) -> float:
    """Floating-point operations per second that so many devices of this kind reach in a product of matrices."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    product(a, a).block_until_ready()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) * devices
