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


def of_digits(seed, **settings):
    """Inputs and labels, to train on and to test on."""
    train, test, _ = digits(seed, 0.2, **settings)
    return *train.rows(0, train.size), *test.rows(0, test.size)


def test_split_is_stratified_seeded_and_complete():
    train_x, train_y, test_x, test_y = of_digits(0)
    counts = np.bincount(np.concatenate([train_y, test_y]))
    assert counts.sum() == 1797
    assert len(test_y) == 360
    assert np.abs(np.bincount(test_y) - 0.2 * counts).max() <= 1
    again, other = of_digits(0), of_digits(1)
    assert np.array_equal(train_x, again[0])
    assert not np.array_equal(test_y, other[3])
    examples = np.concatenate([train_x, test_x]).reshape(1797, -1)
    assert len(np.unique(examples, axis=0)) == len(np.unique(np.round(examples, 4), axis=0)) > 1790


def test_images_are_standardised_by_the_training_images():
    train_x, _, test_x, _ = of_digits(0)
    assert train_x.dtype == jnp.zeros(()).dtype
    assert train_x.mean() == pytest.approx(0, abs=1e-4)
    assert train_x.std() == pytest.approx(1, abs=1e-4)
    assert test_x.mean() != pytest.approx(0, abs=1e-6)


def test_images_are_from_0_to_1_unless_standardised():
    train_x, _, test_x, _ = of_digits(0, standardise=False)
    images = np.concatenate([train_x, test_x])
    assert sorted(images.sum((1, 2))) == sorted(digit_images()[0].sum((1, 2)) / 16)
    assert images.max() == 1


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
