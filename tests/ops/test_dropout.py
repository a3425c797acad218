"""Dropout of entries, channels and weights: masks, what is kept of them, and the layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops
from dlfn.bench.measurement import residual_bytes

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = 1 + jax.random.uniform(KEY, (4, 6, 6, 50))


def test_channels_are_kept_or_dropped_whole_forward_and_backward():
    y, back = jax.vjp(lambda x: ops.dropout(x, KEY, keep_prob=0.7, shared_axes=(1, -2)), X)
    kept = y != 0
    np.testing.assert_array_equal(kept, jnp.broadcast_to(kept[:, :1, :1], X.shape))
    np.testing.assert_array_equal(y, jnp.where(kept, X / 0.7, 0))
    np.testing.assert_array_equal(back(X)[0], y)
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize(("shared_axes", "drawn"), [((), X.size), ((1, 2), 4 * 50), ((0, 1, 2, 3), 1)])
def test_one_byte_is_kept_of_each_number_drawn(shared_axes, drawn):
    assert residual_bytes(lambda x: ops.dropout(x, KEY, keep_prob=0.7, shared_axes=shared_axes), (X,)) == drawn


def test_spatial_dropout_is_dropout_over_the_spatial_axes():
    layer = nn.SpatialDropout(0.7)
    for x in (X, X[:, 0], X[None]):
        y, _ = layer.apply((), (), x, key=KEY, train=True)
        axes = tuple(range(1, x.ndim - 1))
        np.testing.assert_array_equal(y, ops.dropout(x, KEY, keep_prob=0.7, shared_axes=axes))
        assert layer.apply((), (), x)[0] is x


def test_drop_connect_drops_weights_and_only_in_training():
    x, linear = (
        jax.random.normal(KEY, (5, 30)),
        nn.Linear(40, bias_init=lambda key, shape, dtype: jnp.ones(shape, dtype)),
    )
    layer = nn.DropConnect(linear, 0.7)
    params, state = layer.init(KEY, x)
    np.testing.assert_array_equal(layer.apply(params, state, x)[0], linear.apply(params, state, x)[0])
    y, _ = layer.apply(params, state, x, key=KEY, train=True)
    w = ops.dropout(params["w"], KEY, keep_prob=0.7)
    np.testing.assert_allclose(y, x @ w + params["b"], rtol=1e-4, atol=1e-5)

    def loss(params):
        return layer.apply(params, state, x, key=KEY, train=True)[0].sum()

    gradient = jax.grad(loss)(params)["w"]
    np.testing.assert_allclose(gradient, jnp.where(w != 0, x.sum(0)[:, None] / 0.7, 0), rtol=1e-4, atol=1e-5)
    assert dlfn.compare(loss)(params).ok
    assert nn.summary(layer, x).splitlines()[-1].split()[1] == "1,240"


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: ops.dropout(X, KEY, keep_prob=0.5, shared_axes=(4,)), ["shared_axes is (4,)", "-4 to 3"]),
        (lambda: ops.dropout(X, KEY, keep_prob=0.5, shared_axes=1), ["shared_axes is 1", "tuple"]),
        (lambda: nn.SpatialDropout(0.5).apply((), (), X[0, 0]), ["(6, 50)", "use Dropout"]),
        (lambda: nn.SpatialDropout(0.5).apply((), (), X, train=True), ["SpatialDropout needs a key"]),
        (lambda: nn.SpatialDropout(0.0), ["SpatialDropout: keep_prob", "0.0"]),
        (lambda: nn.DropConnect(nn.ReLU(), 0.5).apply((), (), X), ["relu()", "Linear"]),
        (lambda: nn.DropConnect(nn.Linear(2), 0.5).apply({"w": X[0, 0]}, (), X[0, 0], train=True), ["needs a key"]),
    ],
)
def test_mistakes_are_named_with_their_fix(mistake, parts, refused):
    refused(mistake, parts)


SPELLINGS = {
    "Dropout": (lambda **p: nn.Dropout(**p), ""),
    "SpatialDropout": (lambda **p: nn.SpatialDropout(**p), ""),
    "DropConnect": (lambda **p: nn.DropConnect(nn.Linear(2), **p), ""),
    "Stacked": (lambda **p: nn.Stacked(nn.LSTM(2), **p), ""),
    "LSTMCell": (lambda **p: nn.LSTMCell(2, **p), "recurrent_"),
    "RNNCell": (lambda **p: nn.RNNCell(2, **p), "recurrent_"),
    "MultiHeadAttention": (lambda **p: nn.MultiHeadAttention(2, **p), "attention_"),
    "TransformerBlock": (lambda **p: nn.TransformerBlock(2, **p), ""),
    "mlp": (lambda **p: nn.models.mlp((3,), 2, **p), ""),
    "cnn": (lambda **p: nn.models.cnn(2, **p), ""),
    "vit": (lambda **p: nn.models.vit(2, **p), ""),
    "gpt": (lambda **p: nn.models.gpt(5, **p), ""),
    "lstm": (lambda **p: nn.models.lstm(5, **p), ""),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_rate_is_what_is_not_kept(name, refused):
    make, prefix = SPELLINGS[name]
    keep_prob, rate = f"{prefix}keep_prob", f"{prefix}rate"
    assert make(**{rate: 0.9}) == make(**{keep_prob: 0.1})
    refused(lambda: make(**{rate: 0.9, keep_prob: 0.5}), [name, f"{keep_prob} is 0.5", f"{rate} is 0.9", "one must"])
    refused(lambda: make(**{rate: 1.0}), [name, rate, "[0, 1)", "1.0"])
    refused(lambda: make(**{rate: True}), [name, rate])


def test_layers_of_dropout_need_one_of_both_and_can_be_replaced(refused):
    refused(nn.Dropout, ["give keep_prob, the fraction kept, or rate"])
    layer = nn.DropConnect(nn.Linear(2), rate=0.25)
    assert dataclasses.replace(layer, layer=nn.Linear(3)).keep_prob == 0.75
    assert str(nn.Dropout(rate=0.1)) == "Dropout(keep_prob=0.9)"
