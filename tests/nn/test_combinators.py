"""Parallel, Repeat and Residual: against the same layers put together by hand."""

import dataclasses
import functools
import itertools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn
from dlfn.bench.measurement import residual_bytes
from helpers import initialised, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 4))


@dataclasses.dataclass(frozen=True)
class RunningMean(nn.Layer):
    """Subtracts the running mean of its inputs, as batch normalisation does, and counts its calls in training."""

    def init(self, key, x):
        return {"scale": jax.random.normal(key, x.shape[-1:])}, {"mean": jnp.zeros(x.shape[-1:]), "calls": jnp.int32(0)}

    def apply(self, params, state, x, *, key=None, train=False):
        if train:
            state = {"mean": 0.9 * state["mean"] + 0.1 * x.mean(0), "calls": state["calls"] + 1}
        return (x - state["mean"]) * params["scale"], state


BLOCK = nn.Residual(nn.Serial(norm=RunningMean(), a=nn.Linear(8), act=nn.GELU(), drop=nn.Dropout(0.6), b=nn.Linear(4)))


@pytest.mark.parametrize(
    ("train", "checkpoint", "unroll"),
    [
        pytest.param(*settings, marks=[pytest.mark.exhaustive] * (len({*settings[:2]}) == 2))
        for settings in itertools.product((False, True), repeat=3)
    ],
)
def test_repeat_is_its_blocks_one_after_the_other(train, checkpoint, unroll):
    repeat, serial = nn.Repeat(BLOCK, 3, checkpoint=checkpoint, unroll=unroll), nn.Serial(*[BLOCK] * 3)
    stacked, plain = repeat.init(KEY, X), serial.init(KEY, X)
    stack = lambda *leaves: jnp.stack(leaves)  # noqa: E731
    # The same draws, which XLA may round otherwise in a loop.
    same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(same, stacked, tuple(jax.tree.map(stack, *tree) for tree in plain))

    def loss(model, params, state, x):
        y, state = model.apply(params, state, x, key=KEY, train=train)
        return jnp.sum(jnp.sin(y)), state

    run = jax.jit(jax.value_and_grad(loss, argnums=(1, 3), has_aux=True), static_argnums=0)
    (value, state), (d_params, d_x) = run(repeat, *stacked, X)
    (expected, new), (e_params, e_x) = run(serial, *plain, X)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6)
    jax.tree.map(close, (value, d_x, d_params), (expected, e_x, jax.tree.map(stack, *e_params)))
    jax.tree.map(close, state, jax.tree.map(stack, *new))
    assert state["norm"]["calls"].tolist() == [int(train)] * 3


MODELS = {
    "repeat": nn.Repeat(BLOCK, 3),
    "repeat_checkpoint": nn.Repeat(BLOCK, 2, checkpoint=True),
    "repeat_unrolled": nn.Repeat(BLOCK, 2, unroll=True),
    "repeat_of_repeat": nn.Repeat(nn.Repeat(nn.Residual(nn.Serial(nn.Linear(4), nn.Tanh())), 2), 3),
    "sum": nn.Parallel(nn.Linear(3), nn.Serial(nn.Linear(5), nn.SiLU(), nn.Linear(3)), merge="sum"),
    "concatenate": nn.Parallel(a=nn.Linear(3), b=nn.Repeat(BLOCK, 2), merge="concatenate"),
    "function": nn.Parallel(gate=nn.Serial(nn.Linear(3), nn.Sigmoid()), up=nn.Linear(3), merge=jnp.multiply),
    "projection": nn.Residual(nn.Serial(nn.Linear(6), nn.Tanh(), nn.Linear(3)), nn.Linear(3, bias=False)),
}


# What the others contain.
PARTS = {"repeat", "sum"}


@pytest.mark.parametrize("name", ordinarily(MODELS.keys() - PARTS, MODELS))
def test_three_gradients_agree(name, x64):
    model = MODELS[name]
    x = X.astype(float)
    params, state = initialised(model, x)

    def loss(params, x):
        y, new_state = model.apply(params, state, x, key=KEY, train=True)
        return jnp.sum(jnp.sin(y)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(new_state))

    gradients = jax.grad(loss, (0, 1)), dlfn.backprop(loss, (0, 1)), jax.grad(dlfn.autodiff(loss), (0, 1))
    hand, walked, auto = jax.jit(lambda *args: [gradient(*args) for gradient in gradients])(params, x)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, hand, auto)
    jax.tree.map(close, walked, auto)


@pytest.mark.parametrize("name", ordinarily({"repeat_checkpoint", "function", "projection"}, MODELS))
def test_init_needs_only_shapes_and_children_can_be_exchanged(name):
    model = MODELS[name]
    shapes = jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct(X.shape, X.dtype))
    values = model.init(KEY, X)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), shapes) == jax.tree.map(lambda a: (a.shape, a.dtype), values)
    assert model.with_children(model.children()) == model
    assert hash(model) == hash(model.with_children(model.children()))
    state = jax.eval_shape(lambda: model.apply(*values, X, key=KEY, train=True)[1])
    assert jax.tree.structure(state) == jax.tree.structure(values[1])
    batched = jax.jit(jax.vmap(lambda x: model.apply(*values, x)[0]))(X[:, None])[:, 0]
    np.testing.assert_allclose(batched, jax.jit(model.apply)(*values, X)[0], rtol=1e-4, atol=1e-6)


def test_parallel_gives_its_layers_one_input_or_one_each():
    double, negate = nn.Activation(_double), nn.Activation(jnp.negative)
    apply = lambda model, x: model.apply(*model.init(KEY, x), x)[0]  # noqa: E731
    assert [y.tolist() for y in apply(nn.Parallel(double, negate), jnp.ones(2))] == [[2, 2], [-1, -1]]
    assert apply(nn.Parallel(a=double, b=negate), jnp.float32(1)) == {"a": 2, "b": -1}
    split = nn.Parallel(a=double, b=negate, merge="sum", split=True)
    assert apply(split, {"a": jnp.float32(1), "b": jnp.float32(10)}) == -8
    pair = nn.Parallel(double, negate, merge="concatenate", split=True)
    assert apply(pair, (jnp.ones((2, 1)), jnp.ones((2, 2)))).tolist() == [[2, -1, -1]] * 2
    assert nn.Parallel(double, negate, merge="sum").init(KEY, X) == (((), ()), ())


def _double(x):
    return 2 * x


def test_names_inside_repeat_are_recorded_for_every_block():
    model = nn.Serial(blocks=nn.Repeat(nn.Residual(nn.Serial(a=nn.Linear(4), act=nn.Tanh())), 3), out=nn.Linear(2))
    params, state = model.init(KEY, X)
    loss = lambda params: jnp.sum(model.apply(params, state, X)[0] ** 2)  # noqa: E731
    _, deltas = dlfn.backprop(loss, record=True)(params)
    assert deltas["a"].shape == deltas["act"].shape == (3, *X.shape)
    assert deltas["blocks"].shape == X.shape
    np.testing.assert_allclose(deltas["act"][-1], deltas["blocks"], rtol=1e-5)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_program_does_not_grow_with_the_number_of_blocks(checkpoint):
    def lines(n):
        model = nn.Repeat(BLOCK, n, checkpoint=checkpoint)
        params, state = jax.eval_shape(model.init, KEY, X)
        loss = lambda params, state: jnp.sum(model.apply(params, state, X, key=KEY, train=True)[0])  # noqa: E731
        return len(jax.jit(jax.grad(loss)).lower(params, state).as_text().splitlines())

    assert lines(4) == lines(64)


@pytest.mark.exhaustive  # times depend on what else the machine does
def test_64_blocks_compile_in_the_time_of_4():
    jax.config.update("jax_disable_most_optimizations", False)  # as users compile; the fixture restores it
    x = jax.ShapeDtypeStruct((8, 256, 256), jnp.float32)

    def seconds(n):
        model = nn.Repeat(nn.TransformerBlock(8), n)
        params, state = jax.eval_shape(model.init, KEY, x)
        loss = lambda params, x: jnp.sum(model.apply(params, state, x)[0] ** 2)  # noqa: E731
        lowered = jax.jit(jax.grad(loss)).lower(params, x)
        start = time.perf_counter()
        lowered.compile()
        return time.perf_counter() - start

    seconds(2)
    assert statistics.median(seconds(64) / seconds(4) for _ in range(5)) < 1.5


def test_blocks_save_their_activations_and_no_copy_of_the_weights():
    n, block = 6, nn.Residual(nn.Serial(a=nn.Linear(8, bias=False), act=nn.Tanh(), b=nn.Linear(4, bias=False)))

    def saved(checkpoint):
        model = nn.Repeat(block, n, checkpoint=checkpoint)
        params, _ = model.init(KEY, X)
        weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        return residual_bytes(lambda params, x: model.apply(params, (), x)[0], (params, X)) - weights

    x, hidden = X.nbytes, 2 * X.nbytes
    assert saved(False) == n * (x + hidden + hidden)  # inputs of a, act and b
    assert saved(True) <= n * (x + 4)  # inputs of the blocks, and their numbers


def test_repetitions_and_branches_are_counted():
    model = nn.Serial(
        deep=nn.Repeat(nn.Residual(nn.Repeat(nn.Linear(4), 2)), 3),
        wide=nn.Parallel(nn.Linear(4), nn.Tanh(), merge="sum"),
    )
    rows = {}
    for line in nn.summary(model, jax.ShapeDtypeStruct((10, 4), jnp.float32)).replace(",", "").splitlines()[1:]:
        rows.setdefault(line.split()[0], []).append((line, [int(cell) for cell in line.split()[-4:]]))
    (linear, counts), (residual, additions) = rows["deep"]
    assert "6 × Linear" in linear
    assert "3 × Residual" in residual
    assert counts == [6 * 20, 6 * 2 * 4 * 40, 6 * 20 * 4, 6 * 40 * 4]
    assert additions == [0, 3 * 40, 0, 3 * 40 * 4]
    assert rows["wide"][0][1][:2] == [0, 40]
    assert rows["wide/0"][0][1][:2] == [20, 2 * 4 * 40]
    params, _ = model.init(KEY, X)
    assert rows["total"][0][1][0] == nn.count_parameters(params) == 7 * 20


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.Repeat(nn.Tanh(), 0), ["Repeat", "n is 0", "positive integer"]),
        (lambda: nn.Repeat(nn.Linear(3), 2).init(KEY, X), ["float32[5, 4]", "float32[5, 3]", "end it with"]),
        (
            lambda: nn.Serial(a=nn.Repeat(nn.Serial(x=nn.Dropout(0.5)), 2)).apply({"a": {"x": ()}}, (), X, train=True),
            ["'a/x'", "Dropout needs a key"],
        ),
        (
            lambda: nn.Repeat(nn.Linear(4), 3).apply(*nn.Repeat(nn.Linear(4), 2).init(KEY, X), X),
            ["params['b']", "(2, 4)", "3 blocks"],
        ),
        (
            lambda: nn.Repeat(nn.Linear(4), 2).apply(*nn.Repeat(nn.Linear(4), 2).init(KEY, X), X.astype(jnp.bfloat16)),
            ["bfloat16[5, 4]", "float32[5, 4]", "dtype of its input"],
        ),
        (lambda: nn.Parallel(nn.Tanh(), merge="add"), ["'sum', 'concatenate', 'tuple'", "'add'"]),
        (lambda: nn.Parallel(merge="sum"), ["no layers", "merge='sum'"]),
        (
            lambda: nn.Parallel(nn.Tanh(), nn.Tanh(), split=True).init(KEY, (X,)),
            ["the input", "a tuple of 2", "got a tuple of 1"],
        ),
        (lambda: nn.Parallel(nn.Tanh(), nn.Tanh(), split=True).init(KEY, X), ["a tuple of 2", "got float32[5, 4]"]),
        (
            lambda: _apply(nn.Parallel(a=nn.Linear(3), b=nn.Linear(2), merge="sum")),
            ["merge='sum'", "'a' float32[5, 3], 'b' float32[5, 2]", "end the layers alike"],
        ),
        (
            lambda: _apply(nn.Parallel(nn.Linear(3), nn.Activation(jnp.sum), merge="concatenate")),
            ["merge='concatenate'", "'1' float32[]"],
        ),
        (lambda: nn.Serial(a=nn.Residual(nn.Linear(7), nn.Linear(5))).init(KEY, X), ["'a'", "float32[5, 7]", "[5, 5]"]),
        (lambda: nn.Residual(nn.Linear(3)).init(KEY, X), ["(5, 4)", "(5, 3)"]),
        (lambda: _apply(nn.Residual(nn.Linear(3))), ["(5, 4)", "(5, 3)", "Residual(layer, Linear(3, bias=False))"]),
        (
            lambda: _apply(nn.Residual(nn.Linear(3), nn.Linear(2))),
            ["'layer' float32[5, 3]", "'projection' float32[5, 2]"],
        ),
    ],
)
def test_mistakes_are_named_with_their_place_and_fix(mistake, parts, refused):
    refused(mistake, parts)


def _apply(model):
    return model.apply(*model.init(KEY, X), X)[0]
