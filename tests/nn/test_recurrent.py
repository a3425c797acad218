"""Recurrent ops and layers: what no sweep covers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dlfn
from dlfn import nn, ops
from dlfn.bench.measurement import residual_bytes
from dlfn.check import jacobian_norms
from helpers import cotangent, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "gru after": 3}
OPS = {"rnn": ops.rnn, "lstm": ops.lstm, "gru": ops.gru, "gru after": functools.partial(ops.gru, reset_after=True)}
every_op = pytest.mark.parametrize("name", OPS)


def arguments(name, lead, steps, inputs, hidden, dtype, radius=0.9):
    """x, states and weights; the blocks of w_h have the given spectral radius."""
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(hidden, hidden)) for _ in range(GATES[name])]
    w_h = np.concatenate([radius * w / np.abs(np.linalg.eigvals(w)).max() for w in blocks], axis=1)
    states = [rng.normal(size=(*lead, hidden)) for _ in range(1 + (name == "lstm"))]
    w_x = rng.normal(size=(inputs, GATES[name] * hidden)) / np.sqrt(inputs)
    b = 0.1 * rng.normal(size=GATES[name] * hidden)
    return [jnp.asarray(a, dtype) for a in (rng.normal(size=(*lead, steps, inputs)), *states, w_x, w_h, b)]


def relative_error(got, expected):
    got, expected = (np.asarray(a, np.float64) for a in (got, expected))
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def loss_of(op):
    return lambda *args: sum(jnp.sum(y * cotangent(y)) for y in op(*args))


@pytest.mark.parametrize("name", ordinarily({"rnn", "lstm"}, OPS))
def test_long_sequences_in_float32(name, x64, optimised):
    """T = 4096 at a spectral radius below 1: every gradient to 8 ε √n."""
    args = arguments(name, (2,), 4096, 4, 8, "float32")
    at = tuple(range(len(args)))
    y, back = jax.vjp(jax.jit(OPS[name]), *args)
    dy = jax.tree.map(cotangent, y)
    wide = [a.astype("float64") for a in args]
    exact_y, exact_back = jax.vjp(dlfn.autodiff(OPS[name]), *wide)
    exact = exact_back(jax.tree.map(lambda c: c.astype("float64"), dy))
    bound = 8 * float(jnp.finfo("float32").eps) * (2 * 4096) ** 0.5
    errors = [relative_error(a, b) for a, b in zip((*y, *back(dy)), (*exact_y, *exact), strict=True)]
    assert len(errors) == len(y) + len(at)
    assert max(errors) <= bound


def test_bfloat16_weight_gradient_of_a_long_sequence(x64, optimised):
    """Trap 33: summed in bfloat16 step by step, most of the gradient is lost."""
    x, h0, w_x, w_h, b = arguments("rnn", (8,), 1024, 16, 16, "bfloat16", radius=0.5)
    positive = jnp.abs(x)

    def of_outputs(f):
        return lambda w_x, w_h: jnp.mean(f(positive, h0, w_x, w_h, b)[0].astype("float32"))

    def plain(x, h0, w_x, w_h, b):
        a = jnp.swapaxes(x, 0, 1) @ w_x + b
        h, hs = lax.scan(lambda h, a: (jnp.tanh(a + h @ w_h),) * 2, h0, a)
        return jnp.swapaxes(hs, 0, 1), h

    wide = [a.astype("float64") for a in (positive, h0, w_x, w_h, b)]
    exact = jax.grad(lambda w: jnp.mean(plain(*wide[:3], w, wide[4])[0]))(wide[3])
    ours = jax.jit(jax.grad(of_outputs(ops.rnn), 1))(w_x, w_h)
    theirs = jax.jit(jax.grad(of_outputs(plain), 1))(w_x, w_h)
    errors = relative_error(ours, exact), relative_error(theirs, exact)
    print(f"ours {errors[0]:.4f}, autodiff {errors[1]:.2f}")
    assert ours.dtype == jnp.bfloat16
    assert errors[0] <= 2**-8
    assert errors[1] > 0.3


@pytest.mark.parametrize(("name", "numbers"), [("rnn", 1), ("lstm", 6), ("gru", 4), ("gru after", 5)])
def test_residuals(name, numbers):
    """Beyond the arguments, so many numbers per unit and step."""
    args = arguments(name, (8,), 32, 16, 16, "float32")
    own = sum(a.nbytes for a in args[:-1])  # not the bias
    assert residual_bytes(OPS[name], tuple(args)) <= own + numbers * 4 * 8 * 32 * 16


@every_op
def test_padding_is_never_read(name):
    args = arguments(name, (3,), 5, 2, 4, "float32")
    lengths = jnp.array([5, 3, 0])
    padded = args[0].at[1, 3:].set(jnp.nan).at[2].set(jnp.inf)
    f = lambda x, *rest: OPS[name](x, *rest, *[None] * name.startswith("gru"), lengths)  # noqa: E731
    y, back = jax.vjp(f, padded, *args[1:])
    clean = jax.vjp(f, *args)[1](y)
    for got, expected in zip(back(y), clean, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert not np.asarray(y[0][1, 3:]).any()
    np.testing.assert_array_equal(y[1][2], args[1][2])


@every_op
def test_no_state_and_no_steps(name):
    x, *states, w_x, w_h, b = arguments(name, (3,), 4, 2, 4, "float32")
    absent = [None] * len(states)
    zeros = [jnp.zeros_like(s) for s in states]
    for a, b_ in zip(OPS[name](x, *absent, w_x, w_h, b), OPS[name](x, *zeros, w_x, w_h, b), strict=True):
        np.testing.assert_array_equal(a, b_)
    hs, *last = OPS[name](x[:, :0], *states, w_x, w_h, b)
    assert hs.shape == (3, 0, 4)
    for a, s in zip(last, states, strict=True):
        np.testing.assert_array_equal(a, s)
    gradient = jax.grad(loss_of(OPS[name]), 1)(x[:, :0], *states, w_x, w_h, b)
    assert gradient.shape == (3, 4)


@pytest.mark.parametrize("name", ordinarily({"rnn", "lstm"}, OPS))
def test_no_state_on_meshes(name, x64):
    x, *states, w_x, w_h, b = arguments(name, (8,), 4, 2, 4, "float64")
    f = lambda x, *weights: loss_of(OPS[name])(x, *[None] * len(states), *weights)  # noqa: E731
    gradient = jax.jit(jax.grad(f, (0, 1, 2, 3)))
    expected = gradient(x, w_x, w_h, b)
    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, NamedSharding(mesh, p)) for a, p in zip((x, w_x, w_h, b), (P("i"), P(), P(), P()))]
        for got, exact in zip(gradient(*placed), expected, strict=True):
            np.testing.assert_allclose(got, exact, rtol=1e-10, atol=1e-12)
    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))
    total = lambda f: lambda *args: lax.psum(f(*args), "i")  # noqa: E731
    shared = jax.shard_map(
        total(lambda x, w_x, w_h: sum(jnp.sum(y) for y in OPS[name](x, *[None] * len(states), w_x, w_h, b))),
        mesh=mesh, in_specs=(P("i"), P(), P()), out_specs=P(),
    )  # fmt: skip
    plain = lambda x, w_x, w_h: sum(jnp.sum(y) for y in OPS[name](x, *[None] * len(states), w_x, w_h, b))  # noqa: E731
    gradients = (jax.jit(jax.grad(f, (0, 1)))(x, w_x, w_h) for f in (shared, plain))
    for got, exact in zip(*gradients, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-10, atol=1e-12)


# Layers

CELLS = {
    "rnn": nn.RNNCell(4, activation="relu"),
    "lstm": nn.LSTMCell(4),
    "gru": nn.GRUCell(4, bias=False),
    "gru after": nn.GRUCell(4, reset_after=True),
}
X = jax.random.normal(KEY, (3, 5, 2))
LENGTHS = jnp.array([5, 2, 4])


class Stepwise(nn.Cell):
    """A cell that has no op for the whole sequence."""

    def __init__(self, cell):
        self.initial, self.init, self.apply, self.prepare = cell.initial, cell.init, cell.apply, cell.prepare

    initial = apply = None


DIRECTIONS = list(itertools.product(CELLS, (False, True)))


@pytest.mark.parametrize(
    "direction", ordinarily({("rnn", False), ("lstm", True), ("gru", False), ("gru after", True)}, DIRECTIONS), ids=str
)
def test_a_cell_step_by_step_is_its_op(direction):
    name, reverse = direction
    cell = CELLS[name]
    x = nn.Sequence(X, LENGTHS, jax.tree.map(jnp.ones_like, cell.initial(X[:, 0])))
    layers = [nn.Recurrent(c, reverse, "both") for c in (cell, Stepwise(cell))]
    params, state = layers[0].init(KEY, x)

    def run(params, layer):
        def loss(params):
            outputs, _ = layer.apply(params, state, x)
            return jnp.sum(jnp.sin(outputs[0].values)), outputs

        return jax.value_and_grad(loss, has_aux=True)(params)

    ((value, outputs), ours), ((right, expected), theirs) = (
        jax.jit(functools.partial(run, layer=layer))(params) for layer in layers
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), (value, ours), (right, theirs))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), outputs, expected)
    last = nn.Recurrent(cell, reverse, "last").apply(params, state, x)[0]
    np.testing.assert_array_equal(last, jax.tree.leaves(layers[0].apply(params, state, x)[0][1])[0])


@pytest.mark.parametrize("kind", ordinarily({"LSTM", "GRU"}, ["RNN", "LSTM", "GRU"]))
def test_stacked_bidirectional_layers_are_pytorchs(kind, x64):
    torch = pytest.importorskip("torch")
    settings = {"reset_after": True} if kind == "GRU" else {}
    layer = getattr(nn, kind)(4, bias_init=lambda key, shape, dtype: jax.random.normal(key, shape, dtype), **settings)
    model = nn.Stacked(nn.Bidirectional(layer), nn.Bidirectional(layer), output="both")
    x = X.astype("float64")
    params, state = model.init(KEY, x)
    theirs = getattr(torch.nn, kind)(2, 4, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float64)

    def order(w):
        return jnp.concatenate([w[..., 4:8], -w[..., :4], w[..., 8:]], -1) if kind == "GRU" else w

    named = {}
    for index, layer_params in enumerate(params):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            p = layer_params[direction]
            b_h = jnp.zeros_like(p["b"]).at[8:].set(p["b_h"]) if kind == "GRU" else jnp.zeros_like(p["b"])
            named |= {
                f"weight_ih_l{index}{suffix}": order(p["w_x"]).T,
                f"weight_hh_l{index}{suffix}": order(p["w_h"]).T,
                f"bias_ih_l{index}{suffix}": order(p["b"]),
                f"bias_hh_l{index}{suffix}": b_h,
            }
    theirs.load_state_dict({name: torch.tensor(np.asarray(w)) for name, w in named.items()})
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(np.asarray(x)), torch.tensor(np.asarray(LENGTHS)), batch_first=True, enforce_sorted=False
    )
    hs, last = theirs(packed)
    hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, batch_first=True)
    (y, final), _ = model.apply(params, state, nn.Sequence(x, LENGTHS))
    np.testing.assert_allclose(y.values, hs.detach(), rtol=1e-10, atol=1e-12)
    # PyTorch: (layers * directions, batch, H), and for an LSTM a pair of these.
    states = [s for pair in final for s in pair]
    states = tuple(zip(*states, strict=True)) if kind == "LSTM" else (states,)
    for ours, expected in zip(states, last if kind == "LSTM" else (last,), strict=True):
        np.testing.assert_allclose(jnp.stack(ours), expected.detach(), rtol=1e-10, atol=1e-12)


IN_TRAINING = {
    "lstm": nn.LSTM(3, reverse=True),
    "zoneout": nn.Recurrent(nn.Zoneout(nn.LSTMCell(3), (0.5, 0.25))),
    "stacked": nn.Stacked(nn.GRU(3, recurrent_keep_prob=0.5), nn.Bidirectional(nn.RNN(2)), keep_prob=0.5),
}


@pytest.mark.parametrize("name", ordinarily({"zoneout", "stacked"}, IN_TRAINING))
def test_three_gradients_agree_in_training(name, x64):
    model = IN_TRAINING[name]
    x = nn.Sequence(X.astype("float64"), LENGTHS)
    params, state = model.init(KEY, x)
    loss = lambda p: jnp.sum(jnp.sin(model.apply(p, state, x, key=KEY, train=True)[0].values))  # noqa: E731
    ways = jax.grad(dlfn.autodiff(loss)), jax.grad(loss), dlfn.backprop(loss)
    expected, *gradients = jax.jit(lambda params: [way(params) for way in ways])(params)
    for gradient in gradients:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), gradient, expected)


def test_layers_are_serial_and_summarised():
    model = nn.Serial(
        nn.Stacked(nn.LSTM(4), nn.Bidirectional(nn.GRU(3))),
        nn.Recurrent(nn.Zoneout(nn.RNNCell(2)), output="last"),
        nn.Linear(5),
    )
    shape = jax.ShapeDtypeStruct((3, 5, 2), jnp.float32)
    params, state = model.init(KEY, nn.Sequence(shape, jax.ShapeDtypeStruct((3,), jnp.int32)))
    y, _ = jax.jit(model.apply)(params, state, nn.Sequence(X, LENGTHS))
    assert y.shape == (3, 5)
    assert state == ()
    rows = {row.split()[0]: row.split() for row in nn.summary(model, shape).replace(",", "").splitlines()}
    lstm = 4 * 4 * (2 + 4)
    assert [int(n) for n in rows["0/0"][-4:-2]] == [lstm + 16, 15 * (2 * lstm + 9 * 4)]
    assert int(rows["total"][1]) == nn.count_parameters(params)
    assert isinstance(hash(model), int)


def test_zoneout_keeps_entries_in_training_and_averages_else():
    cell = nn.LSTMCell(200)
    zoned = nn.Zoneout(cell, (0.3, 0.6))
    x, carry = X[:, 0], (jnp.full((3, 200), 7.0), jnp.full((3, 200), 9.0))
    params, state = cell.init(KEY, (carry, x))
    (new, _), _ = cell.apply(params, state, (carry, x))
    ((h, c), y), _ = zoned.apply(params, state, (carry, x), key=KEY, train=True)
    for got, old, fresh, rate in zip((h, c), carry, new, (0.3, 0.6), strict=True):
        kept = np.asarray(got == old)
        assert np.asarray(kept | (got == fresh)).all()
        assert kept.mean() == pytest.approx(rate, abs=0.08)
    np.testing.assert_array_equal(y, h)
    ((h, c), _), _ = zoned.apply(params, state, (carry, x))
    np.testing.assert_allclose(h, 0.3 * carry[0] + 0.7 * new[0], rtol=1e-6)
    np.testing.assert_allclose(c, 0.6 * carry[1] + 0.4 * new[1], rtol=1e-6)


def test_recurrent_dropout_has_one_mask_for_the_sequence():
    layer = nn.GRU(4, recurrent_keep_prob=0.5)
    params, state = layer.init(KEY, X)
    dropped = {**params, "w_h": ops.dropout(params["w_h"], KEY, keep_prob=0.5)}
    assert not jnp.array_equal(dropped["w_h"], params["w_h"])
    trained = layer.apply(params, state, X, key=KEY, train=True)[0]
    np.testing.assert_array_equal(trained, layer.apply(dropped, state, X)[0])


def test_initial_biases():
    params, _ = nn.LSTM(2, forget_bias=3.0).init(KEY, X)
    np.testing.assert_array_equal(params["b"], [0, 0, 3, 3, 0, 0, 0, 0])
    assert set(nn.GRU(2, reset_after=True).init(KEY, X)[0]) == {"w_x", "w_h", "b", "b_h"}
    assert set(nn.GRU(2, bias=False).init(KEY, X)[0]) == {"w_x", "w_h"}


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0])
def test_jacobian_norms_are_those_of_the_product(radius, x64):
    """Π diag(σ′(a_j)) W, which vanishes below a radius of 1 and explodes above it where σ does not saturate."""
    x, h, w_x, w_h, b = arguments("rnn", (), 30, 2, 6, "float64", radius)
    cell = nn.RNNCell(6)
    params = {"w_x": 1e-9 * w_x, "w_h": w_h, "b": 0 * b}
    step = lambda carry, x: cell.apply(params, (), (carry, x))[0][0]  # noqa: E731
    small = 1e-12 * h
    norms = jacobian_norms(step, small, x)
    hs, _ = ops.rnn(x, small, params["w_x"], w_h, params["b"])
    product = np.eye(6)
    for k, h in enumerate(np.asarray(hs)[::-1], 1):
        product = product @ np.diag(1 - h**2) @ np.asarray(w_h).T
        assert norms[k] == pytest.approx(np.linalg.norm(product, 2), rel=1e-9)
    assert norms.shape == (31,)
    assert norms[0] == 1
    if radius != 1:
        assert (norms[30] < 1e-6) if radius < 1 else (norms[30] > 100)


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: ops.rnn(X, None, jnp.ones((4, 2)), jnp.ones((4, 4))), ["w_x", "[4, 2]", "[2, 4]", "pass w_x.T"]),
        (lambda: ops.rnn(X, jnp.ones(4), jnp.ones((2, 4)), jnp.ones((4, 4))), ["h0", "[3, 4]", "broadcast_to"]),
        (lambda: ops.rnn(X[0, 0], None, jnp.ones((2, 4)), jnp.ones((4, 4))), ["x", "T, features"]),
        (lambda: ops.rnn(X, None, jnp.ones((2, 4)), jnp.ones((4, 4)), activation="elu"), ["'elu'", "'relu'"]),
        (lambda: ops.rnn(X, None, jnp.ones((2, 4)), jnp.ones((4, 4)), None, jnp.ones(3)), ["lengths", "integers"]),
        (lambda: ops.lstm(X, None, None, jnp.ones((2, 8)), jnp.ones((4, 8))), ["w_h", "(H, 4 H)"]),
        (lambda: ops.lstm_step(X, None, None, jnp.ones((2, 8)), jnp.ones((2, 8)), jnp.ones(2)), ["b is", "[8]"]),
        (lambda: ops.gru(X, None, jnp.ones((2, 6)), jnp.ones((2, 6)), None, jnp.ones(2)), ["b_h", "reset_after"]),
        (lambda: _lengths(jnp.array([5, 9, 0])), ["lengths has the entry 9", "from 0 to 5"]),
        (lambda: _lengths(jnp.array([5, -1, 0])), ["lengths has the entry -1", "from 0 to 5"]),
        (
            lambda: _lengths(jnp.array([6, 0, 0]), nn.Recurrent(nn.Zoneout(nn.RNNCell(2)))),
            ["the entry 6", "from 0 to 5"],
        ),
        (lambda: _lengths(jnp.array([6, 0, 0]), nn.MultiHeadAttention(2)), ["lengths has the entry 6"]),
        (lambda: _lengths([1, 2, 3]), ["lengths is list [", "an array of integers of the shape [3]"]),
        (lambda: _lengths([1, 2, 3], nn.Recurrent(nn.Zoneout(nn.RNNCell(2)))), ["lengths is list ["]),
        (lambda: _lengths(None, initial=jnp.ones((3, 2))), ["initial is float32[3, 2]", "a tuple of 2"]),
        (lambda: _lengths(None, nn.GRU(2), (jnp.ones((3, 2)),)), ["initial is a tuple of 1", "float32[3, 2]"]),
        (
            lambda: _lengths(None, nn.Bidirectional(nn.GRU(2)), jnp.ones((3, 2))),
            ["initial is float32[3, 2]", "a tuple of 2"],
        ),
        (lambda: _lengths(None, nn.Stacked(nn.GRU(2)), jnp.ones((3, 2))), ["initial is float32[3, 2]", "a tuple of 1"]),
        (lambda: nn.Stacked(nn.GRU(2)).apply((), (), X), ["Stacked", "params is a tuple of 0", "a tuple of 1"]),
        (lambda: nn.GRU(2).apply((), (), X), ["GRUCell", "params must be a dict of w_x, w_h"]),
        (lambda: nn.LSTM(4, output="all"), ["'all'", "'last'"]),
        (lambda: nn.Bidirectional(nn.LSTM(4, output="last")), ["Bidirectional", "output='last'"]),
        (lambda: nn.LSTM(4, recurrent_keep_prob=0.0), ["recurrent_keep_prob", "(0, 1]"]),
        (lambda: nn.Zoneout(nn.LSTMCell(4), 1.5), ["rate", "1.5"]),
        (lambda: _train(nn.Recurrent(nn.Zoneout(nn.RNNCell(4)))), ["Zoneout needs a key"]),
        (lambda: _train(nn.GRU(4, recurrent_keep_prob=0.5)), ["GRUCell", "needs a key"]),
        (lambda: _train(nn.Stacked(nn.GRU(4), nn.GRU(4), keep_prob=0.5)), ["Stacked", "needs a key"]),
        (lambda: _train(nn.Recurrent(nn.Zoneout(nn.LSTMCell(4), (0.1,)))), ["rate has 1", "2 arrays"]),
        (lambda: nn.LSTM(4).init(KEY, jnp.ones(3)), ["(..., T, features)", "(3,)"]),
        (nn.Stacked, ["at least one layer"]),
        (lambda: _both(nn.Linear(2)), ["'1'", "Linear", "a tuple of 2", "output='sequence'"]),
        (lambda: _both(nn.LSTM(2)), ["'1'", "Recurrent", "a tuple of 2"]),
        (lambda: _both(nn.Residual(nn.Activation(lambda pair: pair[0]))), ["'1'", "Residual", "a tuple of 2"]),
    ],
)
def test_mistakes_are_named(mistake, parts, refused):
    refused(mistake, parts)


def _lengths(lengths, layer=nn.LSTM(2), initial=None):  # noqa: B008  a frozen dataclass
    layer.apply(*layer.init(KEY, X), nn.Sequence(X, lengths, initial))


def _both(layer):
    nn.Serial(nn.LSTM(2, output="both"), layer).init(KEY, X)


def _train(layer):
    return layer.apply(*layer.init(KEY, X), X, train=True)
