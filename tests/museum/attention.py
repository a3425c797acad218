"""Wrong gradients of attention."""

import jax
import jax.numpy as jnp

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T) @ v


def attention_forward(q, k, v):
    return attention(q, k, v), (q, k, v)


def dscores(weights, dweights):
    return weights * (dweights - jnp.sum(weights * dweights, -1, keepdims=True))


def attention_right(residuals, dy):
    q, k, v = residuals
    weights = jax.nn.softmax(q @ k.T)
    ds = dscores(weights, dy @ v.T)
    return ds @ k, ds.T @ q, weights.T @ dy


# dq is written in blocks of 4 columns, and read back in blocks of 8: the last columns are never written.


def padded_wrong(residuals, dy):
    dq, dk, dv = attention_right(residuals, dy)
    columns = dq.shape[-1]
    written = columns if columns % 4 == 0 else columns - columns % 4
    return jnp.where(jnp.arange(columns) < written, dq, 0.0), dk, dv


# Each block of columns of v makes a dq and dk of its own, and the last to be written is what remains.


def racing_wrong(residuals, dy):
    q, k, v = residuals
    weights = jax.nn.softmax(q @ k.T)
    last = (v.shape[-1] - 1) // 4 * 4
    ds = dscores(weights, dy[:, last:] @ v[:, last:].T)
    return ds @ k, ds.T @ q, weights.T @ dy


def biased_attention(q, k, v, bias):
    return jax.nn.softmax(q @ k.T + bias) @ v


def biased_attention_forward(q, k, v, bias):
    return biased_attention(q, k, v, bias), (q, k, v, bias)


def biased_attention_right(residuals, dy):
    q, k, v, bias = residuals
    weights = jax.nn.softmax(q @ k.T + bias)
    ds = dscores(weights, dy @ v.T)
    return ds @ k, ds.T @ q, weights.T @ dy, ds


def biased_attention_wrong(residuals, dy):
    dq, dk, dv, dbias = biased_attention_right(residuals, dy)
    return dq, dk, dv, jnp.zeros_like(dbias)


# The sum of the keys, by which the output is divided, is taken by a kernel that has no backward pass.


def linear_attention(q, k, v):
    scores = jnp.tril(q @ k.T)
    return scores @ v / jnp.sum(q * jnp.cumsum(k, 0), -1, keepdims=True)


def linear_attention_forward(q, k, v):
    return linear_attention(q, k, v), (q, k, v)


def linear_attention_backward(through_sum, residuals, dy):
    q, k, v = residuals
    keys = jnp.cumsum(k, 0)
    total = jnp.sum(q * keys, -1, keepdims=True)
    dtotal = -jnp.sum(dy * linear_attention(q, k, v), -1, keepdims=True) / total
    ds = jnp.tril((dy / total) @ v.T)
    dk = ds.T @ q
    if through_sum:
        dk += jnp.cumsum((dtotal * q)[::-1], 0)[::-1]
    return ds @ k + dtotal * keys, dk, jnp.tril(q @ k.T).T @ (dy / total)


def linear_attention_right(residuals, dy):
    return linear_attention_backward(True, residuals, dy)


def linear_attention_wrong(residuals, dy):
    return linear_attention_backward(False, residuals, dy)


# One function with and without a gate. Without it, the backward pass forgets what k adds beside v.


def gated_products(k, beta, gate=None):
    scaled = beta[:, None] * k
    return jnp.tril((scaled if gate is None else scaled * jnp.exp(gate)[:, None]) @ k.T, -1)


def gated_products_forward(k, beta, gate=None):
    return gated_products(k, beta, gate), (k, beta, gate)


def gated_products_right(residuals, dy):
    k, beta, gate = residuals
    factor = 1.0 if gate is None else jnp.exp(gate)[:, None]
    left = beta[:, None] * k * factor
    dleft = jnp.tril(dy, -1) @ k
    dk = jnp.tril(dy, -1).T @ left + beta[:, None] * factor * dleft
    return dk, jnp.sum(dleft * k * factor, -1), None if gate is None else jnp.sum(dleft * left, -1)


def gated_products_wrong(residuals, dy):
    k, beta, gate = residuals
    dk, dbeta, dgate = gated_products_right(residuals, dy)
    if gate is None:
        return jnp.tril(dy, -1).T @ (beta[:, None] * k), jnp.zeros_like(beta), None
    return dk, dbeta, dgate


EXHIBITS = (
    Exhibit(
        "FlashAttention: a head that no block divides",
        "https://github.com/Dao-AILab/flash-attention/pull/2896",
        "dq is written in smaller blocks than it is read back in; the columns between are never written.",
        attention,
        ruled(attention, attention_forward, attention_right),
        ruled(attention, attention_forward, padded_wrong),
        padded_wrong,
        (normal(3, 4), normal(5, 4, seed=1), normal(5, 2, seed=2)),
        "q",
        "size 9 for 4",
    ),
    Exhibit(
        "flash-linear-attention: more values than one block",
        "https://github.com/fla-org/flash-linear-attention/pull/941",
        "Each block of v's columns writes a dq and dk of its own over those of the others, instead of adding to them.",
        attention,
        ruled(attention, attention_forward, attention_right),
        ruled(attention, attention_forward, racing_wrong),
        racing_wrong,
        (normal(3, 2), normal(5, 2, seed=1), normal(5, 4, seed=2)),
        "q",
        "size 9 for 4",
    ),
    Exhibit(
        "jax: no gradient for the bias of cuDNN's attention",
        "https://github.com/jax-ml/jax/issues/27184",
        "The gradient of the bias is zero.",
        biased_attention,
        ruled(biased_attention, biased_attention_forward, biased_attention_right),
        ruled(biased_attention, biased_attention_forward, biased_attention_wrong),
        biased_attention_wrong,
        (normal(3, 2), normal(4, 2, seed=1), normal(4, 2, seed=2), normal(3, 4, seed=3)),
        "bias",
    ),
    Exhibit(
        "flash-linear-attention: a sum of keys taken for constant",
        "https://github.com/fla-org/flash-linear-attention/pull/875",
        "The output is divided by a sum over k that no gradient goes through.",
        linear_attention,
        ruled(linear_attention, linear_attention_forward, linear_attention_right),
        ruled(linear_attention, linear_attention_forward, linear_attention_wrong),
        linear_attention_wrong,
        (normal(4, 2) ** 2 + 0.1, normal(4, 2, seed=1) ** 2 + 0.1, normal(4, 3, seed=2)),
        "k",
    ),
    Exhibit(
        "flash-linear-attention: the gate turned off",
        "https://github.com/fla-org/flash-linear-attention/issues/862",
        "Without a gate, one of k's two gradients is left out, and that of beta.",
        gated_products,
        ruled(gated_products, gated_products_forward, gated_products_right),
        ruled(gated_products, gated_products_forward, gated_products_wrong),
        gated_products_wrong,
        (normal(4, 3), normal(4, seed=1), None),
        "k",
    ),
)
