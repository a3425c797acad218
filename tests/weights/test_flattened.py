"""The order of features behind a Flatten: PyTorch's where it flattens channels first, and where it does as dlfn."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn
from dlfn.weights import Flattened, To, export_state, import_state, torch_names
from torch_modules import close, same, state_dict

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)


FLATTENED = {
    "Sequential": (
        nn.Serial(nn.Conv(4, (3, 3)), nn.ReLU(), nn.MaxPool(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3)),
        lambda t: [t.Conv2d(2, 4, 3), t.ReLU(), t.MaxPool2d(2), t.Flatten(), t.Dropout(0.5), t.Linear(4 * 2 * 3, 3)],
    ),
    "at once": (nn.Serial(nn.Flatten(), nn.Linear(3)), lambda t: [t.Flatten(), t.Linear(2 * 6 * 8, 3)]),
    "one pixel": (
        nn.Serial(nn.Conv(4, (6, 8)), nn.Flatten(), nn.LayerNorm(), nn.Linear(3)),
        lambda t: [t.Conv2d(2, 4, (6, 8)), t.Flatten(), t.LayerNorm(4), t.Linear(4, 3)],
    ),
    "nested": (
        nn.Serial(nn.Serial(nn.Conv(4, (3, 3)), nn.Flatten()), nn.Serial(nn.Tanh(), nn.Linear(3))),
        lambda t: [
            t.Sequential(t.Conv2d(2, 4, 3), t.Flatten()), t.Sequential(t.Tanh(), t.Linear(4 * 4 * 6, 3))
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLATTENED)
def test_the_names_of_a_model_reorder_what_follows_flattened_images(name, x64):
    model, make = FLATTENED[name]
    module, arrays = state_dict(torch.nn.Sequential(*make(torch.nn)).eval())
    x = RNG.normal(size=(5, 6, 8, 2))
    like = model.init(jax.random.key(0), x)
    for flatten, given in (("channels_first", x), ("channels_last", None), ("channels_last", x)):
        names = torch_names(model, x=given, flatten=flatten)
        params, state = import_state(arrays, *like, names)
        ours, _ = model.apply(params, state, x)
        close(ours, module_in_order(module, flatten)(torch.tensor(np.moveaxis(x, -1, 1))))
        same(export_state(params, state, names), arrays)


def module_in_order(module, flatten):
    """The same module, of which the Flatten may permute first, as torchcrepe's does."""

    class Permuted(torch.nn.Module):
        def forward(self, x):
            return x.movedim(1, -1).flatten(1)

    if isinstance(module, torch.nn.Flatten):
        return Permuted() if flatten == "channels_last" else module
    if isinstance(module, torch.nn.Sequential):
        return torch.nn.Sequential(*(module_in_order(child, flatten) for child in module))
    return module


class SequenceLSTM(torch.nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class SelfAttention(torch.nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


# Models of (N, 5, 6), which PyTorch gets as it is.
ONE_ORDER = {
    "MNIST": (
        nn.Serial(nn.Flatten(), nn.Linear(4), nn.ReLU(), nn.Linear(3)),
        lambda t: [t.Flatten(), t.Linear(5 * 6, 4), t.ReLU(), t.Linear(4, 3)],
    ),
    "activation": (
        nn.Serial(nn.Tanh(), nn.PReLU(), nn.Flatten(), nn.Linear(3)),
        lambda t: [t.Tanh(), t.PReLU(), t.Flatten(), t.Linear(5 * 6, 3)],
    ),
    "LayerNorm": (
        nn.Serial(nn.LayerNorm(), nn.Flatten(), nn.Linear(3)),
        lambda t: [t.LayerNorm(6), t.Flatten(), t.Linear(5 * 6, 3)],
    ),
    "LSTM": (
        nn.Serial(nn.LSTM(4), nn.LayerNorm(), nn.Flatten(), nn.Linear(3)),
        lambda t: [SequenceLSTM(6, 4, batch_first=True), t.LayerNorm(4), t.Flatten(), t.Linear(5 * 4, 3)],
    ),
    "attention": (
        nn.Serial(nn.MultiHeadAttention(2), nn.Flatten(), nn.Linear(3)),
        lambda t: [SelfAttention(6, 2, batch_first=True), t.Flatten(), t.Linear(5 * 6, 3)],
    ),
}


@pytest.mark.parametrize("name", ONE_ORDER)
def test_what_has_no_channels_is_flattened_in_one_order_which_is_not_asked_for(name, x64):
    model, make = ONE_ORDER[name]
    module, arrays = state_dict(torch.nn.Sequential(*make(torch.nn)).eval())
    x = RNG.normal(size=(2, 5, 6))
    expected = module(torch.tensor(x))
    for flatten in (None, "channels_last"):
        params, state = import_state(
            arrays, *model.init(jax.random.key(0), x), torch_names(model, x=x, flatten=flatten)
        )
        close(model.apply(params, state, x)[0], expected)


def test_channels_first_of_an_input_that_has_no_channels_is_refused(refused):
    """Channels are either a third axis of one, in PyTorch, or the last axis here."""
    x = jax.ShapeDtypeStruct((2, 28, 20), jnp.float32)
    parts = ["'0'", "(N, 28, 20)", "leave flatten out", "Flattened((20, 28))"]
    refused(lambda: torch_names(nn.Serial(nn.Flatten(), nn.Linear(3)), x=x, flatten="channels_first"), parts)


@dataclass(frozen=True)
class TheirConv(nn.Layer):
    """A layer of somebody else's, which may have channels."""

    def init(self, key, x):
        return (), ()

    def apply(self, params, state, x, *, key=None, train=False):
        return x, state


SIGNALS = [nn.Conv(4, (3,)), nn.MaxPool((2,)), nn.BatchNorm(), nn.GroupNorm(2), nn.PReLU(per_channel=True), TheirConv()]


@pytest.mark.parametrize("layer", SIGNALS, ids=str)
def test_the_order_of_channels_along_one_axis_is_asked_for(layer, refused):
    x = jax.ShapeDtypeStruct((2, 8, 6), jnp.float32)
    model = nn.Serial(layer, nn.Flatten(), nn.Linear(3))
    refused(lambda: torch_names(model, x=x), ["flatten='channels_first' if what PyTorch flattens is (N, C, ...)"])
    assert isinstance(torch_names(model, x=x, flatten="channels_first")["2.weight"].rule, Flattened)


ROWS_OR_SEQUENCES = [
    (nn.mlp((4,), 2), (2, 6)),
    (nn.mlp((4,), 2), (2, 7, 6, 1)),
    (nn.mlp((4,), 2), (2, 1, 1, 5)),
    (nn.mlp((4,), 2), (2,)),
    (nn.Serial(nn.BatchNorm(), nn.Flatten(), nn.Linear(3)), (2, 6)),
    (nn.Serial(nn.Linear(4), nn.Flatten(), nn.Linear(2)), (2, 5, 4)),
    (nn.Serial(nn.LSTM(3), nn.Flatten(), nn.Linear(2)), (2, 5, 4)),
    (nn.Serial(nn.Conv(3, (2, 2)), nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(2)), (2, 5, 5, 1)),
]


@pytest.mark.parametrize(("model", "shape"), ROWS_OR_SEQUENCES)
def test_flattened_rows_and_sequences_keep_their_order(model, shape):
    names = torch_names(model, x=jax.ShapeDtypeStruct(shape, jnp.float32))
    assert not any(isinstance(to, To) and isinstance(to.rule, Flattened) for to in names.values())


IMAGES = jax.ShapeDtypeStruct((2, 6, 8, 3), jnp.float32)
FLATTENING = [
    nn.Serial(nn.Flatten(), nn.Linear(3)),
    nn.Serial(nn.Flatten(), nn.LayerNorm(), nn.Linear(3)),
    nn.Serial(nn.Conv(4, (3, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(3)),
    nn.Serial(nn.MaxPool(2), nn.Flatten(), nn.ReLU(), nn.Flatten(), nn.Linear(3)),
    nn.Serial(nn.Residual(nn.Conv(3, (1, 1))), nn.Flatten(), nn.BatchNorm()),
    nn.Serial(nn.Conv(4, (3, 3)), nn.Linear(4), nn.Flatten(), nn.Linear(3)),
    nn.Serial(nn.Conv(4, (3, 3)), nn.Flatten(), nn.GLU()),
    nn.Serial(nn.Conv(4, (3, 3)), nn.Flatten(), nn.Residual(nn.Tanh())),
]


@pytest.mark.parametrize("model", FLATTENING, ids=str)
def test_the_order_of_flattened_images_is_asked_for_and_not_guessed(model):
    for given in ({}, {"x": IMAGES}, {"flatten": "channels_first"}):
        with pytest.raises(dlfn.InputError, match="flatten='channels_last' if it has the same axis") as caught:
            torch_names(model, **given)
        assert ("pass x, an example" in str(caught.value)) == ("x" not in given)
    names = torch_names(model, flatten="channels_last")
    assert names == torch_names(model, x=IMAGES, flatten="channels_last")


FLAT = nn.Serial(nn.MaxPool(2), nn.Flatten())


def channels_first(*layers):
    return torch_names(nn.Serial(FLAT, *layers), x=IMAGES, flatten="channels_first")


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (
            lambda: torch_names(nn.Serial(a=FLAT, b=nn.Linear(3))),
            ["'b'", "Linear(features=3)", "Flatten", "pass x", "flatten='channels_first' if"],
        ),
        (lambda: torch_names(FLAT, flatten="NCHW"), ["flatten is 'NCHW'", "'channels_first' or 'channels_last'"]),
        (lambda: channels_first(nn.BatchNorm()), ["'1'", "BatchNorm()", "by name"]),
        (lambda: channels_first(nn.BayesianLinear(3), nn.Linear(2)), ["'1'", "BayesianLinear", "by name"]),
        (lambda: channels_first(nn.GLU(), nn.Linear(2)), ["'1'", "glu", "by name"]),
        (lambda: channels_first(nn.Residual(nn.Tanh())), ["'1'", "Residual takes", "by name"]),
        (
            lambda: torch_names(nn.Serial(nn.Conv(4, (3, 3)), nn.LayerNorm(axes=3))),
            ["'1'", "LayerNorm(axes=3)", "channels first or last", "by name"],
        ),
    ],
)
def test_mistakes_are_named(mistake, parts, refused):
    refused(mistake, parts)
