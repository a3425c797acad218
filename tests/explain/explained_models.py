"""Functions to explain: every packaged configuration, made small, models of other libraries, and plain functions."""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from dlfn import nn, ops
from dlfn.train import load_config
from dlfn.train.parts import make_model, make_task
from dlfn.train.step import Learner


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


def _double(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


# Packaged configurations


def configuration(name, overrides, batch, **info):
    """The loss of a configuration's model and task on a batch, as in training."""

    def make():
        config = load_config(name, overrides)
        model, given = make_model(config, info), batch()
        learner = Learner(model, make_task(config), optax.sgd(1.0))
        params, state = _double(model.init(jax.random.key(0), learner.task.inputs(given)))
        key = jax.random.key(1)
        return (lambda params: learner.loss(params, state, given, key)[0]), (params,)

    return make


def labelled(*shape):
    return lambda: (normal(3, 2, *shape), jnp.array([3, 1]))


def tokens(length):
    return lambda: jax.random.randint(jax.random.key(4), (2, length), 0, 7)


CONFIGURATIONS = {
    "digits_mlp": configuration("digits_mlp", [], labelled(8, 8), outputs=10),
    "digits_vae": configuration("digits_vae", [], lambda: jax.nn.sigmoid(normal(3, 2, 8, 8)), inputs=64),
    "diabetes_regression": configuration(
        "diabetes_regression", [], lambda: (normal(3, 2, 10), normal(5, 2)), outputs=1
    ),
    "fashion_cnn": configuration("fashion_cnn", ["model.channels=[2,3]", "model.hidden=4"], labelled(8, 8), outputs=10),
    "fashion_vit": configuration(
        "fashion_vit", ["model.width=4", "model.layers=2", "model.heads=2", "model.patch=4"], labelled(8, 8), outputs=10
    ),
    "text_gpt": configuration(
        "text_gpt", ["model.width=4", "model.layers=2", "model.heads=2"], tokens(6), vocabulary=7
    ),
    "text_lstm": configuration("text_lstm", ["model.width=3"], tokens(6), vocabulary=7),
}


# Layers of dlfn


def layer(make_layer, *shape):
    def make():
        model, x = make_layer(), normal(3, *shape)
        params, state = _double(model.init(jax.random.key(0), x))

        def loss(params, x):
            return jnp.sum(jnp.sin(model.apply(params, state, x, key=jax.random.key(2), train=True)[0]))

        return loss, (params, x)

    return make


LAYERS = {
    "repeated blocks": layer(
        lambda: nn.Repeat(nn.Residual(nn.Serial(nn.LayerNorm(), nn.Linear(3), nn.GELU())), 3), 2, 3
    ),
    "transformer": layer(lambda: nn.TransformerBlock(2, head_dim=2, causal=True), 1, 3, 4),
    "batch norm": layer(lambda: nn.Serial(nn.Conv(2, (2, 2)), nn.BatchNorm(), nn.ReLU(), nn.MaxPool(2)), 2, 5, 5, 1),
    "checkpointed": layer(lambda: nn.Checkpointed(nn.Serial(nn.Linear(3), nn.Tanh(), nn.Dropout(0.5))), 2, 3),
    "bidirectional": layer(lambda: nn.Bidirectional(nn.GRU(2)), 1, 4, 2),
    "zoneout": layer(lambda: nn.Recurrent(nn.Zoneout(nn.LSTMCell(2))), 1, 4, 2),
}


# Plain functions


def chain(w, b, x, y):
    """Of document 000, section 5."""
    h = w * x + b
    yhat = h**2
    return (yhat - y) ** 2


def three_layers(params, x, y):
    """Of document 001, section 7."""
    a = x
    for w, b in params:
        z = a @ w + b
        a = jax.nn.sigmoid(z)
    return jnp.sum((a - y) ** 2) / 2


def lstm(params, xs):
    """By hand, in plain jax.numpy."""
    w, u, b = params

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ w + h @ u + b, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    _, hs = lax.scan(step, (jnp.zeros(2, xs.dtype), jnp.zeros(2, xs.dtype)), xs)
    return jnp.sum(hs**2)


def branches(x, flag):
    y = lax.cond(flag > 0, lambda x: jnp.sin(x) * x, lambda x: x**3, x)
    return jnp.sum(lax.switch(2, [jnp.cos, jnp.exp, jnp.tanh], y))


def branch_in_loop(x):
    def step(carry, t):
        carry = lax.cond(t % 2 == 0, lambda c: jnp.sin(c) * x, lambda c: c * c, carry)
        return carry, carry * t

    last, ys = lax.scan(step, x, jnp.arange(5))
    return jnp.sum(last) + jnp.sum(jnp.exp(-(ys**2)))


def loops_in_loops(x):
    def outer(carry, row):
        inner, squares = lax.scan(lambda c, v: (c * 0.5 + jnp.sin(v), c * v), carry, row, reverse=True)
        return inner, squares

    last, all_squares = lax.scan(outer, jnp.zeros((), x.dtype), x)
    return last + jnp.sum(all_squares**2)


@jax.custom_vjp
def clipped(x, low):
    r"""A step, :math:`\max(x, l)`.

    Its rule lets every cotangent through, :math:`\bar x = \bar y`.
    """
    return jnp.maximum(x, low)


clipped.defvjp(lambda x, low: (clipped(x, low), None), lambda _, dy: (dy, jnp.zeros((), dy.dtype)))


@jax.custom_jvp
def softened(x):
    return jnp.log1p(jnp.exp(x))


softened.defjvp(lambda primals, tangents: (softened(*primals), tangents[0] * jax.nn.sigmoid(*primals)))


def with_rules(x, w):
    h = checkpoint_name(clipped(x * w, 0.1), "hidden")
    return jnp.sum(softened(h) * jax.nn.logsumexp(h))


@jax.jit
def nested_calls(x, w):
    @jax.jit
    def block(x):
        return jnp.where(x > 0, x, 0.1 * x) @ w

    return jnp.linalg.norm(jax.checkpoint(block)(block(x)))


def indexing(table, x):
    rows = table[jnp.array([0, 2, 2])]
    padded = jnp.pad(rows, ((1, 0), (0, 0))).at[0].set(x)
    ordered = jnp.sort(jnp.concatenate([padded, padded[::-1]]), axis=0)
    return jnp.sum(jnp.cumsum(ordered, 0) ** 2) + jnp.max(jnp.prod(padded, 1))


def matrices(a):
    spd = a @ a.T + 3 * jnp.eye(3, dtype=a.dtype)
    return jnp.linalg.slogdet(spd)[1] + jnp.sum(jnp.linalg.cholesky(spd)) + jnp.sum(jnp.linalg.solve(spd, a))


def special(x):
    return jnp.sum(jax.scipy.special.erf(x) + jax.scipy.special.gammaln(1 + x**2) + jnp.arctan2(x, 2.0) + x**2.5)


def convolution(x, k):
    y = lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.sum(lax.reduce_window(jax.nn.relu(y), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID"))


def writes(x):
    total = jax.new_ref(jnp.zeros_like(x))
    for _ in range(2):
        total[...] = total[...] + jnp.sin(x * total[...] + x)
    return jnp.sum(total[...])


def attention(q, k, v):
    scores = jnp.einsum("qd,kd->qk", q, k) / jnp.sqrt(2.0)
    return jnp.sum(jax.nn.softmax(jnp.where(jnp.tri(3, dtype=bool), scores, -jnp.inf)) @ v)


def fourier(x):
    return jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2)


def ops_alone(x, w, labels):
    return jnp.mean(ops.softmax_cross_entropy(ops.layer_norm(ops.gelu(x) @ w, jnp.ones(3), jnp.zeros(3)), labels))


PLAIN = {
    "chain": lambda: (chain, (2.0, 1.0, 1.0, 4.0)),
    "three layers": lambda: (
        three_layers,
        ([(normal(i, 3, 3), normal(i + 9, 3)) for i in range(3)], normal(5, 2, 3), 0.5),
    ),
    "lstm of 50 steps": lambda: (lstm, ((normal(1, 3, 8), normal(2, 2, 8), normal(3, 8)), normal(4, 50, 3))),
    "branches": lambda: (branches, (normal(1, 3), 1)),
    "branch in a loop": lambda: (branch_in_loop, (normal(1, 2),)),
    "loops in loops": lambda: (loops_in_loops, (normal(1, 2, 3),)),
    "custom rules": lambda: (with_rules, (normal(1, 3), normal(2, 3))),
    "nested calls": lambda: (nested_calls, (normal(1, 2, 3), normal(2, 3, 3))),
    "indexing": lambda: (indexing, (normal(1, 3, 2), normal(2, 2))),
    "matrices": lambda: (matrices, (normal(1, 3, 3),)),
    "special": lambda: (special, (jnp.abs(normal(1, 4)),)),
    "convolution": lambda: (convolution, (normal(1, 1, 6, 6, 2), normal(2, 3, 3, 2, 2))),
    "references": lambda: (writes, (normal(1, 3),)),
    "attention": lambda: (attention, (normal(1, 3, 2), normal(2, 3, 2), normal(3, 3, 2))),
    "fourier": lambda: (fourier, (normal(1, 6),)),
    "ops": lambda: (ops_alone, (normal(1, 2, 4), normal(2, 4, 3), jnp.array([0, 2]))),
}


# Models of Flax and Equinox


def flax_mlp():
    from flax import linen

    class MLP(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.LayerNorm()(linen.relu(linen.Dense(4)(x)))
            return linen.Dense(2)(x)

    return _flax(MLP(), normal(1, 2, 3))


def flax_cnn():
    from flax import linen

    class CNN(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.avg_pool(linen.gelu(linen.Conv(2, (3, 3))(x)), (2, 2), (2, 2))
            return linen.Dense(2)(x.reshape(x.shape[0], -1))

    return _flax(CNN(), normal(1, 1, 4, 4, 1))


def flax_attention():
    from flax import linen

    return _flax(linen.MultiHeadDotProductAttention(2, param_dtype=jnp.float64, dtype=jnp.float64), normal(1, 1, 3, 4))


def flax_lstm():
    from flax import linen

    return _flax(linen.RNN(linen.OptimizedLSTMCell(2, param_dtype=jnp.float64)), normal(1, 1, 4, 3))


def _flax(module, x):
    params = _double(module.init(jax.random.key(0), x))
    return (lambda params, x: jnp.sum(jnp.tanh(module.apply(params, x)))), (params, x)


def _equinox(module, x):
    import equinox

    arrays, static = equinox.partition(module, equinox.is_inexact_array)
    return (lambda arrays, x: jnp.sum(jnp.tanh(equinox.combine(arrays, static)(x)))), (_double(arrays), x)


def equinox_mlp():
    import equinox

    return _equinox(equinox.nn.MLP(3, 2, 4, 2, key=jax.random.key(0)), normal(1, 3))


def equinox_norm():
    import equinox

    keys = jax.random.split(jax.random.key(0))
    layers = [equinox.nn.Linear(3, 4, key=keys[0]), equinox.nn.LayerNorm(4), equinox.nn.Lambda(jax.nn.silu)]
    return _equinox(equinox.nn.Sequential([*layers, equinox.nn.Linear(4, 2, key=keys[1])]), normal(1, 3))


def equinox_gru():
    import equinox

    cell = equinox.nn.GRUCell(3, 2, key=jax.random.key(0))
    arrays, static = equinox.partition(cell, equinox.is_inexact_array)

    def loss(arrays, xs):
        cell = equinox.combine(arrays, static)
        return jnp.sum(lax.scan(lambda h, x: (cell(x, h), None), jnp.zeros(2, xs.dtype), xs)[0])

    return loss, (_double(arrays), normal(1, 5, 3))


FOREIGN = {
    "flax mlp": flax_mlp, "flax cnn": flax_cnn, "flax attention": flax_attention, "flax lstm": flax_lstm,
    "equinox mlp": equinox_mlp, "equinox norm": equinox_norm, "equinox gru": equinox_gru,
}  # fmt: skip
MODELS = {**CONFIGURATIONS, **LAYERS, **PLAIN, **FOREIGN}
