"""assert_gradients: silent where gradients agree, and the table where they do not."""

import functools
import traceback

import jax
import jax.numpy as jnp
import pytest

import dlfn
from dlfn.testing import assert_gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.arange(1.0, 4.0)


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3.003 * x * x * dy,))


def test_it_passes_what_is_right_and_hands_options_on():
    assert_gradients(functools.partial(jnp.sum, axis=0), X)
    assert_gradients(cube, X, tolerance=0.01, coordinates=0)


def test_it_raises_the_table_from_a_frame_that_pytest_hides():
    with pytest.raises(dlfn.GradientError, match=r"FAIL\n  hand rule \[2\]: ") as caught:
        assert_gradients(cube, X)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert all(frame.f_locals["__tracebackhide__"] for frame in frames[1:])
    assert len(frames) > 1


def test_an_unknown_option_is_an_error_of_one_line(refused):
    refused(
        lambda: assert_gradients(cube, X, tolerence=1e-3),
        ["assert_gradients: unknown option 'tolerence'; did you mean 'tolerance'?", "functools.partial"],
    )
