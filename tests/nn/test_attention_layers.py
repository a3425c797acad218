"""Attention layers: PyTorch's agreement is in test_torch.py; here decoding, positions, and what they refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, ops
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def language_model(cache=None, positions=None, **options):
    """Three blocks deep, two of them in a loop."""
    block = nn.TransformerBlock(4, causal=True, cache=cache, positions=positions, **options)
    layers = {"embedding": nn.Linear(16)}
    if positions is None:
        layers["positions"] = nn.LearnedPositions(12, decoding=cache is not None)
    return nn.Serial(**layers, first=block, rest=nn.Repeat(block, 2), head=nn.Linear(5))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        pytest.param({}, (1,) * 12, marks=pytest.mark.exhaustive),
        ({"positions": "rope"}, (5, 1, 1, 5)),
        pytest.param({"positions": "alibi"}, (1, 11), marks=pytest.mark.exhaustive),
        ({"kv_heads": 2, "norm": "post"}, (6, 6)),
    ],
    ids=str,
)
def test_decoding_equals_the_full_pass(options, steps):
    x = jax.random.normal(KEY, (2, 12, 7))
    model, decoder = language_model(**options), language_model(cache=12, **options)
    params, state = initialised(model, x)
    full, _ = jax.jit(model.apply)(params, state, x)
    _, state = initialised(decoder, x)
    step = jax.jit(decoder.apply)
    done, ys = 0, []
    for n in steps:
        y, state = step(params, state, x[:, done : done + n])
        ys.append(y)
        done += n
    np.testing.assert_allclose(jnp.concatenate(ys, 1), full, atol=1e-5)


def test_rotary_decoding_far_out_equals_the_full_pass():
    """Angles of large positions keep their digits."""
    x = jax.random.normal(KEY, (1, 4097, 8))
    full = ops.rope(x[:, :, None])[:, 4000:]
    np.testing.assert_allclose(ops.rope(x[:, 4000:, None], jnp.arange(4000, 4097)), full, atol=2e-6)
    with jax.enable_x64(True):
        positions = np.array([-3, 0, 65537, 2**24 + 1])
        wide = np.asarray(x[:, :4, None], "float64")
        exact = ops.rope.definition(jnp.asarray(wide), jnp.asarray(positions))
    narrow = ops.rope(x[:, :4, None], jnp.asarray(positions))
    np.testing.assert_allclose(narrow, exact, atol=2e-6)


def test_alibi_counts_far_keys_apart_in_half_precision():
    x = jax.random.normal(KEY, (1, 600, 8), jnp.bfloat16)
    layer = nn.MultiHeadAttention(2, causal=True, positions="alibi")
    params, _ = layer.init(KEY, x)
    y, _ = layer.apply(params, (), x)
    exact, _ = layer.apply(jax.tree.map(lambda p: p.astype(jnp.float32), params), (), x.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.03)


@pytest.mark.parametrize(
    ("positions", "steps"),
    [
        ("rope", (1,) * 11),
        ("alibi", (4, 1, 6)),
        pytest.param("rope", (9, 2), marks=pytest.mark.exhaustive),
        pytest.param("alibi", (1,) * 11, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_decoding_past_the_cache_is_attention_within_a_window(positions, steps):
    x, window = jax.random.normal(KEY, (2, 11, 8)), 4
    layer = nn.MultiHeadAttention(2, causal=True, positions=positions)
    params, _ = initialised(layer, x)
    i = jnp.arange(11)
    near = (i[:, None] - i < window) & (i[:, None] >= i)
    full, _ = layer.apply(params, (), (x, x, near))
    decoder = nn.MultiHeadAttention(2, causal=True, positions=positions, cache=window)
    _, state = initialised(decoder, x)
    step, done, ys = jax.jit(decoder.apply), 0, []
    for n in steps:
        y, state = step(params, state, x[:, done : done + n])
        ys.append(y)
        done += n
    np.testing.assert_allclose(jnp.concatenate(ys, 1), full, atol=1e-5)


def test_a_context_may_have_other_features():
    x, context = jax.random.normal(KEY, (2, 5, 8)), jax.random.normal(KEY, (2, 3, 6))
    layer = nn.MultiHeadAttention(2)
    params, _ = layer.init(KEY, (x, context))
    q, k, v = (
        ops.linear(z, params[n]["w"]).reshape(2, -1, 2, 4) for n, z in zip("qkv", (x, context, context), strict=True)
    )
    expected = ops.linear(ops.attention(q, k, v).reshape(2, 5, 8), params["o"]["w"])
    np.testing.assert_allclose(layer.apply(params, (), (x, context))[0], expected, atol=1e-5)


def test_causal_attention_is_the_masked_definition():
    x = jax.random.normal(KEY, (2, 6, 8))
    causal = nn.MultiHeadAttention(2, causal=True)
    params, _ = causal.init(KEY, x)
    masked, _ = nn.MultiHeadAttention(2).apply(params, (), (x, x, jnp.tril(jnp.ones((6, 6), bool))))
    np.testing.assert_allclose(causal.apply(params, (), x)[0], masked, atol=1e-6)


def test_rotary_products_depend_on_the_difference_of_positions():
    q, k = jax.random.normal(KEY, (2, 1, 1, 8))
    products = [
        float(jnp.vdot(ops.rope(q[None], jnp.array([i])), ops.rope(k[None], jnp.array([j]))))
        for i, j in ((3, 1), (13, 11), (1003, 1001))
    ]
    np.testing.assert_allclose(products, products[0], rtol=1e-3)


def test_sinusoidal_positions_are_the_documents():
    table = ops.sinusoidal_positions(50, 8)
    for p, i in ((0, 0), (7, 1), (49, 3)):
        angle = p / 10000 ** (2 * i / 8)
        np.testing.assert_allclose(table[p, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-7)
    x = jnp.zeros((2, 5, 8))
    y, _ = nn.SinusoidalPositions().apply((), (), x)
    np.testing.assert_array_equal(y[1], table[:5])


def test_alibi_falls_off_with_distance_by_head():
    bias = ops.alibi_bias(8, 4, 6)
    assert bias.shape == (8, 4, 6)
    np.testing.assert_allclose(bias[0], -0.5 * np.abs(np.arange(2, 6)[:, None] - np.arange(6)))
    np.testing.assert_allclose(ops.alibi_slopes(6), [0.25, 0.0625, 2**-6, 2**-8, 0.5, 0.125])


def _masked(shape, dtype=bool):
    x = jnp.ones((2, 5, 4))
    layer = nn.MultiHeadAttention(2)
    layer.apply(layer.init(KEY, x)[0], (), (x, x, jnp.ones(shape, dtype)))


def _other_batch():
    layer = nn.MultiHeadAttention(2, causal=True, cache=4)
    layer.apply(*layer.init(KEY, jnp.ones((2, 1, 4))), jnp.ones((3, 1, 4)))


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.MultiHeadAttention(4, kv_heads=3), ["kv_heads is 3", "divide heads"]),
        (lambda: nn.MultiHeadAttention(4, cache=8), ["causal=True"]),
        (lambda: nn.MultiHeadAttention(0), ["heads is 0", "positive integer"]),
        (lambda: nn.MultiHeadAttention(2, causal=True, cache=-2), ["cache is -2"]),
        (lambda: nn.TransformerBlock(2, keep_prob=1.5), ["keep_prob", "1.5"]),
        (lambda: _masked((5, 4)), ["mask is bool[5, 4]", "which is [5, 5]"]),
        (lambda: _masked((5, 5), float), ["mask is float32[5, 5]", "must be boolean"]),
        (lambda: _masked((2, 5, 5)), ["mask is bool[2, 5, 5]", "mask[..., None, :, :]"]),
        (lambda: nn.MultiHeadAttention(2).init(KEY, [jnp.ones((2, 5, 8))]), ["x is a list of 1", "a Sequence"]),
        (lambda: nn.MultiHeadAttention(2).init(KEY, (jnp.ones((2, 5, 8)), None)), ["the context is None"]),
        (lambda: nn.MultiHeadAttention(2, positions="rope").init(KEY, jnp.ones((2, 5, 6))), ["head_dim is 3", "even"]),
        (lambda: _other_batch(), ["batch of [2]", "x has [3]"]),
        (lambda: nn.MultiHeadAttention(4, positions="rotary"), ["'rotary'", "'rope'"]),
        (lambda: nn.MultiHeadAttention(3).init(KEY, jnp.ones((2, 5, 8))), ["8 features", "3 heads", "head_dim"]),
        (lambda: nn.MultiHeadAttention(2).init(KEY, jnp.ones(8)), ["(..., time, features)"]),
        (lambda: nn.LearnedPositions(3).apply({"table": jnp.ones((3, 2))}, (), jnp.ones((5, 2))), ["3 positions", "5"]),
        (lambda: nn.TransformerBlock(2, norm="middle"), ["'middle'", "'pre' or 'post'"]),
        (lambda: ops.rope(jnp.ones((2, 1, 5))), ["dim is 5", "even"]),
        (lambda: ops.rope(jnp.ones((2, 1, 4)), jnp.arange(3)), ["positions", "broadcast to [2]"]),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)


def test_a_window_and_a_soft_cap_are_those_of_the_op_and_decoding_keeps_them():
    layer = nn.MultiHeadAttention(2, causal=True, positions="rope", window=3, soft_cap=0.5)
    x = 3 * jax.random.normal(KEY, (2, 9, 8))
    params, state = layer.init(KEY, x)
    whole, _ = layer.apply(params, state, x)
    for changed in (dataclasses.replace(layer, window=None), dataclasses.replace(layer, soft_cap=None)):
        assert not jnp.allclose(changed.apply(params, state, x)[0], whole, atol=1e-3)
    decoder = dataclasses.replace(layer, cache=5)
    _, state = decoder.init(KEY, x)
    first, state = decoder.apply(params, state, x[:, :6])
    rest, _ = decoder.apply(params, state, x[:, 6:])
    np.testing.assert_allclose(jnp.concatenate([first, rest], 1), whole, rtol=1e-4, atol=1e-5)
