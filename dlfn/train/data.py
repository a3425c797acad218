"""Data sets in memory, and batches as a pure function of seed and step."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from dlfn.core import InputError

__all__ = ["Dataset", "batch_indices", "digits"]


class Dataset(NamedTuple):
    """Arrays of examples, inputs in the default float and labels in int32."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int


def digits(seed: int, test_fraction: float) -> Dataset:
    """scikit-learn's digits: 1,797 images (8, 8) of 10 classes, by 43 writers, in the package.

    The split is stratified by class and drawn by ``seed``: the data's own order is by writer, and an unshuffled tail
    would test on other writers than it trains on. Images are standardised by the training images' mean and standard
    deviation over all pixels: many pixels are constant, so they have no standard deviation of their own.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch: Any = load_digits()
    split: Any = train_test_split(
        bunch.images, bunch.target, test_size=test_fraction, stratify=bunch.target, random_state=seed
    )
    train_x, test_x, train_y, test_y = split
    mean, deviation = train_x.mean(), train_x.std()
    dtype = jax.dtypes.canonicalize_dtype(float)
    train_x, test_x = (((x - mean) / deviation).astype(dtype) for x in (train_x, test_x))
    return Dataset(train_x, train_y.astype(np.int32), test_x, test_y.astype(np.int32), len(bunch.target_names))


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
