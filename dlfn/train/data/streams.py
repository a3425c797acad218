"""Batches from any iterable of Python: a generator, a list, a grain or a PyTorch DataLoader."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import jax
import numpy as np

from dlfn.core import InputError
from dlfn.train.data.in_memory import Arrays
from dlfn.train.data.iterator_states import pack, unpack
from dlfn.train.data.numbers import count_examples, numbers
from dlfn.train.data.source import Dataset, Source

__all__ = ["Stream", "stream"]


class Stream(Source):
    """Batches as an iterable gives them, of any size; the seed is the iterable's own affair.

    When the iterable ends it is iterated again. A resumed run goes on where it was: by the iterator's ``get_state`` and
    ``set_state`` (grain) or the loader's ``state_dict`` and ``load_state_dict`` (torchdata's ``StatefulDataLoader``);
    where there are none, by drawing what was drawn before and leaving it aside, which gives the same batches if the
    iterable does: a PyTorch DataLoader that shuffles does with ``generator=torch.Generator().manual_seed(0)``, and most
    surely made by a function, which makes both anew.

    What the last call of :meth:`draw` gave can be drawn again, and so can what is before it by beginning again, unless
    the iterable is an iterator. :meth:`position` is that after the last step drawn.

    Args:
        batches: the iterable, or a function without arguments that makes one. Each item is a pytree of arrays or
            PyTorch tensors with a leading batch axis, all of the same shapes; a list ``[x, y]`` becomes ``(x, y)``.

    >>> source = Stream([np.arange(3), np.arange(3, 6)])
    >>> source.draw(seed=0, start=0, stop=3, batch_size=3).tolist()
    [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    >>> source.position()
    {'step': 3, 'state': None}
    """

    def __init__(self, batches: Iterable[Any] | Callable[[], Iterable[Any]]):
        if not isinstance(batches, Iterable) and not callable(batches):
            raise InputError(f"a stream is an iterable, or a function that makes one, and not {type(batches).__name__}")
        self._batches = batches
        self._loader: Any = None
        self._iterator: Iterator[Any] | None = None
        self._step = 0
        self._last: list[Any] = []  # the batches of the last draw, up to self._step
        self._kind: _Kind | None = None  # of the first batch, which all others must have

    def draw(self, seed: int, start: int, stop: int, batch_size: int) -> Any:
        back = self._step - start
        if back > len(self._last):
            self._restart(f"is at step {self._step}, and cannot go back to {start}")
            back = 0
        drawn = self._last[len(self._last) - back :][: stop - start] if back > 0 else []
        while self._step < start:
            self._next()
        for step in range(start + len(drawn) + 1, stop + 1):
            batch, kind, count = _batch(self._next(), f"the stream's batch of step {step}")
            if self._kind is None:
                self._kind = kind
            if kind != self._kind:
                raise InputError(
                    f"the stream's batch of step {step} is {_shown(kind)}, and the first was {_shown(self._kind)}"
                )
            if count != batch_size:
                last = "; leave out a last, smaller one: drop_last=True" if count < batch_size and step > 1 else ""
                raise InputError(
                    f"the stream's batch of step {step} has {count} examples, and batch_size = {batch_size}; make them "
                    f"equal{last}"
                )
            drawn.append(batch)
        if stop >= self._step:
            self._last = drawn
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)

    def rows(self, start: int, stop: int) -> Any:
        raise InputError("a stream has no rows to evaluate on; give what to test on by stream(train, test)")

    def position(self) -> dict[str, Any]:
        state = None
        if hasattr(self._iterator, "get_state"):
            state = cast(Any, self._iterator).get_state()
        elif hasattr(self._loader, "state_dict"):
            state = self._loader.state_dict()
        return {"step": self._step, "state": pack(state)}

    def seek(self, position: Mapping[str, Any] | None) -> None:
        if position is None:
            raise InputError("the checkpoint is not of a run on a stream; resume with the data that the run began with")
        state = unpack(position["state"])
        if state is None:
            return  # what comes before the first step of the next draw is left aside then
        loader = self._open()
        if hasattr(loader, "load_state_dict"):
            loader.load_state_dict(state)
        self._iterator = iter(loader)
        if hasattr(self._iterator, "set_state"):
            cast(Any, self._iterator).set_state(state)
        elif not hasattr(loader, "load_state_dict"):
            raise InputError(
                f"the checkpoint holds the state of a loader, and {type(loader).__name__} takes none; resume with the "
                "data that the run began with"
            )
        self._step, self._last = position["step"], []

    def _open(self) -> Any:
        self._loader = self._batches if isinstance(self._batches, Iterable) else self._batches()
        return self._loader

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._open())
        batch = next(self._iterator, _END)
        if batch is _END:
            step = self._step
            self._restart(f"ended after {step} batches, and step {step + 1} needs another")
            self._step, batch = step, next(self._iterator, _END)
            if batch is _END:
                raise InputError("the stream gives no batch: iterated again it ends at once")
        self._step += 1
        return batch

    def _restart(self, why: str) -> None:
        iterator = iter(self._open())
        if iterator is self._batches:
            raise InputError(
                f"the stream {why}; it is an iterator, which can be gone through once: give a function that makes it"
            )
        self._iterator, self._step, self._last = iterator, 0, []


def stream(
    train: Iterable[Any] | Callable[[], Iterable[Any]],
    test: Iterable[Any] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Dataset:
    """A data set of batches that come from iterables.

    Args:
        train: of a :class:`Stream`: an iterable of batches, or a function that makes one.
        test: a finite iterable of batches, which is read at once and kept in memory; the last one may be smaller.
        info: what is known of the data, such as ``{"outputs": 10}``.

    Raises:
        InputError: where something is no iterable, or the batches of the test are not alike.

    >>> data = stream(lambda: iter([np.zeros((2, 3))]), test=[np.ones((2, 3)), np.ones((1, 3))])
    >>> data.test.size, data.test.rows(0, 3).shape
    (3, (3, 3))
    """
    tests = None
    if test is not None:
        read = [_batch(item, f"the test's batch {i}") for i, item in enumerate(test, 1)]
        kinds = {kind for _, kind, _ in read}
        if len(kinds) != 1:
            shown = " and ".join(sorted(map(_shown, kinds))) or "none"
            raise InputError(f"the test's batches must be alike, and are {shown}")
        tests = Arrays(jax.tree.map(lambda *leaves: np.concatenate(leaves), *(batch for batch, _, _ in read)))
    return Dataset(Stream(train), tests, info or {})


_END = object()


_Kind = tuple[Any, tuple[tuple[np.dtype, tuple[int, ...]], ...]]


def _batch(item: Any, name: str) -> tuple[Any, _Kind, int]:
    """The item as a pytree of NumPy arrays; its kind, which is structure, dtypes and shapes without the batch axis; and
    how many examples it has."""
    batch = numbers(tuple(item) if isinstance(item, list) else item, name)
    count = count_examples(batch, name)
    leaves, structure = jax.tree.flatten(batch)
    return batch, (structure, tuple((leaf.dtype, leaf.shape[1:]) for leaf in leaves)), count


def _shown(kind: _Kind) -> str:
    structure, leaves = kind
    shapes = [f"{dtype} ({', '.join(map(str, ('batch', *shape)))})" for dtype, shape in leaves]
    return str(jax.tree.unflatten(structure, shapes))
