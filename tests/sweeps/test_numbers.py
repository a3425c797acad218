"""The settings of ops that are numbers: a bool, which to Python is one too, is refused, and a number of NumPy is taken
where one of Python is."""

import inspect
import typing

import jax
import numpy as np
import pytest

from dlfn import InputError
from helpers import ENTRIES


def is_numeric(annotation):
    """Whether it is a number, or what else there are numbers in, such as ``int | tuple[int, ...]``."""
    return annotation in (int, float) or any(map(is_numeric, typing.get_args(annotation)))


SETTINGS = [
    pytest.param(entry, p.name, id=f"{entry.op.name}-{p.name}")
    for entry in ENTRIES
    for p in inspect.signature(inspect.unwrap(entry.op.definition)).parameters.values()
    if p.kind is p.KEYWORD_ONLY and is_numeric(p.annotation)
]


def test_there_are_settings_of_every_kind():
    assert {param.values[1] for param in SETTINGS} >= {"axis", "eps", "keep_prob", "window", "strides", "axes", "base"}


@pytest.mark.parametrize(("entry", "name"), SETTINGS)
@pytest.mark.parametrize("value", [True, False])
def test_a_bool_is_no_number(entry, name, value):
    for case in entry.cases:
        with pytest.raises(InputError, match=rf"{name} is {value}, and must "):
            entry.op(*case.make((4,), "float32"), **{**case.static, name: value})


@pytest.mark.parametrize(("entry", "name"), SETTINGS)
def test_a_number_of_numpy_is_one(entry, name):
    for case in entry.cases:
        args = case.make((4,), "float32")
        value = entry.op.bind_arguments(*args, **case.static)[1][name]
        if isinstance(value, float):
            y, alike = (entry.op(*args, **{**case.static, name: v}) for v in (value, np.float32(value)))
            assert jax.tree.map(jax.typeof, y) == jax.tree.map(jax.typeof, alike)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), y, alike)
