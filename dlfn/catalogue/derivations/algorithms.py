"""Words of the derivations that are loops, layers and samples, in the plainest form there is."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn import nn, ops
from dlfn.train.config import Schedule
from dlfn.train.optimizer import make_optimizer, make_schedule

__all__ = [
    "after", "attended", "bayesian", "beside", "block_parameters", "choose", "clipped", "count_windows", "counts",
    "fed_forward", "fixed", "flipped", "gelu_error", "gru", "join", "kept", "layer", "lower", "lstm", "normed",
    "padded", "pair", "parameters", "positions", "quarter_turn", "run", "schedule", "share_as_extreme", "shifted",
    "slope_at", "split", "spread", "sum_of_paths", "toeplitz", "transformer_block", "variance_of", "wide",
]  # fmt: skip


def after(optimizer: Any, parameters: Any, gradients: list[Any]) -> Any:
    """The parameters after a step of an optimiser for each of the gradients."""
    state = optimizer.init(parameters)
    for gradient in gradients:
        update, state = optimizer.update(gradient, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, update)
    return parameters


def fixed(x: Any) -> Any:
    """x, which no derivative goes through."""
    return lax.stop_gradient(x)


def wide() -> Any:
    """The dtype of all numbers here."""
    return jnp.float64


def lower(n: int) -> Any:
    """The matrix of ones on and below the diagonal."""
    return jnp.tri(n)


def beside(*arrays: Any) -> Any:
    """Arrays side by side, along the last axis."""
    return jnp.concatenate(arrays, axis=-1)


def pair(arrays: tuple[Any, ...]) -> Any:
    """A pair of vectors as one."""
    return jnp.concatenate(arrays)


def flipped(sequences: Any) -> Any:
    """Sequences in the order of time reversed."""
    return sequences[:, ::-1]


# Convolution.


def count_windows(cells: int, window: int, stride: int, padding: int) -> int:
    """How many windows there are, by putting one after the other."""
    count = start = 0
    while start + window <= cells + 2 * padding:
        count, start = count + 1, start + stride
    return count


def padded(x: Any, cells: int) -> Any:
    """x with zeros at both ends."""
    return jnp.pad(x, cells)


def spread(x: Any, stride: int, size: int) -> Any:
    """x with stride − 1 zeros between its entries."""
    return jnp.zeros(size).at[::stride].set(x)


def shifted(kernel: Any, start: int, size: int) -> Any:
    """A kernel that begins at a place of a row of zeros."""
    return jnp.zeros(size).at[start : start + len(kernel)].set(kernel)


def toeplitz(kernel: Any, size: int) -> Any:
    """The matrix of correlation with a kernel."""
    return jnp.stack([shifted(kernel, i, size) for i in range(size - len(kernel) + 1)])


# Normalisation and dropout.


def split(x: Any, groups: int) -> Any:
    """(examples, space, channels) with the channels in groups."""
    return x.reshape(*x.shape[:2], groups, -1)


def join(x: Any) -> Any:
    """Groups of channels as channels again."""
    return x.reshape(*x.shape[:2], -1)


def kept(keep_prob: float, n: int) -> Any:
    """The part of n ones that dropout keeps."""
    return jnp.mean(ops.dropout(jnp.ones(n), jax.random.key(0), keep_prob=keep_prob) != 0)


# Layers.


def layer(module: nn.Layer, params: Any, x: Any, **options: Any) -> Any:
    """The output of a layer without state."""
    return module.apply(params, (), x, **options)[0]


def parameters(module: nn.Layer, *shape: int) -> int:
    """How many parameters a layer has for an input of a shape."""
    params, _ = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return nn.count_parameters(params)


def transformer_block() -> nn.Layer:
    return nn.TransformerBlock(2)


@functools.cache
def block_parameters() -> Any:
    """Of a transformer block with two heads and four features."""
    return transformer_block().init(jax.random.key(0), jnp.zeros((1, 3, 4)))[0]


def normed(x: Any) -> Any:
    """The block's normalisation, whose scale is 1 and bias 0 at first."""
    return ops.layer_norm(x)


def attended(x: Any) -> Any:
    """The block's attention branch."""
    return layer(nn.MultiHeadAttention(2), block_parameters()["attention"]["attention"], normed(x))


def fed_forward(x: Any) -> Any:
    """The block's other branch."""
    params = block_parameters()["mlp"]["mlp"]
    hidden = ops.gelu(ops.linear(normed(x), params["up"]["w"], params["up"]["b"]))
    return ops.linear(hidden, params["down"]["w"], params["down"]["b"])


def positions(t: int, size: int) -> Any:
    """The sines and cosines of one position."""
    angles = t / 10000 ** (2 * jnp.arange(size // 2) / size)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=1).ravel()


# Recurrence.


def run(xs: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    """All states of a recurrent network."""
    states = []
    for x in xs[0]:
        h = jnp.tanh(x @ w_x + h @ w_h + b)
        states.append(h)
    return jnp.stack(states)


def slope_at(xs: Any, h: Any, w_x: Any, w_h: Any, b: Any, t: int) -> Any:
    """The Jacobian of step t."""
    return jnp.diag(1 - run(xs, h, w_x, w_h, b)[t] ** 2) @ w_h.T


def lstm(a: Any, c: Any) -> Any:
    """h′ and c′, of the gates before their activations and the cell's state."""
    sigmoid = lambda z: 1 / (1 + jnp.exp(-z))  # noqa: E731
    i, f, g, o = jnp.split(a, 4)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    return pair((sigmoid(o) * jnp.tanh(c), c))


def gru(a: Any, h: Any, w_h: Any) -> Any:
    """h′, of the input's part of the gates, the state, and the recurrent weights."""
    sigmoid = lambda z: 1 / (1 + jnp.exp(-z))  # noqa: E731
    z, r, n = jnp.split(a, 3)
    u_z, u_r, u_n = jnp.split(w_h, 3, axis=1)
    z, r = sigmoid(z + h @ u_z), sigmoid(r + h @ u_r)
    return (1 - z) * h + z * jnp.tanh(n + (r * h) @ u_n)


# Figures.


def gelu_error(constant: float) -> Any:
    """The largest distance of GELU's tanh form from the exact one."""
    x = np.linspace(-6, 6, 200_001)
    tanh_form = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    return np.abs(tanh_form - ops.gelu(x)).max()


def variance_of(initializer: Any, *shape: int) -> Any:
    """The variance of an initialiser's weights, over many of them."""
    return jnp.var(initializer(jax.random.key(0), shape, jnp.float64))


def sum_of_paths(logits: Any, labels: tuple[int, ...]) -> Any:
    """CTC by its definition: the probability of all paths that read as the labels, once repetitions and then blanks
    (class 0) are left out."""
    p = jnp.exp(logits) / jnp.sum(jnp.exp(logits), axis=1, keepdims=True)
    total = jnp.zeros(())
    for path in itertools.product(range(p.shape[1]), repeat=p.shape[0]):
        read = tuple(label for label, _ in itertools.groupby(path) if label)
        if read == tuple(map(int, labels)):
            total = total + jnp.prod(jnp.stack([p[t, label] for t, label in enumerate(path)]))
    return total


def choose(n: int, k: int) -> int:
    """The binomial coefficient."""
    return math.comb(n, k)


def counts() -> Any:
    """How often each face of a die came up in 120 throws."""
    return jnp.array([18, 22, 16, 25, 24, 15])


def share_as_extreme(a: Any, b: Any) -> float:
    """The share of all divisions of the data whose means differ as much as those of a and b."""
    data, size = np.concatenate([a, b]), len(a)
    total = data.sum()

    def difference(chosen: float) -> float:
        return abs(chosen / size - (total - chosen) / len(b))

    observed = difference(float(np.sum(np.asarray(a))))
    sums = [data[list(chosen)].sum() for chosen in itertools.combinations(range(len(data)), size)]
    return float(np.mean([difference(each) >= observed * (1 - 1e-12) for each in sums]))


def bayesian(params: Any) -> Any:
    """The KL term of a Bayesian linear layer."""
    return nn.BayesianLinear(2, bias=False).kl(params)


def quarter_turn(images: Any) -> Any:
    """An image, turned by moving its pixels."""
    return jnp.rot90(images[0, :, :, 0], -1)


def clipped(bound: float) -> Any:
    """The optimiser of a configuration with clipping, and SGD of the rate 1."""
    return make_optimizer({"name": "sgd", "learning_rate": 1.0}, Schedule(), 100, clip_norm=bound)


def schedule(name: str, step: int) -> Any:
    """The rate of a configuration's schedule over 100 steps, from 2."""
    return make_schedule(Schedule(name), 2.0, 100)(step)
