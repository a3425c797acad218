"""Data sets of arrays in memory: checked, split, standardised, and indexed on the device."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.train.data.numbers import count_examples, numbers
from dlfn.train.data.source import Dataset, Source, batch_indices

__all__ = ["Arrays", "Scaled", "arrays", "held_out", "labelled", "scaled", "split"]


class Arrays(Source):
    """A pytree of arrays with a common leading axis of examples, which stays on the device as a whole.

    Args:
        arrays: the pytree of NumPy arrays.
        prepare: what becomes of a batch of them, such as a standardisation of pixels that are kept as bytes. It is
            pure, and works on NumPy's and JAX's arrays alike; None leaves them as they are.

    >>> source = Arrays(np.arange(10, dtype=np.uint8), prepare=lambda x: x.astype(np.float32) / 10)
    >>> source.rows(8, 12)
    array([0.8, 0.9], dtype=float32)
    >>> drawn = source.draw(seed=0, start=0, stop=3, batch_size=4)
    >>> drawn.shape, source.take(jnp.asarray(source.resident()), drawn[2]).shape
    ((3, 4), (4,))
    """

    def __init__(self, arrays: Any, prepare: Callable[[Any], Any] | None = None):
        self._arrays, self._prepare = arrays, prepare or (lambda batch: batch)
        self.size = self._count = len(jax.tree.leaves(arrays)[0])

    def resident(self) -> Any:
        return self._arrays

    def draw(self, seed: int, start: int, stop: int, batch_size: int) -> np.ndarray:
        return np.stack([batch_indices(seed, step, self._count, batch_size) for step in range(start, stop)])

    def take(self, resident: Any, drawn: Any) -> Any:
        return self._prepare(jax.tree.map(lambda a: a.at[drawn].get(mode="promise_in_bounds"), resident))

    def rows(self, start: int, stop: int) -> Any:
        return self._prepare(jax.tree.map(lambda a: a[start:stop], self._arrays))


def arrays(x: Any, y: Any = None, *, test: Any = None, test_fraction: float = 0.0, seed: int = 0) -> Dataset:
    """A data set of arrays in memory.

    Args:
        x: the inputs: an array, or a pytree of arrays, with a leading axis of examples.
        y: the targets, the same way; a batch is then ``(x, y)``, and ``x`` alone without them. An array (examples,) of
            integers is labels, which become int32.
        test: the examples to test on: ``(x, y)``, or ``x`` where there are no targets.
        test_fraction: where ``test`` is not given, the part of the examples that is held out for it; 0 for none.
        seed: of the choice of what is held out. Where ``y`` is labels, each class has its share.

    Returns:
        The data set; its ``info`` has ``outputs`` where ``y`` is labels, one more than the largest of them, and
        where it is an array in floating point, the length of its last axis, or 1.

    Raises:
        InputError: where something is no array of numbers, there are no examples, their number differs among the
            arrays, labels are negative or those of the test go beyond the others, the test has another structure, shape
            or dtype, or both ``test`` and ``test_fraction`` are given.

    >>> data = arrays(np.ones((10, 3)), np.arange(10) % 2, test_fraction=0.2)
    >>> data.train.size, data.test.size, data.info
    (8, 2, {'outputs': 2})
    """
    examples = numbers(x, "x") if y is None else (numbers(x, "x"), numbers(y, "y"))
    count = count_examples(examples, "the data")
    labels = _targets(examples)
    if test is not None:
        if test_fraction:
            raise InputError(f"test_fraction = {test_fraction}: must be 0 where test is given")
        tests = numbers(test, "test")
        count_examples(tests, "test")
        _require_alike(tests, examples)
        return labelled(examples, tests)
    trained, tested = held_out(labels if _is_labels(labels) else np.zeros(count), seed, test_fraction)
    parts = [jax.tree.map(lambda a, rows=rows: a[rows], examples) for rows in (trained, tested)]
    return labelled(parts[0], parts[1] if len(tested) else None)


def labelled(train: Any, test: Any, prepare: Callable[[Any], Any] | None = None, **info: Any) -> Dataset:
    """The data set of checked arrays, with labels in int32 and what the targets say of ``outputs``; ``test`` may be
    None. How inputs were scaled goes into ``info["input_scale"]``, as what is predicted later must be scaled alike."""
    if isinstance(prepare, Scaled):
        info["input_scale"] = prepare.offset, prepare.unit
    y = _targets(train)
    if _is_labels(y):
        info["outputs"] = len(info["labels"]) if "labels" in info else int(y.max()) + 1
        for part, examples in (("train", train), ("test", test)):
            if examples is not None:
                _require_labels(examples[1], info["outputs"], part)
        train, test = ((e[0], e[1].astype(np.int32)) if e is not None else None for e in (train, test))
    elif y is not None and jnp.issubdtype(y.dtype, jnp.floating):
        info["outputs"] = y.shape[-1] if y.ndim > 1 else 1
    return Dataset(Arrays(train, prepare), None if test is None else Arrays(test, prepare), info)


def held_out(labels: np.ndarray, seed: int, test_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """:func:`split`, with something to train on; a ``test_fraction`` of 0 leaves the examples in their order.

    Raises:
        InputError: where ``test_fraction`` is no fraction, or leaves nothing to train on.
    """
    if not 0 <= test_fraction < 1:
        raise InputError(f"test_fraction = {test_fraction}: must be at least 0 and below 1, such as 0.2")
    if not test_fraction:
        return np.arange(len(labels)), np.arange(0)
    trained, tested = split(labels, seed, test_fraction)
    if not len(trained):
        raise InputError(f"test_fraction = {test_fraction} of {len(labels)} examples leaves none to train on")
    return trained, tested


def split(labels: np.ndarray, seed: int, test_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the test examples, drawn by ``seed``, each class in its share.

    The shuffled examples are put in order of their classes, and every 1/``test_fraction``-th of them is for the test.

    >>> labels = np.repeat([0, 1], [80, 20])
    >>> [np.bincount(labels[part]).tolist() for part in split(labels, seed=0, test_fraction=0.2)]
    [[64, 16], [16, 4]]
    """
    shuffled = np.random.Generator(np.random.Philox(key=seed)).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    tested = np.zeros(len(labels), bool)
    tested[np.linspace(0, len(labels), math.ceil(test_fraction * len(labels)), endpoint=False).astype(int)] = True
    # In the shuffled order again, so that the first few examples are of several classes.
    for_test = np.isin(shuffled, by_class[tested])
    return shuffled[~for_test], shuffled[for_test]


@dataclass(frozen=True)
class Scaled:
    """Prepares batches ``(x, y)`` or ``x``: the inputs in floating point, less ``offset``, divided by ``unit``.

    >>> print(Scaled(offset=8.0, unit=4.0)(np.array([0, 8, 16], np.uint8)))
    [-2.  0.  2.]
    """

    offset: float
    unit: float

    def __call__(self, batch: Any) -> Any:
        x, *y = batch if isinstance(batch, tuple) else (batch,)
        x = (x.astype(jax.dtypes.canonicalize_dtype(float)) - self.offset) / self.unit
        return (x, *y) if y else x


def scaled(x: np.ndarray, standardise: bool, largest: float) -> Scaled:
    """What prepares inputs like the training inputs ``x``: standardised by the mean and standard deviation of all their
    numbers, or else divided by ``largest``. Pixels are not standardised one by one, as many are constant."""
    offset, unit = 0.0, float(largest)
    if standardise:
        offset = float(x.mean(dtype=float))
        # In parts, as all of the images in float64 take eight times their room.
        squares = sum(float(((part - offset) ** 2).sum()) for part in np.array_split(x, max(1, x.size // 10**6)))
        unit = math.sqrt(squares / x.size) or 1.0
    return Scaled(offset, unit)


def _require_alike(test: Any, train: Any) -> None:
    structures = jax.tree.structure(test), jax.tree.structure(train)
    if structures[0] != structures[1]:
        raise InputError(f"test has the structure {structures[0]}, and must have that of a batch, {structures[1]}")
    for (path, a), b in zip(jax.tree.leaves_with_path(test), jax.tree.leaves(train)):
        if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
            raise InputError(
                f"test{jax.tree_util.keystr(path)} has examples of shape {a.shape[1:]} and dtype {a.dtype}, and those "
                f"to train on are {b.shape[1:]}, {b.dtype}; they must be alike"
            )


def _targets(examples: Any) -> Any:
    """The second of a pair ``(x, y)``, where it is one array."""
    pair = isinstance(examples, tuple) and len(examples) == 2
    return examples[1] if pair and isinstance(examples[1], np.ndarray) else None


def _is_labels(y: Any) -> bool:
    return y is not None and y.ndim == 1 and y.dtype.kind in "iu"


def _require_labels(labels: np.ndarray, outputs: int, part: str) -> None:
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < outputs:
            need = "labels count from 0" if label < 0 else f"the classes are 0 to {outputs - 1}"
            raise InputError(f"a label of the {part} part is {label}; {need}")
