"""Layers, combinators and what they say about mistakes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import dlfn
from dlfn import nn, ops
from dlfn.nn import initializers
from helpers import initialised, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
MODELS = {
    "linear": nn.Linear(3),
    "linear_without_bias": nn.Linear(3, bias=False),
    "flatten": nn.Serial(nn.Flatten(), nn.Linear(2)),
    "positional": nn.Serial(nn.Linear(4), nn.GELU(approximate=True), nn.Dropout(0.5), nn.Linear(2)),
    "named": nn.Serial(hidden=nn.Linear(4), activation=nn.Tanh(), logits=nn.Linear(2)),
    "residual": nn.Serial(nn.Linear(4), nn.Residual(nn.Serial(a=nn.Linear(8), b=nn.ReLU(), c=nn.Linear(4)))),
    "mlp": nn.mlp((4, 4), 2, keep_prob=0.5, residual=True),
    "empty": nn.Serial(),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_init_needs_only_shapes_and_apply_is_pure(model):
    x = jax.random.normal(KEY, (5, 3))
    params, state = model.init(KEY, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((params, state)))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params, model.init(KEY, x)[0]))
    assert isinstance(hash(model), int)
    for train in (False, True):
        apply = functools.partial(model.apply, key=KEY, train=train)
        y, new_state = apply(params, state, x)
        assert new_state == state == ()
        np.testing.assert_allclose(jax.jit(apply)(params, state, x)[0], y, rtol=1e-5, atol=1e-6)


def test_linear_follows_its_equation_over_leading_dimensions():
    x = jax.random.normal(KEY, (2, 5, 3))
    params, state = nn.Linear(4, bias_init=lambda key, shape, dtype: jnp.arange(4, dtype=dtype)).init(KEY, x)
    y, _ = nn.Linear(4).apply(params, state, x)
    np.testing.assert_allclose(y, x @ params["w"] + params["b"], rtol=1e-5)


def test_parameters_take_the_dtype_of_the_example():
    for dtype, expected in ((jnp.bfloat16, jnp.bfloat16), (jnp.float32, jnp.float32), (jnp.uint8, jnp.zeros(()).dtype)):
        params, _ = nn.Linear(2).init(KEY, jax.ShapeDtypeStruct((1, 3), dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(expected)}


def test_residual_adds_its_input():
    x = jax.random.normal(KEY, (5, 4))
    layer = nn.Serial(nn.Linear(4), nn.Tanh())
    params, state = nn.Residual(layer).init(KEY, x)
    y, _ = nn.Residual(layer).apply(params, state, x)
    np.testing.assert_allclose(y, x + layer.apply(params, state, x)[0], rtol=1e-6)


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_activations_by_name_are_the_ops(name):
    x = jnp.linspace(-3, 3, 12).reshape(3, 4)
    layer, tanh_form = nn.Activation(name), name.endswith("_tanh") and name != "hard_tanh"
    op = getattr(dlfn.ops, name.removesuffix("_tanh") if tanh_form else name)
    expected = op(x, approximate=True) if tanh_form else op(x)
    np.testing.assert_array_equal(layer.apply((), (), x)[0], expected)
    assert str(layer) == f"{op.__name__}({'approximate=True' if tanh_form else ''})"


def test_static_settings_reach_the_op():
    x = jnp.linspace(-3, 3, 6).reshape(2, 3)
    np.testing.assert_allclose(nn.Softmax(axis=0).apply((), (), x)[0].sum(0), 1, rtol=1e-6)
    assert not jnp.array_equal(nn.GELU(approximate=True).apply((), (), x)[0], nn.GELU().apply((), (), x)[0])


def test_dropout_acts_in_training_alone_and_layers_draw_differently():
    x = jnp.ones((100, 100))
    model = nn.Serial(nn.Dropout(0.75), nn.Dropout(0.75))
    assert jnp.array_equal(model.apply(((), ()), (), x, key=KEY)[0], x)
    y, _ = model.apply(((), ()), (), x, key=KEY, train=True)
    assert float((y != 0).mean()) == pytest.approx(0.75**2, abs=0.03)
    assert float(y.mean()) == pytest.approx(1, abs=0.03)


def test_outputs_of_layers_are_recorded_by_name():
    params, state = MODELS["named"].init(KEY, jnp.ones((5, 3)))
    loss = lambda params: MODELS["named"].apply(params, state, jnp.ones((5, 3)))[0].sum()  # noqa: E731
    _, deltas = dlfn.backprop(loss, record=True)(params)
    assert deltas["hidden"].shape == (5, 4)
    np.testing.assert_array_equal(deltas["logits"], jnp.ones((5, 2)))


def _swapped(model):
    params, state = model.init(KEY, jnp.ones((2, 4)))
    model.apply(state, params, jnp.ones((2, 4)))


def _apply_without_state(model):
    model.apply(model.init(KEY, jnp.ones((2, 4)))[0], (), jnp.ones((2, 4)))


def _apply(model, x, **kwargs):
    return model.apply(*model.init(KEY, jax.ShapeDtypeStruct((2, 4), jnp.float32)), x, **kwargs)


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (
            lambda: _apply(nn.Serial(a=nn.Serial(nn.Tanh(), nn.Linear(3))), jnp.ones((2, 5))),
            ["'a/1'", "Linear(features=3)", "4 features", "(2, 5)", "call init"],
        ),
        (
            lambda: nn.Serial(nn.Tanh(), drop=nn.Dropout(0.5)),
            ["by position or by name"],
        ),
        (
            lambda: _apply(nn.Serial(a=nn.Residual(nn.Serial(nn.Dropout(0.5)))), jnp.ones((2, 4)), train=True),
            ["'a/0'", "Dropout needs a key", "key=jax.random.key(0), train=True"],
        ),
        (
            lambda: _apply(nn.Serial(nn.Residual(nn.Linear(3))), None),
            ["'0'", "(2, 4)", "(2, 3)", "as many features"],
        ),
        (lambda: nn.Serial(nn.Tanh), ["layer 0 must be a Layer"]),
        (lambda: nn.Serial(a=nn.Flatten), ["layer 'a' must be a Layer", "Flatten()"]),
        (lambda: nn.Dropout(1.5), ["keep_prob", "(0, 1]", "1.5"]),
        (lambda: nn.Activation("gleu"), ["'gleu'", "did you mean 'gelu'?"]),
        (lambda: nn.Linear(3).init(KEY, jnp.float32(1)), ["scalar", "reshape"]),
        (
            lambda: _apply(nn.Linear(3), jnp.ones((2, 2))),
            ["4 features", "(2, 2)", "without the axis of a batch", "x[None]"],
        ),
        (
            lambda: nn.Serial(a=nn.Linear(3)).apply({"a": ()}, (), jnp.ones(3)),
            ["'a'", "params must be a dict of w", "a tuple of 0"],
        ),
        (lambda: nn.Linear(3).apply(None, (), jnp.ones(3)), ["params must be a dict of w", "got None"]),  # pyright: ignore
        (lambda: _swapped(nn.BatchNorm()), ["params must be a dict of scale, bias", "a dict of mean, var"]),
        (
            lambda: _swapped(nn.Serial(nn.Linear(2), nn.BatchNorm())),
            ["'0'", "params must be a dict of w", "a tuple of 0"],
        ),
        (
            lambda: _apply_without_state(nn.Serial(nn.BatchNorm())),
            ["'0'", "state must be a dict of mean, var", "a tuple of 0"],
        ),
        (
            lambda: _apply_without_state(nn.SpectralNorm(nn.Linear(2))),
            ["SpectralNorm", "state must be a dict of layer, u"],
        ),
        (lambda: nn.Serial(nn.Tanh(), nn.Tanh()).apply(((),), (), jnp.ones(3)), ["params must be a tuple of 2"]),
        (lambda: nn.Serial(a=nn.Tanh()).apply({"b": ()}, (), jnp.ones(3)), ["params must be a dict of a"]),
        (lambda: initializers.he_normal(KEY, (3,)), ["(3,)", "fan-in", "zeros"]),
        (lambda: initializers.truncated_normal(KEY, (3,), bound=0.0), ["bound is 0.0", "positive"]),
    ],
)
def test_mistakes_are_named_with_their_place_and_fix(mistake, parts, refused):
    refused(mistake, parts)


@pytest.mark.parametrize("size", [0, -3, 2.5, True, None], ids=str)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("features", nn.Linear),
        ("features", nn.BayesianLinear),
        ("features", lambda n: nn.Conv(n, (3, 3))),
        ("groups", lambda n: nn.Conv(4, (3, 3), groups=n)),
        ("window", lambda n: nn.Conv(4, (3, n))),
        ("strides", lambda n: nn.Conv(4, (3, 3), strides=n)),
        ("dilation", lambda n: nn.DepthwiseConv((3, 3), dilation=n)),
        ("multiplier", lambda n: nn.DepthwiseConv((3, 3), n)),
        ("features", lambda n: nn.ConvTranspose(n, (3, 3))),
        ("window", lambda n: nn.MaxPool((n, 2))),
        ("spatial", nn.GlobalAvgPool),
        ("spatial", nn.GlobalMaxPool),
        ("output_size", lambda n: nn.AdaptiveAvgPool((n, 2))),
        ("output_size", nn.AdaptiveMaxPool),
        ("vocabulary", lambda n: nn.Embedding(n, 4)),
        ("features", lambda n: nn.Embedding(4, n)),
        ("features", nn.RNN),
        ("features", nn.LSTMCell),
        ("features", nn.GRU),
        ("heads", nn.MultiHeadAttention),
        ("heads", nn.TransformerBlock),
        ("length", nn.LearnedPositions),
        ("groups", nn.GroupNorm),
        ("axes", nn.LayerNorm),
        ("n", lambda n: nn.Repeat(nn.Tanh(), n)),
    ],
)
def test_sizes_are_checked_when_a_layer_is_made(name, make, size, refused):
    refused(lambda: make(size), [f"{name} is ", str(size)])


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.RNN(4, activation="gelu"), ["RNNCell", "'gelu'", "'tanh' or 'relu'"]),
        (lambda: nn.TransformerBlock(2, activation="geluu"), ["'geluu'", "'gelu'"]),
        (lambda: nn.TransformerBlock(2, activation="swigul"), ["did you mean 'swiglu'?"]),
        (lambda: nn.FeedForward(4, ["relu"]), ["function is ['relu']"]),  # pyright: ignore
        (lambda: nn.FeedForward(0), ["ratio is 0"]),
        (lambda: nn.GELU(aproximate=True), ["gelu", "'aproximate'", "did you mean 'approximate'?"]),
        (lambda: nn.GEGLU(aproximate=True), ["geglu", "did you mean 'approximate'?"]),
        (lambda: nn.Tanh(axis=1), ["tanh has no setting 'axis'", "it has none"]),
        (lambda: nn.Conv(4, (3, 3), padding="same"), ["Conv: padding is 'same'", "'SAME'"]),
        (lambda: nn.MaxPool(2, padding="same"), ["MaxPool: padding is 'same'"]),
        (lambda: nn.ConvTranspose(4, (3,), groups=3), ["groups=3 must divide features=4"]),
        (lambda: nn.Stacked(nn.Linear(3)), ["Stacked: Linear(features=3)", "a layer over time", "LSTM(64)"]),
        (lambda: nn.Stacked(nn.LSTMCell(3)), ["LSTMCell(features=3)", "Recurrent(cell)"]),
        (lambda: nn.Bidirectional(nn.Linear(3)), ["Bidirectional: Linear(features=3)", "a layer over time"]),
        (lambda: nn.Bidirectional(nn.Stacked(nn.LSTM(3))), ["Bidirectional: Stacked", "backward"]),
        (lambda: nn.Bidirectional(nn.LSTM(3), nn.GRU(3)), ["Bidirectional: backward", "reverse=True"]),
        (lambda: nn.Bidirectional(nn.LSTM(3, reverse=True)), ["Bidirectional: forward", "reverse=False"]),
        (lambda: nn.Linear(8, 4), ["Linear: bias is 4", "True or False"]),  # pyright: ignore
        (lambda: nn.Repeat(nn.Tanh(), 2, checkpoint="none"), ["Repeat: checkpoint is 'none'"]),  # pyright: ignore
        (lambda: nn.RMSNorm(64), ["RMSNorm: eps is 64", "how many features"]),
        (lambda: nn.GroupNorm(2, -1.0), ["GroupNorm: eps is -1.0"]),
        (lambda: nn.Gated("silu"), ["unknown activation 'silu'", "did you mean 'swiglu'?"]),
        (lambda: nn.Gated(3), ["Gated: function is 3", "ops.swiglu"]),  # pyright: ignore
        (lambda: nn.Serial(nn.ReLU), ["layer 0", "got ReLU", "call a class"]),  # pyright: ignore
        (lambda: nn.Recurrent(nn.Linear(3)), ["Recurrent: Linear(features=3)", "LSTMCell(64)"]),  # pyright: ignore
        (lambda: nn.Zoneout(nn.LSTM(3)), ["Zoneout: ", "LSTMCell(64)"]),  # pyright: ignore
    ],
)
def test_settings_are_checked_when_a_layer_is_made(mistake, parts, refused):
    refused(mistake, parts)


def test_a_gated_feed_forward_is_its_formula():
    x = jax.random.normal(jax.random.key(0), (3, 4))
    layer = nn.FeedForward(1.5, "swiglu")
    params, state = layer.init(jax.random.key(1), x)
    up = x @ params["up"]["w"] + params["up"]["b"]
    expected = up[:, :6] * jax.nn.silu(up[:, 6:]) @ params["down"]["w"] + params["down"]["b"]
    y, _ = layer.apply(params, state, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    parts = nn.Serial(nn.Linear(12), nn.SwiGLU(), nn.Linear(4))
    assert layer.flops(x, y) == sum(
        part.flops(jnp.ones((3, n)), jnp.ones((3, m))) for part, n, m in zip(parts.layers, (4, 12, 6), (12, 6, 4))
    )


def test_checks_of_settings_let_pass_what_may():
    """Numbers and flags of NumPy, functions as activations, and dataclasses of users that set fields late."""

    @dataclasses.dataclass(frozen=True)
    class Late(nn.LayerNorm):
        derived: bool = dataclasses.field(init=False)
        optional: bool = None  # pyright: ignore[reportAssignmentType]

        def __post_init__(self):
            super().__post_init__()
            object.__setattr__(self, "derived", True)

    assert Late(eps=float(np.float32(1e-3))).derived
    x = jnp.arange(6.0).reshape(2, 3)
    y, _ = nn.LayerNorm(eps=np.float32(1e-5), scale=np.False_, bias=False).apply((), (), x)  # pyright: ignore
    np.testing.assert_allclose(y, nn.LayerNorm(scale=False, bias=False).apply((), (), x)[0], rtol=1e-6)
    named, given = (nn.FeedForward(2, activation) for activation in ("relu", ops.relu))
    params, state = named.init(jax.random.key(0), x)
    np.testing.assert_array_equal(named.apply(params, state, x)[0], given.apply(params, state, x)[0])


EMPTY = {
    "mlp": (nn.mlp((4,), 2), (0, 5, 3)),
    "attention": (nn.MultiHeadAttention(2, kv_heads=1), (0, 5, 4)),
    "transformer": (nn.TransformerBlock(2, causal=True), (0, 5, 4)),
    "no times": (nn.TransformerBlock(2), (3, 0, 4)),
    "depthwise": (nn.DepthwiseConv((3, 3), multiplier=2), (0, 5, 5, 3)),
    "convolutions": (
        nn.Serial(
            nn.Conv(4, (3, 3), groups=2), nn.MaxPool(2), nn.ConvTranspose(4, (2, 2), groups=2), nn.GlobalMaxPool()
        ),
        (0, 6, 6, 2),
    ),
    "recurrence": (nn.Serial(nn.Embedding(5, 4), nn.Bidirectional(nn.GRU(3)), nn.LayerNorm()), (0, 5)),
}


@pytest.mark.parametrize("name", ordinarily({"transformer", "convolutions", "recurrence"}, EMPTY))
def test_batches_may_be_empty(name):
    model, shape = EMPTY[name]
    x = jnp.zeros(shape, int if len(shape) == 2 else float)
    params, state = initialised(model, x)

    def f(params):
        y, _ = model.apply(params, state, x)
        return y.sum(), y

    losses = [jax.value_and_grad(loss, has_aux=True) for loss in (f, dlfn.autodiff(f))]
    for (_, y), gradient in jax.jit(lambda params: [loss(params) for loss in losses])(params):
        assert y.size == 0
        assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))


def test_what_draws_at_inference_is_initialised_without_a_key():
    model = nn.Serial(nn.BayesianLinear(3, sample_at_inference=True), nn.Linear(2))
    params, _ = model.init(KEY, jnp.ones((1, 4)))
    assert params[1]["w"].shape == (3, 2)


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [
        ((300, 500), 300, 500),
        ((7, 30, 40), 210, 280),
        ((3, 5, 20, 40), 300, 600),
        ((2, 3, 3, 20, 40), 360, 720),
    ],
)
@pytest.mark.parametrize("gain", [1.0, 1.5])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("family", ["xavier", "he", "lecun"])
def test_initialisers_have_the_variance_of_their_formula(family, kind, gain, shape, fan_in, fan_out):
    variance = gain**2 * {"xavier": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}[family]
    w = np.asarray(getattr(initializers, f"{family}_{kind}")(KEY, shape, jnp.float32, gain=gain), np.float64)
    # Five standard errors of the mean and of the variance of a normal sample.
    assert abs(w.mean()) < 5 * np.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 5 * np.sqrt(2 / w.size)
    limit = np.sqrt(3 * variance)
    if kind == "uniform":
        assert 0.99 * limit < np.abs(w).max() <= limit * (1 + 1e-6)
    else:
        assert np.abs(w).max() > limit


@pytest.mark.parametrize("bound", [0.5, 2.0, 4.0])
def test_truncation_leaves_the_deviation(bound):
    w = np.asarray(initializers.truncated_normal(KEY, (200, 500), jnp.float32, std=0.3, bound=bound), np.float64)
    reference = scipy.stats.truncnorm(-bound, bound)
    widened = 0.3 / reference.std()
    assert abs(w.mean()) < 5 * 0.3 / np.sqrt(w.size)
    assert abs(w.var() / 0.09 - 1) < 5 * np.sqrt(2 / w.size)
    assert 0.95 * bound * widened < np.abs(w).max() <= bound * widened * (1 + 1e-6)
    assert scipy.stats.kstest(w.ravel() / widened, reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (30, 30), (3, 3, 4, 20), (5, 2, 30)])
def test_orthogonal_matrices_and_kernels(shape, dtype):
    w = initializers.orthogonal(KEY, shape, dtype, gain=1.5)
    assert (w.shape, w.dtype) == (shape, dtype)
    w = np.asarray(w, np.float64).reshape(-1, shape[-1])
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, 2.25 * np.eye(len(product)), atol=1e-5 if dtype == jnp.float32 else 0.05)


def test_orthogonal_matrices_are_uniformly_distributed():
    """The trace of a uniform orthogonal matrix has mean 0 and variance 1."""
    w = jax.vmap(lambda key: initializers.orthogonal(key, (3, 3)))(jax.random.split(KEY, 4000))
    trace = np.trace(np.asarray(w), axis1=1, axis2=2)
    assert abs(trace.mean()) < 5 / np.sqrt(4000)
    assert abs(trace.var() - 1) < 5 * np.sqrt(2 / 4000)


def test_constant_initialisers():
    for init, value in ((initializers.ones, 1), (initializers.zeros, 0)):
        np.testing.assert_array_equal(init(KEY, (3,), jnp.bfloat16), jnp.full(3, value, jnp.bfloat16))
    filled = functools.partial(initializers.constant, value=0.25)(KEY, (2, 2), jnp.float32)
    np.testing.assert_array_equal(filled, np.full((2, 2), 0.25, np.float32))


def test_summary_counts_exactly_and_adds_up():
    model = MODELS["residual"]
    x = jax.ShapeDtypeStruct((10, 3), jnp.float32)
    rows = [line.split() for line in nn.summary(model, x).replace(",", "").splitlines()[1:]]
    counts = {row[0]: [int(cell) for cell in row[-4:]] for row in rows}
    assert counts["0"][:2] == [3 * 4 + 4, 2 * 3 * 4 * 10]
    assert counts["1/c"][:2] == [8 * 4 + 4, 2 * 8 * 4 * 10]
    assert counts["1"][:2] == [0, 4 * 10], "the addition of a residual connection"
    total = counts.pop("total")
    assert total == [sum(column) for column in zip(*counts.values(), strict=True)]
    assert total[0] == nn.count_parameters(model.init(KEY, x)[0])
