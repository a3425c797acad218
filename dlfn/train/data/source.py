"""What a run draws its batches from, and batches as a pure function of seed and step."""

import abc
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dlfn.core import InputError

__all__ = ["Dataset", "Source", "batch_indices"]


class Source(abc.ABC):
    """Examples that a run draws from.

    A step's batch is made in two parts. On the host, :meth:`draw` says what a few steps draw, in NumPy arrays that the
    run sends to the device ahead of their use. There, inside the compiled loop, :meth:`take` makes the batch of one
    step of it and of what is :meth:`resident` on the device. Data that fit there draw indices alone; others draw the
    batches themselves, and have nothing resident.

    >>> class Squares(Source):
    ...     def draw(self, seed, start, stop, batch_size):
    ...         numbers = np.random.default_rng([seed, start]).integers(10, size=(stop - start, batch_size))
    ...         return numbers, numbers**2
    ...     def rows(self, start, stop):
    ...         return np.arange(start, stop), np.arange(start, stop) ** 2
    >>> x, y = Squares().draw(seed=0, start=5, stop=7, batch_size=3)
    >>> x.shape, bool((x**2 == y).all())
    ((2, 3), True)

    Attributes:
        size: how many examples there are; None where that is unbounded or unknown.
    """

    size: int | None = None

    def resident(self) -> Any:
        """A pytree of arrays that is put on the device once; ``()`` for none."""
        return ()

    @abc.abstractmethod
    def draw(self, seed: int, start: int, stop: int, batch_size: int) -> Any:
        """What the steps from ``start`` up to but not including ``stop`` draw: a pytree of NumPy arrays with the
        leading axes (stop - start, batch_size). A pure function of its arguments, so that a run can resume anywhere."""

    def take(self, resident: Any, drawn: Any) -> Any:
        """The batch of one step, from its entry of what was drawn: a pure function that JAX can trace."""
        return drawn

    @abc.abstractmethod
    def rows(self, start: int, stop: int) -> Any:
        """The batch of the examples ``start`` up to ``stop`` in their own order, in NumPy arrays, for evaluation."""

    def position(self) -> dict[str, Any] | None:
        """Where a stream is after the last step that was drawn, as JSON can keep it in a checkpoint; None where a batch
        needs nothing but seed and step."""
        return None

    def seek(self, position: dict[str, Any] | None) -> None:
        """Goes on at a position that :meth:`position` gave.

        Raises:
            InputError: where the data have no position, because the checkpoint is of a run on a stream.
        """
        if position is not None:
            raise InputError(
                f"the checkpoint holds a position in a stream of data, and a {type(self).__name__} has none; "
                "resume with the data that the run began with"
            )


class Dataset(NamedTuple):
    """The data of a run.

    Attributes:
        train: what it learns from.
        test: what it is evaluated on, if anything.
        info: what is known of the data. A model's factory takes from it by the names of its parameters: ``outputs``
            (how many classes, or targets of a regression), ``vocabulary`` and ``context`` (of text). Further ``labels``
            (the names of the classes), ``encode`` and ``decode`` (from text to tokens and back), and what predictions
            need: ``input_scale`` and ``target_scale`` (an offset and a unit each) and ``columns`` (of a table).
    """

    train: Source
    test: Source | None = None
    info: Mapping[str, Any] = {}


def batch_indices(seed: int, step: int, examples: int, batch_size: int) -> np.ndarray:
    """The examples in the batch of a step, counted from 0: a pure function, so that a run can resume at any step.

    Every epoch goes through its own permutation; the last ``examples % batch_size`` of it are left out.

    >>> [batch_indices(seed=0, step=step, examples=5, batch_size=2).shape for step in (0, 1, 1000)]
    [(2,), (2,), (2,)]
    """
    if batch_size > examples:
        raise InputError(f"train.batch_size = {batch_size}: there are only {examples} training examples")
    epoch, position = divmod(step, examples // batch_size)
    return _permutation(seed, epoch, examples)[position * batch_size : (position + 1) * batch_size]


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    permutation = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(examples).astype(np.int32)
    permutation.flags.writeable = False
    return permutation
