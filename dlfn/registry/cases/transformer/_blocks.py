"""A transformer of eight blocks as a loop, against autodiff of the same loop in plain JAX."""

import functools

import jax
import jax.numpy as jnp

from dlfn import nn
from dlfn.registry.entry import Bench, normal

__all__ = ["BENCHES"]

_LAYERS, _HEADS, _FEATURES, _TIMES, _BATCH = 8, 4, 256, 256, 8


def _model(checkpoint):
    return nn.Repeat(nn.TransformerBlock(_HEADS, causal=True), _LAYERS, checkpoint=checkpoint)


def _params(rng):
    example = jax.ShapeDtypeStruct((_BATCH, _TIMES, _FEATURES), jnp.float32)
    return _model(False).init(jax.random.key(int(rng.integers(2**31))), example)[0]


def _ours(params, x, *, checkpoint):
    return _model(checkpoint).apply(params, (), x)[0]


def _norm(p, x):
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def _linear(p, x):
    return x @ p["w"] + p["b"]


def _attention(p, x):
    q, k, v = (_linear(p[name], x).reshape(*x.shape[:-1], _HEADS, -1) for name in "qkv")
    s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    s = jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -jnp.inf)
    y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s), v)
    return _linear(p["o"], y.reshape(x.shape))


def _block(x, p):
    x = x + _attention(p["attention"]["attention"], _norm(p["attention"]["norm"], x))
    mlp = p["mlp"]["mlp"]
    inner = jax.nn.gelu(_linear(mlp["up"], _norm(p["mlp"]["norm"], x)), approximate=False)
    return x + _linear(mlp["down"], inner), None


def _plain(params, x, *, checkpoint):
    body = jax.checkpoint(_block, prevent_cse=False) if checkpoint else _block
    return jax.lax.scan(body, x, params)[0]


BENCHES = tuple(
    Bench(
        f"8-layer transformer{', checkpoint' * checkpoint}",
        (_params, normal(_BATCH, _TIMES, _FEATURES)),
        {"plain scan": functools.partial(_plain, checkpoint=checkpoint)},
        functools.partial(_ours, checkpoint=checkpoint),
        floor=0.97 if checkpoint else 1.2,
        memory=1.05 if checkpoint else 0.5,
    )
    for checkpoint in (False, True)
)
