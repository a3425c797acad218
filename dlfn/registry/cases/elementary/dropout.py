"""Dropout, whose mask a definition and its gradient must share."""

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, key, normal, register


def _rows(lead):
    return normal(*lead, 5), key()


def _dropped(x, key, **static):
    dropped = ops.dropout(jnp.ones_like(x), key, **static) == 0
    return (dropped, None), (dropped,)


def _plain(x, key, *, keep_prob):
    return jnp.where(jax.random.bernoulli(key, keep_prob, x.shape), x / keep_prob, 0)


def _plain_spatial(x, key, *, keep_prob, shared_axes):
    mask = jax.random.bernoulli(key, keep_prob, (x.shape[0], 1, 1, x.shape[-1]))
    return jnp.where(mask, x / keep_prob, 0)


register(
    Entry(
        ops.dropout,
        ("dropout.standard", "dropout.variants"),
        (
            Case(_rows, {"keep_prob": 0.7}, "keep_prob=0.7", ignored=_dropped),
            Case(_rows, {"keep_prob": 1.0}, "keep_prob=1.0"),
            Case(lambda lead: (normal(*lead, 3, 2, 5), key()), {"keep_prob": 0.7, "shared_axes": (-3, -2)}, "spatial",
                 ignored=_dropped),
        ),
        benches=(
            Bench("(1024, 1024)", (normal(1024, 1024), key()), {"plain": _plain}, static={"keep_prob": 0.9}),
            Bench(
                "spatial (16, 56, 56, 64)",
                (normal(16, 56, 56, 64), key()),
                {"plain": _plain_spatial},
                static={"keep_prob": 0.9, "shared_axes": (1, 2)},
            ),
        ),
    )
)  # fmt: skip
