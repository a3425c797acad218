"""Padded sequences on their way through a model: lengths, initial states, and layers that refuse them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, ops
from helpers import initialised, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 5, 2))
LENGTHS = jnp.array([5, 2, 4])

PADDED = {
    "text": nn.Serial(nn.Embedding(7, 4), nn.LSTM(3), nn.LayerNorm(), nn.Linear(5)),
    "stack": nn.Serial(nn.Embedding(7, 4), nn.GRU(4), nn.Dropout(0.5), nn.LSTM(4), nn.RMSNorm(), nn.PReLU()),
    "residual": nn.Serial(nn.Embedding(7, 4), nn.Residual(nn.LSTM(4)), nn.Repeat(nn.Residual(nn.RNN(4)), 2)),
    "projection": nn.Serial(nn.Embedding(7, 4), nn.Residual(nn.Bidirectional(nn.GRU(3)), nn.Linear(6, bias=False))),
    "transformer": nn.Serial(
        nn.Embedding(7, 4), nn.TransformerBlock(2), nn.TransformerBlock(2, causal=True, positions="rope"), nn.Linear(3)
    ),
    "merged": nn.Serial(
        nn.Embedding(7, 4),
        nn.Parallel(nn.LSTM(3), nn.Serial(nn.Linear(6), nn.SwiGLU()), merge="concatenate"),
        nn.Parallel(nn.RNN(4), nn.Serial(nn.WeightNorm(nn.Linear(4)), nn.Sigmoid()), merge=jnp.multiply),
        nn.SinusoidalPositions(),
        nn.FeedForward(2),
    ),
}


@pytest.mark.parametrize("name", ordinarily({"transformer", "merged", "stack"}, PADDED))
def test_padded_sequences_pass_through_a_model(name):
    """As if each were alone, without its padding."""
    model, ids = PADDED[name], jax.random.randint(KEY, (3, 5), 0, 7)
    x = nn.Sequence(ids, LENGTHS)
    params, state = initialised(model, x)
    one = ids[1:2, : LENGTHS[1]]

    @jax.jit
    def outputs(params):
        y, alone = (model.apply(params, state, z)[0] for z in (x, one))
        return y, alone, model.apply(params, state, x, key=KEY, train=True)[0]

    y, alone, trained = outputs(params)
    np.testing.assert_array_equal(y.lengths, LENGTHS)
    np.testing.assert_allclose(y.values[1:2, : LENGTHS[1]], alone, rtol=1e-5, atol=1e-6)
    assert jax.tree.map(jnp.shape, trained) == jax.tree.map(jnp.shape, y)
    counted = nn.summary(model, x).replace(",", "").splitlines()[-1].split()[1]
    assert int(counted) == nn.count_parameters(params)


def test_attention_never_reads_padding():
    layer = nn.MultiHeadAttention(1)
    params, state = layer.init(KEY, X)
    padded = X.at[1, 2:].set(jnp.nan)
    of_first = lambda p, x: layer.apply(p, state, nn.Sequence(x, LENGTHS))[0].values[1, :2].sum()  # noqa: E731
    for got, expected in zip(*map(jax.tree.leaves, (jax.grad(of_first)(params, x) for x in (padded, X))), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_cross_attention_reads_no_padding_of_either():
    """The second of the batch is as if it were alone, and so are its gradients."""
    layer, more = nn.MultiHeadAttention(1), jax.random.normal(jax.random.key(1), (3, 4, 2))
    queries = nn.Sequence(more.at[1, 3:].set(jnp.nan), jnp.array([4, 3, 1]))
    context = nn.Sequence(X.at[1, 2:].set(jnp.nan), LENGTHS)
    params, state = layer.init(KEY, (queries, context))
    together = lambda p: jnp.sum(layer.apply(p, state, (queries, context))[0].values[1, :3] ** 2)  # noqa: E731
    alone = lambda p: jnp.sum(layer.apply(p, state, (more[1:2, :3], X[1:2, :2]))[0] ** 2)  # noqa: E731
    found = (jax.value_and_grad(f)(params) for f in (together, alone))
    for got, expected in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_cross_attention_takes_lengths_and_a_mask():
    layer = nn.MultiHeadAttention(1)
    x, context = X[:, :4], nn.Sequence(X, LENGTHS)
    params, state = layer.init(KEY, (x, context))
    y, _ = layer.apply(params, state, (x, context, jnp.eye(4, 5, dtype=bool)))
    values = ops.linear(X[:, :4], params["v"]["w"], params["v"]["b"])
    seen = (jnp.arange(4) < LENGTHS[:, None])[..., None]  # a query that sees no key gets 0
    expected = ops.linear(jnp.where(seen, values, 0), params["o"]["w"], params["o"]["b"])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_an_initial_state_passes_through_to_the_first_layer_over_time():
    model = nn.Serial(nn.Linear(4), nn.LSTM(3))
    x = nn.Sequence(X, initial=(jnp.ones((3, 3)), jnp.ones((3, 3))))
    params, state = model.init(KEY, x)
    y, _ = model.apply(params, state, x)
    expected, _ = model.layers[1].apply(params[1], (), x._replace(values=X @ params[0]["w"]))
    np.testing.assert_allclose(y.values, expected.values, rtol=1e-5, atol=1e-6)
    assert y.initial is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv(3, (3,)), nn.MaxPool((2,)), nn.Flatten(), nn.BatchNorm(), nn.LayerNorm(axes=2), nn.Softmax(axis=0),
        nn.SpatialDropout(0.5), nn.Parallel(nn.Tanh(), nn.Tanh(), nn.Tanh(), split=True),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_take_padding_for_steps_refuses_sequences(layer, refused):
    refused(
        lambda: nn.Serial(a=nn.LSTM(4), b=nn.Serial(layer)).init(KEY, nn.Sequence(X, LENGTHS)), ["Sequence", "'b/0"]
    )


@pytest.mark.parametrize("branches", [(nn.Linear(2), nn.GRU(2)), (nn.GRU(2), nn.Linear(2))])
def test_an_initial_state_that_one_branch_took_is_gone(branches):
    layer = nn.Parallel(*branches, merge="sum")
    x = nn.Sequence(X, initial=jnp.ones((3, 2)))
    y, _ = layer.apply(*layer.init(KEY, x), x)
    assert y.initial is None


def test_lengths_of_narrow_integers():
    """T need not be a number of their dtype."""
    x = jax.random.normal(KEY, (1, 200, 2))
    layer = nn.RNN(2, output="last")
    params, state = layer.init(KEY, x)
    ys = [layer.apply(params, state, nn.Sequence(x, jnp.array([100], dtype)))[0] for dtype in ("int8", "int32")]
    np.testing.assert_array_equal(*ys)


def test_an_initial_state_continues_a_sequence():
    layer = nn.LSTM(4, output="both")
    params, state = layer.init(KEY, X)
    (whole, final), _ = layer.apply(params, state, X)
    (first, middle), _ = layer.apply(params, state, X[:, :2])
    (second, last), _ = layer.apply(params, state, nn.Sequence(X[:, 2:], initial=middle))
    np.testing.assert_allclose(jnp.concatenate([first, second.values], 1), whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), last, final)
