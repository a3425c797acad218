"""What must not matter does not, whatever it holds: rows of an ignored label, masked keys, steps past a length.

The registry's cases declare what their arguments leave out (``Case.ignored``). It is filled with nan, with infinities
and with huge numbers, and values and gradients must be those of zeros there, to the bit, and the gradients in it 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops
from dlfn.registry.all import entries
from dlfn.registry.cases.transformer.attention import unseen
from dlfn.registry.entry import Case, absent, normal
from helpers import initialised

FLOATS = (np.nan, np.inf, -np.inf, 1e38)
INTEGERS = (-1, 10**6, 2**31 - 1, -(2**31))

# What an op is told to leave out by.
SAYS_WHAT_COUNTS = ("mask", "lengths", "ignore")

quick = pytest.mark.usefixtures("quick_compilation")


# Rows of labels; steps. Keys that no query sees are a test of their own.
FEW = {"softmax_cross_entropy", "rnn"}


def _pairs(few=False):
    for entry in entries():
        cases = [case for case in entry.cases if case.ignored]
        for case in cases:
            marks = () if case is cases[0] and (not few or entry.op.name in FEW) else pytest.mark.exhaustive
            yield pytest.param(entry, case, id=f"{entry.op.name}-{case.name}", marks=marks)


every_op = pytest.mark.parametrize(("entry", "case"), list(_pairs()))
few_ops = pytest.mark.parametrize(("entry", "case"), list(_pairs(few=True)))


def is_float(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


def filled(args, masks, number):
    """The arguments with the n-th of the fills where they are masked; with zeros for n = -1."""

    def one(a, mask):
        if mask is None:
            return a
        value = 0 if number < 0 else FLOATS[number] if is_float(a) else INTEGERS[number]
        return jnp.where(mask, jnp.asarray(value, a.dtype), a)

    return [one(a, mask) for a, mask in zip(args, masks, strict=True)]


class Sweep:
    """An op as a function of its floating-point arguments ``point``, for a case."""

    def __init__(self, entry, case, dtype):
        self.op, self.static = entry.op, case.static
        self.args = case.make((3,), dtype)
        self.masks, self.out_masks = case.ignored(*self.args, **case.static)
        self.moving = [i for i, a in enumerate(self.args) if is_float(a)]

    def of(self, *args):
        y = self.op(*args, **self.static)
        return y if isinstance(y, tuple) else (y,)

    def cotangents(self, seed=0, number=-1):
        """Random; where the outputs are ignored, the n-th of the fills."""
        rng = np.random.default_rng(seed)
        ys = jax.eval_shape(self.of, *self.args)
        return tuple(filled([jnp.asarray(rng.normal(size=y.shape), y.dtype) for y in ys], self.out_masks, number))

    def split(self, args):
        """The op as a function of the point, and the point."""

        def of_point(*point):
            full = list(args)
            for i, value in zip(self.moving, point, strict=True):
                full[i] = value
            return self.of(*full)

        return of_point, [args[i] for i in self.moving]

    def first_order(self, args, cotangents):
        f, point = self.split(args)
        y, back = jax.vjp(f, *point)
        return y, back(cotangents), dlfn.backprop_vjp(f, *point)[1](cotangents)

    def second_order(self, args, cotangents, tangents):
        """Hessian-vector products of the projected op, forward over reverse and reverse over reverse."""
        f, point = self.split(args)

        def gradient(*point):
            return jax.vjp(f, *point)[1](cotangents)

        _, forward = jax.jvp(gradient, tuple(point), tuple(tangents))
        return forward, jax.vjp(gradient, *point)[1](tuple(tangents))

    def require_same(self, found, expected):
        for got, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(got, right)
            assert np.isfinite(np.asarray(right, np.float64)).all()

    def require_zeros(self, gradients):
        for i, gradient in zip(self.moving, gradients, strict=True):
            if self.masks[i] is not None:
                assert not np.asarray(jnp.where(self.masks[i], gradient, 0)).any()


def test_every_op_that_is_told_what_counts_declares_it():
    for entry in entries():
        told = [name for name in entry.op.signature.parameters if any(word in name for word in SAYS_WHAT_COUNTS)]
        declared = [case for case in entry.cases if case.ignored]
        assert bool(declared) >= bool(told), f"{entry.op.name} has {told}, and no case says what they leave out"
        for case in declared:
            args = case.make((3,), "float32")
            assert any(mask is not None and mask.any() for mask in case.ignored(*args, **case.static)[0])


@quick
@every_op
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.exhaustive)])
def test_what_is_ignored_does_not_matter(entry, case, dtype):
    """In values and gradients, by hand rule and by backprop; nor do cotangents of what is ignored of the outputs."""
    sweep = Sweep(entry, case, dtype)
    run = jax.jit(sweep.first_order)
    expected = run(filled(sweep.args, sweep.masks, -1), sweep.cotangents())
    for number in range(len(FLOATS)):
        found = run(filled(sweep.args, sweep.masks, number), sweep.cotangents(number=number))
        sweep.require_same(found, expected)
        for gradients in found[1:]:
            sweep.require_zeros(gradients)


@quick
@few_ops
def test_what_is_ignored_does_not_matter_to_second_derivatives(entry, case):
    sweep = Sweep(entry, case, "float32")
    rng = np.random.default_rng(1)
    tangents = [jnp.asarray(rng.normal(size=sweep.args[i].shape), jnp.float32) for i in sweep.moving]
    run = jax.jit(sweep.second_order)
    expected = run(filled(sweep.args, sweep.masks, -1), sweep.cotangents(), tangents)
    for number in range(len(FLOATS)):
        found = run(filled(sweep.args, sweep.masks, number), sweep.cotangents(number=number), tangents)
        sweep.require_same(found, expected)
        for products in found:
            sweep.require_zeros(products)


BATCHED = [pair for pair in _pairs(few=True) if pair.values[0].op.name == "softmax_cross_entropy" and not pair.marks]


@quick
@pytest.mark.parametrize(("entry", "case"), BATCHED)
def test_what_is_ignored_does_not_matter_under_vmap(entry, case):
    """All fills as one batch."""
    sweep = Sweep(entry, case, "float32")
    numbers = range(-1, len(FLOATS))
    stacked = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
        for made in (
            [tuple(filled(sweep.args, sweep.masks, number)) for number in numbers],
            [sweep.cotangents(number=number) for number in numbers],
        )
    )
    found = jax.jit(jax.vmap(sweep.first_order))(*stacked)
    for number in range(len(FLOATS)):
        sweep.require_same(*(jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in (number + 1, 0)))


@quick
@pytest.mark.parametrize(
    ("queries", "static", "mask"),
    [
        (3, {}, [[True, True], [False, False], [False, True]]),
        pytest.param(3, {"block": 2}, [[False, False], [False, False], [True, False]], marks=pytest.mark.exhaustive),
        pytest.param(4, {"causal": True}, None, marks=pytest.mark.exhaustive),
        (3, {"causal": True}, [[True, True]]),
    ],
)
def test_queries_that_see_no_key_do_not_matter(queries, static, mask):
    """No case of the registry: the textbook's softmax of no keys is nan."""
    case = Case(
        lambda lead: (
            normal(*lead, queries, 1, 2), normal(*lead, 2, 1, 2), normal(*lead, 2, 1, 2), absent,
            lambda _: None if mask is None else np.asarray(mask),
        ),
        static, ignored=unseen,
    )  # fmt: skip
    (entry,) = entries(["attention"])
    assert case.ignored(*case.make((3,), "float32"), **static)[1][0].any()
    test_what_is_ignored_does_not_matter(entry, case, "float32")
    test_what_is_ignored_does_not_matter_to_second_derivatives(entry, case)


@quick
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "ctc_loss"])
def test_lengths_of_narrow_integers(name):
    """The number of steps need not be one of their dtype."""
    x, ids = jnp.asarray(np.random.default_rng(0).normal(size=(1, 200, 2))), jnp.array([[1, 1]])
    weights = [jnp.eye(2, 2 * {"lstm": 4, "gru": 3}.get(name, 1)) for _ in range(2)]
    states = [None] * (2 if name == "lstm" else 1)

    def of(dtype):
        length = jnp.array([100], dtype)
        if name == "ctc_loss":
            return ops.ctc_loss(x, length, ids, jnp.array([2], dtype))
        bias = [None] * (2 if name == "gru" else 1)
        return getattr(ops, name)(x, *states, *weights, *bias, length)

    for found, expected in zip(*(jax.tree.leaves(of(dtype)) for dtype in ("int8", "int32")), strict=True):
        np.testing.assert_array_equal(found, expected)


# Layers. A Sequence of several lengths goes in, one of them 0.

X = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
IDS = np.random.default_rng(0).integers(0, 7, size=(3, 4)).astype(np.int32)
LENGTHS = jnp.array([4, 0, 2])
PAST = jnp.arange(4) >= LENGTHS[:, None]

# Of floats, or of ids where an Embedding comes first.
LAYERS = {
    "embedding": nn.Serial(nn.Embedding(7, 4), nn.LearnedPositions(4), nn.Linear(3)),
    "normalisations": nn.Serial(nn.LayerNorm(), nn.Linear(4), nn.RMSNorm(), nn.PReLU(), nn.SinusoidalPositions()),
    "gated": nn.Serial(nn.GLU(), nn.Linear(4), nn.GEGLU(), nn.Linear(4), nn.SwiGLU(), nn.Gated(lambda v, g: v * g)),
    "weights": nn.Serial(nn.DropConnect(nn.Linear(4), 0.5), nn.WeightNorm(nn.Linear(4)), nn.SpectralNorm(nn.Linear(3))),
    "bayesian": nn.Serial(nn.BayesianLinear(4), nn.Dropout(0.5), nn.Linear(3)),
    "a slope of inf at 0": nn.Serial(nn.Linear(4), nn.Activation(lambda x: jnp.sqrt(jnp.abs(x))), nn.Linear(3)),
    "logarithm": nn.Serial(nn.Linear(4), nn.Activation(lambda x: jnp.log(jnp.abs(x)))),
    "merged": nn.Serial(nn.Parallel(nn.Linear(4), nn.Serial(), merge=jnp.multiply),
                        nn.Residual(nn.Linear(4)), nn.Residual(nn.Checkpointed(nn.FeedForward(2)), nn.Linear(4))),
    "attention": nn.Serial(nn.MultiHeadAttention(2), nn.Linear(3)),
    "transformer": nn.Serial(nn.Embedding(7, 4), nn.Repeat(nn.TransformerBlock(2, causal=True, keep_prob=0.5), 2)),
    "rnn": nn.Serial(nn.RNN(4), nn.RNN(3, reverse=True, output="last")),
    "stacked": nn.Serial(nn.Embedding(7, 4), nn.Stacked(nn.LSTM(4), nn.Bidirectional(nn.GRU(2)), keep_prob=0.5)),
    "a step in front": nn.Serial(nn.ClassToken(), nn.Linear(4), nn.TakeStep(-1)),
    "tied": nn.Tied(nn.Serial(first=nn.Linear(4), second=nn.Linear(4)), {"second": "first"}),
    "step by step": nn.Recurrent(nn.Zoneout(nn.GRUCell(3))),
    "projected": nn.Recurrent(nn.ProjectedLSTMCell(3, projection=2)),
}  # fmt: skip


# Those that pass padding on, and one of each kind of layer that reads over the steps.
QUICK = {"normalisations", "gated", "weights", "a slope of inf at 0", "logarithm", "attention", "rnn"}


def _classes(layer):
    yield type(layer)
    for child in layer.children().values():
        yield from _classes(child)
    if isinstance(layer, nn.Recurrent):
        yield type(layer.cell)


def test_every_layer_that_takes_a_sequence_is_swept():
    layers = {c for name in nn.__all__ if isinstance(c := getattr(nn, name), type) and issubclass(c, nn.Layer)}
    swept = {c for layer in LAYERS.values() for c in _classes(layer)}
    left = {c.__name__ for c in layers if c.takes != "array" and c not in swept}
    assert left == {"Layer", "Cell"}


def _run(model, params, state, key):
    """Outputs and gradients in params and values, in training."""

    def run(values, cotangent):
        def of(params, values):
            y, _ = model.apply(params, state, nn.Sequence(values, LENGTHS), key=key, train=True)
            return y.values if isinstance(y, nn.Sequence) else y

        if jnp.issubdtype(values.dtype, jnp.integer):
            y, back = jax.vjp(lambda params: of(params, values), params)
            return y, back(cotangent)[0], None
        y, back = jax.vjp(of, params, values)
        return y, *back(cotangent)

    return run


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive) for name in LAYERS]
)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.exhaustive)])
def test_what_is_past_the_lengths_does_not_matter_to_a_layer(name, dtype):
    model, key = LAYERS[name], jax.random.key(0)
    values = jnp.asarray(IDS) if "Embedding" in str(model) else jnp.asarray(X, dtype)
    params, state = initialised(model, nn.Sequence(values, LENGTHS))
    run = jax.jit(_run(model, params, state, key))
    y = jax.eval_shape(lambda: model.apply(params, state, nn.Sequence(values, LENGTHS), key=key, train=True)[0])
    shape = nn.sequence.values_of(y).shape
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=shape), nn.sequence.values_of(y).dtype)
    results = []
    for number in range(-1, len(FLOATS)):
        past = PAST.reshape(3, 4, *[1] * (values.ndim - 2))
        (given,) = filled([values], [past], number)
        (arriving,) = filled([cotangent], [PAST[..., None] if len(shape) == 3 else None], number)
        results.append(run(given, arriving))
        if results[0][2] is not None:
            assert not jnp.where(past, results[-1][2], 0).any()
    for result in results[1:]:
        for found, expected in zip(*map(jax.tree.leaves, (result, results[0])), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert np.isfinite(np.asarray(expected, np.float64)).all()


def test_what_no_query_sees_of_a_context_does_not_matter():
    """Under a mask of the caller's: keys 1 and 3, and of a causal layer key 3 alone, which is past every query."""
    for causal, seen in ((False, [1, 0, 1, 0]), (True, [1, 0, 1, 1])):
        layer, key = nn.MultiHeadAttention(2, causal=causal), jax.random.key(0)
        mask = jnp.broadcast_to(jnp.array(seen, bool), (4, 4))
        mask = mask.at[3, 3].set(False) if causal else mask
        params, state = layer.init(key, (jnp.asarray(X), jnp.asarray(X), mask))

        @jax.jit
        def run(context, layer=layer, params=params, state=state, mask=mask):
            def loss(params, context):
                return jnp.sum(jnp.sin(layer.apply(params, state, (jnp.asarray(X), context, mask))[0]))

            return jax.value_and_grad(loss, (0, 1))(params, context)

        hidden = jnp.array([False, True, False, True])[:, None]
        expected, *others = (run(filled([jnp.asarray(X)], [hidden], n)[0]) for n in range(-1, len(FLOATS)))
        for found in others:
            jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_lengths_of_another_shape_are_refused(refused):
    x = nn.Sequence(jnp.asarray(X), jnp.array([4, 0]))
    refused(lambda: nn.Linear(2).apply({"w": jnp.ones((4, 2))}, (), x), ["lengths is int32[2]", "float32[3, 4, 4]"])
