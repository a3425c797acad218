"""Activations and their layers: what the sweeps do not see."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, ops
from dlfn.bench.measurement import residual_bytes
from dlfn.ops.activations import exponential_units, gated, piecewise
from dlfn.ops.activations import smooth as activations
from dlfn.registry.all import entries

KEY = jax.random.key(0)
NAMES = sorted({*activations.__all__, *exponential_units.__all__, *gated.__all__, *piecewise.__all__})


@pytest.mark.parametrize("name", NAMES)
def test_the_backward_pass_keeps_no_more_than_the_arguments(name):
    (entry,) = entries([name])
    for case in entry.cases:
        args = case.make((64,), "float32")
        kept = residual_bytes(lambda *args, case=case: entry.op(*args, **case.static), args)
        assert kept <= sum(a.nbytes for a in args), case.name


@pytest.mark.usefixtures("quick_compilation")
def test_every_activation_has_a_name_that_every_layer_takes():
    assert {*nn.ACTIVATIONS, *nn.GATED} >= {*NAMES} - {"prelu"}  # which has something to learn
    x = jax.random.normal(KEY, (2, 6))
    for name in nn.ACTIVATIONS:
        expected, _ = nn.Activation(name).apply((), (), x)
        layer = nn.FeedForward(1, name, bias=False)
        eye = {"up": {"w": jnp.eye(6)}, "activation": (), "down": {"w": jnp.eye(6)}}
        np.testing.assert_allclose(layer.apply(eye, (), x)[0], expected, rtol=1e-6, atol=1e-6)
    for name, function in nn.GATED.items():
        expected = function(x[:, :3], x[:, 3:])
        np.testing.assert_array_equal(nn.Gated(name).apply((), (), x)[0], expected)
        eye = {"up": {"w": jnp.eye(6)}, "activation": (), "down": {"w": jnp.eye(3)}}
        for activation in (name, function):
            layer = nn.FeedForward(1, activation, bias=False)._layers(3)
            np.testing.assert_allclose(layer.apply(eye, (), x)[0], expected, rtol=1e-6, atol=1e-6)
    for name in (*nn.ACTIVATIONS, *nn.GATED):
        assert nn.TransformerBlock(2, activation=name).children()["mlp"]


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda x: ops.gelu(x, approximate="tanh"), ["approximate", "'tanh'", "True or False"]),
        (lambda x: ops.elu(x, alpha=float("nan")), ["alpha", "nan", "finite"]),
        (lambda x: ops.leaky_relu(x, negative_slope=True), ["negative_slope", "True", "number"]),
        (lambda x: ops.celu(x, alpha=0), ["alpha is 0", "positive", "relu"]),
        (lambda x: ops.squareplus(x, b=-1.0), ["b is -1.0", "positive"]),
        (lambda x: ops.prelu(x, jnp.ones(2)), ["alpha is float32[2]", "float32[4, 3]", "last axis"]),
        (lambda x: ops.glu(x, x[0]), ["value is float32[4, 3]", "gate is float32[3]", "same shape"]),
        (lambda x: nn.Gated("gelu"), ["unknown activation 'gelu'", "'geglu'"]),
        (lambda x: nn.FeedForward(activation="gelu_thn"), ["FeedForward: unknown activation", "'gelu_tanh'"]),
        (
            lambda x: nn.Activation(partial(ops.gelu, approximate=True), alpha=1),
            ["gelu(approximate=True) has no setting"],
        ),
        (lambda x: nn.GLU().apply((), (), x), ["glu()", "(4, 3)", "even"]),
        (lambda x: nn.PReLU(per_channel=True).init(KEY, x[0, 0]), ["scalar", "channels"]),
        (lambda x: nn.PReLU(per_channel=True).apply({"alpha": x[0, :2]}, (), x), ["2 channels", "(4, 3)"]),
    ],
)
def test_mistakes_are_named_with_their_fix(mistake, parts, refused):
    refused(lambda: mistake(jnp.ones((4, 3))), parts)


@pytest.mark.parametrize("per_channel", [False, True])
def test_prelu_learns_its_alpha(per_channel):
    x = jax.random.normal(KEY, (5, 2, 3))
    layer = nn.PReLU(per_channel=per_channel)
    params, state = layer.init(KEY, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert nn.count_parameters(params) == (3 if per_channel else 1)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], jnp.where(x >= 0, x, 0.25 * x))
    gradient = jax.grad(lambda params: layer.apply(params, state, x)[0].sum())(params)
    axes = (0, 1) if per_channel else None
    np.testing.assert_allclose(gradient["alpha"], jnp.minimum(x, 0).sum(axes), rtol=1e-6)


@pytest.mark.usefixtures("quick_compilation")
def test_gated_layers_split_as_torch_does():
    torch = pytest.importorskip("torch")
    x = np.asarray(jax.random.normal(KEY, (5, 2, 6)))
    ours = nn.GLU().apply((), (), jnp.asarray(x))[0]
    np.testing.assert_allclose(ours, torch.nn.GLU()(torch.tensor(x)).numpy(), rtol=1e-6)
    value, gate = np.split(x, 2, axis=-1)
    np.testing.assert_allclose(nn.SwiGLU().apply((), (), jnp.asarray(x))[0], value * jax.nn.silu(gate), rtol=1e-5)
    for approximate in (False, True):
        ours = nn.GEGLU(approximate=approximate).apply((), (), jnp.asarray(x))[0]
        np.testing.assert_allclose(ours, value * jax.nn.gelu(gate, approximate=approximate), rtol=1e-4, atol=1e-6)


def test_values_keep_their_digits_in_the_tails():
    x = np.array([-30.0, -12.0, -3.0, -0.01, -1e-6], np.float32)
    wide = x.astype(np.longdouble)
    e = np.exp(wide)
    exact = {
        ops.mish: wide * e * (2 + e) / (e * (2 + e) + 2),
        ops.elu: np.expm1(wide),
        ops.squareplus: 2 / (np.sqrt(wide * wide + 4) - wide),
        ops.log_sigmoid: wide - np.log1p(e),
    }
    for op, expected in exact.items():
        np.testing.assert_allclose(op(jnp.asarray(x)), expected.astype(float), rtol=3e-7)
