"""Data sets in memory, and batches as a pure function of seed and step."""

import functools
import math
from importlib.resources import files
from typing import NamedTuple

import jax
import numpy as np

from dlfn.core import InputError

__all__ = ["Dataset", "batch_indices", "digit_images", "digits", "split"]


class Dataset(NamedTuple):
    """Arrays of examples, inputs in the default float and labels in int32."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """The digits as they are in the package: images (1797, 8, 8) of counts from 0 to 16, and labels (1797,), in uint8.

    They are the test set of UCI's "Optical Recognition of Handwritten Digits" (CC BY 4.0), the same as scikit-learn's
    ``load_digits``; dlfn/train/digits/README.md names source and licence.
    """
    with (files("dlfn.train") / "digits" / "digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["images"], arrays["labels"]


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


def digits(seed: int, test_fraction: float) -> Dataset:
    """Handwritten digits: 1,797 images (8, 8) of 10 classes, by 13 writers, in the package.

    The split is stratified by class and drawn by ``seed``: the data's own order is by writer, and an unshuffled tail
    would test on other writers than it trains on. Images are standardised by the training images' mean and standard
    deviation over all pixels: many pixels are constant, so they have no standard deviation of their own.
    """
    images, labels = digit_images()
    train, test = split(labels, seed, test_fraction)
    mean, deviation = images[train].mean(), images[train].std()
    x, y = ((images - mean) / deviation).astype(jax.dtypes.canonicalize_dtype(float)), labels.astype(np.int32)
    return Dataset(x[train], y[train], x[test], y[test], classes=10)


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
