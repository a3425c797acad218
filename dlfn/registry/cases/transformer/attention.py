"""Scaled dot-product attention: masks, biases, grouped queries, rows without keys; plain softmax(QKᵀ)V beside it."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.cases.transformer._blocks import BENCHES as TRANSFORMERS
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, key, normal, register

INF = np.inf


def _terms(q, k, *_):
    return max(q.shape[-3], k.shape[-3], q.shape[-1]) * q.shape[-2] // k.shape[-2]


def _oracle(torch, q, k, v, bias=None, mask=None, *, causal=False, window=None, scale=None, block=None):
    """PyTorch's takes one additive mask, and its is_causal aligns the first query with the first key."""
    if bias is not None and not bias.is_floating_point():
        bias, mask = None, bias
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=bool)
    if causal:
        visible = visible.tril(k.shape[-2] - q.shape[-2])
    if window is not None:
        behind = torch.arange(q.shape[-2])[:, None] + k.shape[-2] - q.shape[-2] - torch.arange(k.shape[-2])
        visible = visible & (behind.abs() < window)
    if mask is not None:
        visible = visible & mask
    added = torch.zeros(visible.shape, dtype=q.dtype).masked_fill(~visible, -INF)
    added = added if bias is None else added + bias
    attend = torch.nn.functional.scaled_dot_product_attention
    y = attend(q, k, v, attn_mask=added, scale=scale, enable_gqa=q.shape[-3] != k.shape[-3])
    return y.transpose(-3, -2)


def _oracle_with_all(torch, q, k, v, sinks, segments, key_segments, *, causal=True, window, soft_cap, block=None):
    """With a sink as the score of one key more, whose value is 0."""
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    behind = torch.arange(q.shape[-2])[:, None] + k.shape[-2] - q.shape[-2] - torch.arange(k.shape[-2])
    visible = (behind.abs() < window) & (segments[..., None, :, None] == key_segments[..., None, None, :])
    visible = visible & (behind >= 0) if causal else visible
    scores = soft_cap * torch.tanh(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 / soft_cap)
    scores = scores.masked_fill(~visible, -INF)
    sinks = sinks[:, None, None].expand(*scores.shape[:-1], 1)
    p = torch.nn.functional.softmax(torch.cat([scores, sinks], -1), -1)
    return (p[..., :-1] @ v).transpose(-3, -2)


def _segments(*lead):
    """Of so many times: packed, so that all begin with the first segment."""
    first = np.zeros((*lead, 1), int)
    draw = lambda times: lambda rng: np.concatenate([first, rng.integers(0, 2, (*lead, times - 1))], -1)  # noqa: E731
    return lambda times: lambda rng: np.sort(draw(times)(rng))


def _mask(*shape):
    """Boolean, with a key that every query sees, and where there are two, one that none does."""
    at = np.arange(shape[-1])
    return lambda rng: ((rng.random(shape) < 0.6) | (at == 0)) & (at != 1)


def unseen(q, k, v, bias=None, mask=None, *, causal=False, **_):
    """Queries that see no key, keys and values that no query sees, and biases between such pairs."""
    *lead, queries, heads, _ = q.shape
    *_, keys, kv_heads, _ = k.shape
    seen = np.ones((*lead, heads, queries, keys), bool)
    seen = seen if mask is None else seen & np.asarray(mask)
    seen = np.tril(seen, keys - queries) if causal else seen
    of_queries = np.swapaxes(~seen.any(-1), -1, -2)[..., None]
    of_keys = seen.any(-2).reshape(*lead, kv_heads, heads // kv_heads, keys).any(-2)
    of_keys = ~np.swapaxes(of_keys, -1, -2)[..., None]
    of_bias = None
    if bias is not None:
        extra = seen.ndim - bias.ndim
        axes = (*range(extra), *(i + extra for i, size in enumerate(bias.shape) if size == 1))
        of_bias = ~seen.any(axes, keepdims=True).reshape(bias.shape)
    return (of_queries, of_keys, of_keys, of_bias, None), (of_queries,)


def _qkv(lead, queries, keys, heads, kv_heads, dim=3, dim_v=3):
    return (
        normal(*lead, queries, heads, dim),
        normal(*lead, keys, kv_heads, dim),
        normal(*lead, keys, kv_heads, dim_v),
    )


def _plain(causal):
    """softmax(QKᵀ)V with the heads as a batch."""

    def attend(q, k, v, bias=None, mask=None):
        s = jnp.einsum("bqhd,bkhd->bhqk", q, k) * np.float32(q.shape[-1] ** -0.5)
        if causal:
            s = jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -jnp.inf)
        if mask is not None:
            s = jnp.where(mask, s, -jnp.inf)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s, axis=-1), v)

    return attend


def _jax_nn(causal):
    return lambda q, k, v, bias=None, mask=None: jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal)


def _arrays(batch, time, heads):
    return tuple(normal(batch, time, heads, 64) for _ in range(3))


def _bench(name, arguments, causal, floor=0.97, memory=1.05, baselines=("plain", "jax.nn")):
    rivals = {"plain": _plain(causal), "jax.nn": _jax_nn(causal)}
    return Bench(
        name,
        (*arguments, *[absent] * (5 - len(arguments))),
        {rival: rivals[rival] for rival in baselines},
        lambda q, k, v, bias, mask: ops.attention(q, k, v, bias, mask, causal=causal),
        floor=floor,
        memory=memory,
    )


_LONG = (2, 1024, 8)

register(
    Entry(
        ops.attention,
        ("attention.scaled_dot_product", "attention.causal"),
        (
            Case(lambda lead: (*_qkv(lead, 5, 6, 4, 2), normal(4, 5, 6), _mask(*lead, 1, 5, 6)),
                 {"causal": True, "block": 2}, "causal, grouped, bias, mask", _oracle, _terms,
                 ignored=unseen),
            Case(lambda lead: (*_qkv(lead, 4, 6, 2, 2, dim_v=2), absent, absent), {}, "plain", _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 9, 9, 2, 2), absent, absent), {"causal": True, "block": 2}, "blocks",
                 _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 7, 5, 2, 1), normal(*lead, 1, 1, 5), _mask(7, 1)),
                 {"scale": 0.3, "block": 3}, "row of biases", _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 5, 4, 2, 2), normal(5, 4), absent), {"block": 2}, "one bias for all heads",
                 _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 16, 16, 4, 2, 8, 8), absent, absent), {"causal": True}, "as kernels take it",
                 _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 9, 9, 2, 1), normal(2, 9, 9), absent),
                 {"causal": True, "window": 3, "block": 2}, "window", _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 8, 9, 2, 2), absent, absent), {"window": 2, "block": 2}, "window both ways",
                 _oracle, _terms),
            Case(lambda lead: (*_qkv(lead, 7, 8, 4, 2), absent, absent, normal(4), *map(_segments(*lead), (7, 8))),
                 {"causal": True, "window": 4, "soft_cap": 0.8, "block": 2}, "window, soft cap, sinks, segments",
                 _oracle_with_all, _terms),
            Case(lambda lead: (*_qkv(lead, 7, 8, 4, 2), *[absent] * 5, key()), {"keep_prob": 0.7, "block": 3},
                 "dropout", terms=_terms),
            Case(lambda lead: (*_qkv(lead, 9, 9, 2, 1), normal(9, 9), absent, normal(2), absent, absent, key()),
                 {"keep_prob": 0.6, "causal": True, "window": 3, "soft_cap": 0.8, "block": 2},
                 "dropout, window, bias, sinks", terms=_terms),
        ),
        (
            Trap("11: fully masked row",
                 ([[[1.0]], [[2.0]]], [[[1.0]], [[3.0]]], [[[1.0]], [[2.0]]], None, [[False, False], [True, False]]),
                 {0: [[[0.0]], [[0.0]]], 1: [[[0.0]], [[0.0]]], 2: [[[1.0]], [[0.0]]]}, value=[[[0.0]], [[1.0]]]),
            Trap("a row of −∞ in the bias",
                 ([[[1.0]], [[2.0]]], [[[1.0]], [[3.0]]], [[[1.0]], [[2.0]]], [[-INF, -INF], [0.0, -INF]]),
                 {0: [[[0.0]], [[0.0]]], 2: [[[1.0]], [[0.0]]], 3: [[0.0, 0.0], [0.0, 0.0]]},
                 value=[[[0.0]], [[1.0]]]),
            Trap("+∞ in the bias, twice in the second row",
                 ([[[1.0]], [[2.0]]], [[[1.0]], [[3.0]], [[0.0]]], [[[1.0]], [[2.0]], [[4.0]]],
                  [[0.0, INF, 0.0], [INF, 0.0, INF]]),
                 {0: [[[0.0]], [[-0.75]]], 1: [[[-1.5]], [[0.0]], [[1.5]]], 2: [[[0.5]], [[1.0]], [[0.5]]],
                  3: [[0.0, 0.0, 0.0], [-0.75, 0.0, 0.75]]}, value=[[[2.0]], [[2.5]]]),
            Trap("queries before the first key",
                 ([[[1.0]], [[2.0]]], [[[1.0]]], [[[5.0]]]),
                 {0: [[[0.0]], [[0.0]]], 1: [[[0.0]]], 2: [[[1.0]]]}, value=[[[0.0]], [[5.0]]],
                 static={"causal": True}),
            Trap("logits of ±1e4",
                 ([[[100.0]]], [[[100.0]], [[-100.0]], [[100.0]]], [[[1.0]], [[2.0]], [[3.0]]]),
                 {0: [[[0.0]]], 1: [[[-50.0]], [[0.0]], [[50.0]]], 2: [[[0.5]], [[0.0]], [[0.5]]]}, value=[[[2.0]]]),
        ),
        (
            _bench("causal (2, 1024, 8, 64)", _arrays(*_LONG), True, 1.5, 1 / 4, ("plain",)),
            _bench("causal (2, 1024, 8, 64)", _arrays(*_LONG), True, 2.5, 1 / 4, ("jax.nn",)),
            _bench("causal (1, 4096, 1, 64)", _arrays(1, 4096, 1), True, 1.5, 1 / 12),
            _bench("(2, 512, 8, 64)", _arrays(2, 512, 8), False),
            _bench("masked (2, 512, 8, 64)", (*_arrays(2, 512, 8), absent, _mask(2, 1, 1, 512)), False),
            _bench("causal (8, 256, 8, 32)", tuple(normal(8, 256, 8, 32) for _ in range(3)), True),
            *TRANSFORMERS,
        ),
    )
)  # fmt: skip
