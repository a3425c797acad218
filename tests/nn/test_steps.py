"""Class tokens, single steps and turned axes: with arrays, with padding, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn
from helpers import initialised

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 3, 4))
MASK = np.array([[False, True, True], [True, False, False]])


def test_a_class_token_is_in_front_and_counts():
    layer = nn.ClassToken()
    params, state = initialised(layer, X)
    y, _ = layer.apply(params, state, X)
    np.testing.assert_array_equal(y[:, 0], jnp.broadcast_to(params["token"], (2, 4)))
    np.testing.assert_array_equal(y[:, 1:], X)
    padded, _ = layer.apply(params, state, nn.Sequence(X, jnp.array([3, 1]), mask=MASK))
    np.testing.assert_array_equal(padded.lengths, [4, 2])
    np.testing.assert_array_equal(padded.mask, np.c_[[True, True], MASK])
    np.testing.assert_array_equal(padded.values[:, 1:][~MASK], 0)


@pytest.mark.parametrize(
    ("index", "places"), [(0, (1, 0)), (-1, (2, 0)), (1, (2, None)), (-2, (1, None))], ids=["0", "-1", "1", "-2"]
)
def test_a_step_is_taken_among_those_that_count(index, places):
    layer = nn.TakeStep(index)
    np.testing.assert_array_equal(layer.apply((), (), X)[0], X[:, index])
    padded = nn.Sequence(jnp.where(MASK[..., None], X, jnp.nan), mask=MASK)
    y, _ = layer.apply((), (), padded)
    for row, place in enumerate(places):
        np.testing.assert_array_equal(y[row], 0 if place is None else X[row, place])


def test_a_permutation_is_that_of_transpose():
    y, _ = nn.Permute((2, 0, 1)).apply((), (), X)
    np.testing.assert_array_equal(y, jnp.transpose(X, (2, 0, 1)))


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.ClassToken().init(KEY, X[0, 0]), ["(..., time, features)", "[4]"]),
        (
            lambda: nn.ClassToken().apply({"token": X[0, 0]}, (), nn.Sequence(X, mask=np.ones((1, 1, 3, 3), bool))),
            ["mask of pairs", "no entry"],
        ),
        (lambda: nn.TakeStep(1.5), ["index is 1.5"]),
        (lambda: nn.TakeStep(3).apply((), (), X), ["there are 3 steps"]),
        (lambda: nn.Permute((1, 2)), ["axes is (1, 2)", "(0, 2, 1)"]),
        (lambda: nn.Permute([1, 0]), ["axes is [1, 0]", "a tuple"]),
        (lambda: nn.Permute((1, 0)).apply((), (), X), ["float32[2, 3, 4]", "2 axes"]),
        (lambda: nn.Permute((0, 2, 1)).apply((), (), nn.Sequence(X)), ["a Sequence"]),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)
