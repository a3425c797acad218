"""Every layer prints in full, whatever it is made of, and an error can name it in one line."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import InputError, nn, ops
from dlfn.nn.initializers import he_normal
from dlfn.nn.layer import title


class Callable:
    """A function with nothing to tell its name but its type."""

    def __call__(self, *args, **settings):
        del settings
        return args[-1]

    def method(self, *args):
        return args[-1]


@dataclasses.dataclass
class Unhashable(Callable):
    scale: float = 1.0


FUNCTIONS = {
    "op": (ops.gelu, "gelu"),
    "partial": (functools.partial(ops.gelu, approximate=True), "gelu(approximate=True)"),
    "partial of a partial": (functools.partial(functools.partial(ops.elu, alpha=2.0), alpha=3.0), "elu(alpha=3.0)"),
    "partial with arguments": (functools.partial(max, 1), "max(1)"),
    "partial with an array": (functools.partial(ops.gelu, where=jnp.ones((2, 3))), "gelu(where=float32[2, 3])"),
    "lambda": (lambda *args: args[-1], "<lambda>"),
    "callable": (Callable(), "Callable"),
    "partial of a callable": (functools.partial(Callable(), 2), "Callable(2)"),
    "unhashable callable": (Unhashable(), "Unhashable"),
    "method": (Callable().method, "method"),
    "builtin": (max, "max"),
    "class": (jnp.float32, "float32"),
    "jitted": (jax.jit(jnp.sin), "sin"),
    "custom_jvp": (jax.nn.relu, "relu"),
    "ufunc": (jnp.add, "add"),
    "numpy": (np.vectorize(abs), "abs"),
}
VALUES = {
    "array": jnp.arange(6.0).reshape(2, 3),
    "numpy array": np.arange(3),
    "scalar array": jnp.array(0.5),
    "numpy scalar": np.float32(0.5),
    "int": 3,
    "bool": True,
    "tuple": (2, 2),
    "pairs": ((1, 1), (0, 2)),
    "same": "SAME",
    "dtype": jnp.bfloat16,
    "precision": jax.lax.Precision.HIGHEST,
    "layer": nn.Linear(4),
    "cell": nn.LSTMCell(4),
}

# A layer of every class, by its name.
LAYERS = {
    "Activation": nn.Activation("relu"),
    "AdaptiveAvgPool": nn.AdaptiveAvgPool(2),
    "AdaptiveMaxPool": nn.AdaptiveMaxPool(2),
    "AvgPool": nn.AvgPool(2),
    "BatchNorm": nn.BatchNorm(),
    "BayesianLinear": nn.BayesianLinear(3),
    "Bidirectional": nn.Bidirectional(nn.LSTM(2)),
    "Checkpointed": nn.Checkpointed(nn.Linear(2)),
    "ClassToken": nn.ClassToken(),
    "Conv": nn.Conv(3, 3),
    "ConvTranspose": nn.ConvTranspose(3, 3),
    "DepthwiseConv": nn.DepthwiseConv(3),
    "DropConnect": nn.DropConnect(nn.Linear(2), 0.5),
    "Dropout": nn.Dropout(0.5),
    "Embedding": nn.Embedding(3, 2),
    "FeedForward": nn.FeedForward(),
    "Flatten": nn.Flatten(),
    "GRUCell": nn.GRUCell(2),
    "Gated": nn.Gated("glu"),
    "GlobalAvgPool": nn.GlobalAvgPool(),
    "GlobalMaxPool": nn.GlobalMaxPool(),
    "GroupNorm": nn.GroupNorm(2),
    "InstanceNorm": nn.InstanceNorm(),
    "LSTMCell": nn.LSTMCell(2),
    "LayerNorm": nn.LayerNorm(),
    "LearnedPositions": nn.LearnedPositions(4),
    "Linear": nn.Linear(3),
    "MaxPool": nn.MaxPool(2),
    "MultiHeadAttention": nn.MultiHeadAttention(2),
    "PReLU": nn.PReLU(),
    "Parallel": nn.Parallel(nn.Linear(2), nn.Linear(3)),
    "Permute": nn.Permute((0, 2, 1)),
    "ProjectedLSTMCell": nn.ProjectedLSTMCell(2, projection=1),
    "RMSNorm": nn.RMSNorm(),
    "RNNCell": nn.RNNCell(2),
    "Recurrent": nn.Recurrent(nn.RNNCell(2)),
    "Repeat": nn.Repeat(nn.Linear(2), 3),
    "Residual": nn.Residual(nn.Linear(2)),
    "Serial": nn.Serial(nn.Linear(2), nn.ReLU()),
    "SinusoidalPositions": nn.SinusoidalPositions(),
    "SpatialDropout": nn.SpatialDropout(0.5),
    "SpectralNorm": nn.SpectralNorm(nn.Linear(2)),
    "Stacked": nn.Stacked(nn.LSTM(2), nn.LSTM(2)),
    "TakeStep": nn.TakeStep(-1),
    "Tied": nn.Tied(nn.Serial(nn.Linear(2), nn.Linear(2)), {"1": "0"}),
    "WeightNorm": nn.WeightNorm(nn.Linear(2)),
    "Zoneout": nn.Zoneout(nn.LSTMCell(2)),
}


def test_every_class_of_layers_is_here():
    public = [getattr(nn, name) for name in nn.__all__]
    classes = {kind.__name__ for kind in public if inspect.isclass(kind) and issubclass(kind, nn.Layer)}
    assert classes - {"Layer", "Cell"} == LAYERS.keys()
    assert all(type(layer).__name__ == name for name, layer in LAYERS.items())


def prints(layer):
    assert str(layer)
    assert repr(layer)
    assert "\n" not in title(layer)
    assert " object at 0x" not in str(layer)
    assert str(nn.Serial(layer)) == "Serial(\n  0: " + str(layer).replace("\n", "\n  ") + "\n)"
    return str(layer)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_print_with_whatever_they_accept(name):
    """Every setting in turn is every function and every value that the class does not refuse."""
    layer = LAYERS[name]
    prints(layer)
    if not type(layer).__dataclass_params__.init:
        return
    values = [*(function for function, _ in FUNCTIONS.values()), *VALUES.values()]
    for field in dataclasses.fields(layer):
        inner = "Layer" in str(field.type) or "Cell" in str(field.type)  # for which nothing but a layer is legal
        for value in values:
            if inner and not isinstance(value, nn.Layer):
                continue
            try:
                other = dataclasses.replace(layer, **{field.name: value})
            except (InputError, TypeError, ValueError, AttributeError):
                continue
            prints(other)


@pytest.mark.parametrize(("function", "printed"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_are_printed_by_name(function, printed):
    call = printed if printed.endswith(")") else f"{printed}()"
    assert prints(nn.Activation(function)) == call
    assert prints(nn.Gated(function)) == call
    assert prints(nn.Linear(3, weight_init=function)) == f"Linear(features=3, weight_init={printed})"
    assert f"merge={printed}\n" in prints(nn.Parallel(nn.Linear(2), merge=function))
    assert prints(nn.Parallel(merge=function))
    assert f"activation={printed}" in prints(nn.FeedForward(activation=function))


def test_settings_are_printed_beside_those_of_a_partial():
    assert (
        prints(nn.Activation(functools.partial(ops.leaky_relu, negative_slope=0.1))) == "leaky_relu(negative_slope=0.1)"
    )
    both = nn.Activation(functools.partial(ops.softmax, axis=0), axis=1)
    assert prints(both) == "softmax(axis=1)"
    np.testing.assert_allclose(both.apply((), (), jnp.ones((2, 4)))[0], 0.25)
    assert prints(nn.Activation(lambda x, scale: x * scale, scale=jnp.ones(3))) == "<lambda>(scale=float32[3])"
    layer = nn.Conv(8, 3, padding="SAME", kernel_init=functools.partial(he_normal, gain=2))
    assert prints(layer) == "Conv(features=8, window=3, padding=SAME, kernel_init=he_normal(gain=2))"
    summary = nn.summary(nn.Serial(nn.Linear(2), nn.Activation("gelu_tanh")), jnp.ones((1, 3)))
    assert "gelu(approximate=True)" in summary
