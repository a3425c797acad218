"""Data: a stratified, seeded split, and batches as a pure function of seed and step."""

import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.train.data import batch_indices, digit_images, digits


def test_the_digits_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = digit_images()
    assert np.array_equal(images, theirs.images)
    assert np.array_equal(labels, theirs.target)


def test_split_is_stratified_seeded_and_complete():
    data = digits(seed=0, test_fraction=0.2)
    counts = np.bincount(np.concatenate([data.train_y, data.test_y]))
    assert counts.sum() == 1797
    assert len(data.test_y) == 360
    assert np.abs(np.bincount(data.test_y) - 0.2 * counts).max() <= 1
    again, other = digits(0, 0.2), digits(1, 0.2)
    assert np.array_equal(data.train_x, again.train_x)
    assert not np.array_equal(data.test_y, other.test_y)
    examples = np.concatenate([data.train_x, data.test_x]).reshape(1797, -1)
    assert len(np.unique(examples, axis=0)) == len(np.unique(np.round(examples, 4), axis=0)) > 1790


def test_images_are_standardised_by_the_training_images():
    data = digits(seed=0, test_fraction=0.2)
    assert data.train_x.dtype == jnp.zeros(()).dtype
    assert data.train_x.mean() == pytest.approx(0, abs=1e-4)
    assert data.train_x.std() == pytest.approx(1, abs=1e-4)
    assert data.test_x.mean() != pytest.approx(0, abs=1e-6)


def test_batches_depend_on_seed_and_step_alone():
    steps = [7, 0, 3, 100, 7]
    first = {step: batch_indices(5, step, 10, 3).tolist() for step in steps}
    assert {step: batch_indices(5, step, 10, 3).tolist() for step in reversed(steps)} == first
    assert batch_indices(6, 7, 10, 3).tolist() != first[7]


def test_an_epoch_takes_every_example_at_most_once_and_epochs_differ():
    epochs = [np.concatenate([batch_indices(0, 3 * epoch + i, 10, 3) for i in range(3)]) for epoch in range(20)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert set(np.concatenate(epochs)) == set(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 20


def test_a_batch_larger_than_the_data_is_bad_input():
    with pytest.raises(dlfn.InputError, match=r"train\.batch_size = 11: there are only 10"):
        batch_indices(0, 0, 10, 11)
