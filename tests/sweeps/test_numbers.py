"""The settings of ops and layers that are numbers: a bool, which to Python is one too, is refused, and an op takes one
of NumPy where it takes one of Python."""

import copy
import dataclasses
import inspect
import typing

import jax
import numpy as np
import pytest

from dlfn import InputError, nn
from every_layer import ANYWHERE, BY_KIND, ENDS
from helpers import ENTRIES

pytestmark = pytest.mark.usefixtures("quick_compilation")


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
    """In the first case that has one."""
    for case in entry.cases:
        args = case.make((4,), "float32")
        value = entry.op.bind_arguments(*args, **case.static)[1][name]
        if isinstance(value, float):
            both = lambda *args: [entry.op(*args, **{**case.static, name: v}) for v in (value, np.float32(value))]  # noqa: B023, E731
            y, alike = jax.jit(both)(*args)
            assert jax.tree.map(jax.typeof, y) == jax.tree.map(jax.typeof, alike)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), y, alike)
            return


LAYERS = {
    type(layer): layer
    for layers in (ANYWHERE, *BY_KIND.values(), *ENDS.values())
    for layer in (make() for make in layers.values())
} | {
    type(layer): layer
    for layer in (nn.Embedding(3, 4), nn.RNNCell(3), nn.LSTMCell(3), nn.GRUCell(3), nn.Zoneout(nn.LSTMCell(3)))
}
FIELDS = [
    pytest.param(layer, field.name, id=f"{kind.__name__}-{field.name}")
    for kind, layer in LAYERS.items()
    for field in dataclasses.fields(layer)
    if field.init and is_numeric(field.type)
]


@pytest.mark.parametrize(("layer", "name"), FIELDS)
@pytest.mark.parametrize("value", [True, False, np.True_])
def test_a_bool_is_no_number_to_a_layer(layer, name, value):
    wrong = copy.copy(layer)
    object.__setattr__(wrong, name, value)
    parameters = inspect.signature(wrong.__post_init__).parameters.values()
    rates = [None for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]  # given to __init__ alone
    with pytest.raises(InputError, match=f"{name} is .*{value}.*, and must be"):
        wrong.__post_init__(*rates)
