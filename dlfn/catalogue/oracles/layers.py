"""Oracles of what is more than its ops: regressions, initialisers, and layers made of several ops."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import linear_models, nn, ops
from dlfn.catalogue.oracles._table import Table, agree, normal, require, sklearn
from dlfn.check import jacobian_norms

__all__ = ["ORACLES"]

ORACLES = Table()


def _classes(k):
    return normal(60, 3), jnp.asarray(np.random.default_rng(1).integers(0, k, 60))


# Newton's method, which the others stop short of; with the penalty 0.1 of the 60 examples.
_TO_THE_END: dict[str, Any] = {"C": 1 / (60 * 0.1), "solver": "newton-cholesky", "tol": 1e-12}


@ORACLES.add("linear.logistic", "sklearn.linear_model.LogisticRegression")
def _():
    LogisticRegression = sklearn("linear_model").LogisticRegression
    x, y = _classes(2)
    theirs = LogisticRegression(**_TO_THE_END).fit(x, y)
    params = linear_models.logistic_regression.fit(x, y.astype(x.dtype), steps=3000, l2=0.1).params
    agree(params["w"], theirs.coef_[0])
    agree(params["b"], theirs.intercept_[0])


@ORACLES.add("linear.softmax", "scipy.special.softmax, and diag(p) - p pᵀ in NumPy")
def _():
    from scipy.special import softmax

    z = 10 * normal(4, 5)
    p = softmax(np.asarray(z), axis=-1)
    agree(ops.softmax(z), p)
    agree(ops.softmax_jacobian(jnp.asarray(p)), [np.diag(row) - np.outer(row, row) for row in p])


@ORACLES.add("linear.cross_entropy", "sklearn.metrics.log_loss and LogisticRegression")
def _():
    LogisticRegression = sklearn("linear_model").LogisticRegression
    log_loss = sklearn("metrics").log_loss
    x, y = _classes(3)
    theirs = LogisticRegression(**_TO_THE_END).fit(x, y)
    params = linear_models.softmax_regression.fit(x, y, steps=3000, l2=0.1).params
    agree(params["w"], theirs.coef_.T)
    agree(params["b"], theirs.intercept_)
    z = normal(60, 3, seed=2)
    agree(ops.softmax_cross_entropy(z, y), log_loss(y, np.asarray(jax.nn.softmax(z))))


@ORACLES.add("norm.peers", "numpy.linalg.svd")
def _():
    w = normal(5, 4)
    u = normal(4, seed=1)
    w_bar = w
    for _step in range(200):
        w_bar, u = ops.spectral_norm(w, u / jnp.linalg.norm(u))
    agree(np.linalg.svd(w_bar)[1][0], 1.0, 1e-9)


@ORACLES.add("dropout.standard", "the mask's statistics")
def _():
    x, key = 1 + jnp.abs(normal(200, 500)), jax.random.key(0)
    y, back = jax.vjp(lambda x: ops.dropout(x, key, keep_prob=0.8), x)
    kept = y != 0
    agree(jnp.mean(kept), 0.8, 0.01)
    agree(y, jnp.where(kept, x / 0.8, 0))
    agree(back(jnp.ones_like(x))[0], kept / 0.8)


@ORACLES.add("dropout.variants", "the masks in NumPy")
def _():
    x, key = jnp.ones((4, 5, 5, 6)), jax.random.key(0)
    y, _ = nn.SpatialDropout(0.5).apply((), (), x, key=key, train=True)
    agree(y, np.broadcast_to(y[:, :1, :1], y.shape))
    agree(np.unique(y), [0, 2])
    layer = nn.DropConnect(nn.Linear(300), keep_prob=0.5)
    params, state = layer.init(key, jnp.ones((2, 200)))
    dropped, _ = layer.apply(params, state, jnp.eye(200), key=key, train=True)
    kept = np.asarray(dropped) != 0
    agree(kept.mean(), 0.5, 0.02)
    agree(dropped, np.where(kept, 2 * np.asarray(params["w"]), 0))


@ORACLES.add("conv.conv2d", "scipy.signal.correlate2d and convolve2d")
def _():
    from scipy import signal

    image, kernel = normal(6, 7), normal(3, 2, seed=1)
    x, w = image[None, :, :, None], kernel[:, :, None, None]
    agree(ops.conv(x, w)[0, :, :, 0], signal.correlate2d(image, kernel, mode="valid"))
    agree(ops.conv(x, ops.flip_kernel(w))[0, :, :, 0], signal.convolve2d(image, kernel, mode="valid"))


@ORACLES.add("rnn.vanilla", "jax.jacobian, step by step")
def _():
    w = normal(3, 3) / 2

    def step(h):
        return jnp.tanh(h @ w)

    h = h0 = normal(3, seed=1)
    products = [np.eye(3)]
    for _step in range(5):
        products.append(np.asarray(jax.jacobian(step)(h)) @ products[-1])
        h = step(h)
    norms = jacobian_norms(lambda h, _: step(h), h0, jnp.zeros((5, 1)))
    agree(norms[-1], np.linalg.norm(products[-1], 2), 1e-6)


@ORACLES.add("attention.multi_head", "softmax(Q Kᵀ / √d) V in NumPy, head by head")
def _():
    layer, x = nn.MultiHeadAttention(2), normal(3, 4, 6)
    params, state = layer.init(jax.random.key(0), x)
    agree(layer.apply(params, state, x)[0], _multi_head(params, np.asarray(x)), 1e-9)


def _multi_head(params, x):
    def affine(name, x):
        return x @ np.asarray(params[name]["w"]) + np.asarray(params[name]["b"])

    q, k, v = (affine(name, x).reshape(*x.shape[:2], 2, 3) for name in "qkv")
    e = np.exp(np.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(3))
    heads = np.einsum("nhqk,nkhd->nqhd", e / e.sum(-1, keepdims=True), v)
    return affine("o", heads.reshape(*x.shape[:2], 6))


@ORACLES.add("transformer.block", "X + Attn(LN X) and F + MLP(LN F) in NumPy")
def _():
    from scipy.special import erf

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    layer, x = nn.TransformerBlock(2), normal(3, 4, 6)
    params, state = layer.init(jax.random.key(0), x)
    up, down = (params["mlp"]["mlp"][name] for name in ("up", "down"))
    f = np.asarray(x) + _multi_head(params["attention"]["attention"], norm(np.asarray(x)))
    z = norm(f) @ np.asarray(up["w"]) + np.asarray(up["b"])
    gelu = z * (1 + erf(z / math.sqrt(2))) / 2
    agree(layer.apply(params, state, x)[0], f + gelu @ np.asarray(down["w"]) + np.asarray(down["b"]), 1e-9)


@ORACLES.add("transformer.residual", "NumPy")
def _():
    x = normal(4, 2)
    layer = nn.Residual(nn.Linear(3, bias=False), projection=nn.Linear(3, bias=False))
    params, state = layer.init(jax.random.key(0), x)
    w, w_s = (np.asarray(leaf) for leaf in jax.tree.leaves(params))
    agree(layer.apply(params, state, x)[0], x @ w + x @ w_s)


@ORACLES.add("transformer.positions", "the document's sines and cosines in NumPy")
def _():
    t, i = np.arange(7)[:, None], np.arange(3)
    angles = t / 10_000 ** (2 * i / 6)
    expected = np.empty((7, 6))
    expected[:, 0::2], expected[:, 1::2] = np.sin(angles), np.cos(angles)
    agree(ops.sinusoidal_positions(7, 6), expected, 1e-6, 1e-7)
    slopes = 2.0 ** -np.arange(2, 9, 2)
    distance = np.arange(5)[None, :] - np.arange(5)[:, None]
    agree(ops.alibi_bias(4, 5, 5), slopes[:, None, None] * -np.abs(distance), 1e-6)


@ORACLES.add("loss.peers", "the variances of the formulas, and numpy.linalg.qr's property")
def _():
    key, shape = jax.random.key(0), (300, 400)
    for name in ("lecun_normal", "lecun_uniform"):
        agree(jnp.var(getattr(nn.initializers, name)(key, shape)), 1 / 300, 0.02)
    q = nn.initializers.orthogonal(key, (5, 3))
    agree(q.T @ q, np.eye(3), atol=1e-6)
    w = nn.initializers.truncated_normal(key, shape)
    require(jnp.abs(w).max() <= 2 * jnp.std(w) / 0.87, "the tails are not cut")
