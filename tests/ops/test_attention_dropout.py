"""Dropout of attention's probabilities: the gradients of what was drawn, how it is drawn, memory, and the layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import nn, ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def drawn(key, batch, queries, keys, heads, **settings):
    """D, (batch, heads, queries, keys), as attention to unit vectors with equal scores shows it."""
    q, k = jnp.zeros((batch, queries, heads, 1)), jnp.zeros((batch, keys, heads, 1))
    v = jnp.broadcast_to(jnp.eye(keys)[:, None], (batch, keys, heads, keys))
    return jnp.swapaxes(ops.attention(q, k, v, key=key, **settings), 1, 2) * keys


@pytest.mark.parametrize("block", [None, 3])
def test_values_and_gradients_are_those_of_the_masked_probabilities(block):
    with jax.enable_x64(True):
        q, k, v, dy = (jax.random.normal(jax.random.key(i), (2, 7, 4, 3), "float64") for i in range(4))
        k, v = k[:, :, :2], v[:, :, :2]
        mask = drawn(KEY, 2, 7, 7, 4, keep_prob=0.6)

        def explicit(q, k, v):
            k, v = jnp.repeat(k, 2, 2), jnp.repeat(v, 2, 2)
            s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(3.0)
            s = jnp.where(jnp.tril(jnp.ones((7, 7), bool)), s, -jnp.inf)
            return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s) * mask, v)

        def ours(q, k, v):
            return ops.attention(q, k, v, key=KEY, keep_prob=0.6, causal=True, block=block)

        found, expected = (jax.vjp(f, q, k, v) for f in (ours, explicit))
        for a, b in zip((found[0], *found[1](dy)), (expected[0], *expected[1](dy)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_draws_are_independent_with_the_probability_that_is_kept():
    mask = drawn(KEY, 2, 90, 80, 3, keep_prob=0.7)
    np.testing.assert_allclose(mask[mask != 0], 1 / 0.7, rtol=1e-5)
    kept = np.asarray(mask != 0, float) - 0.7
    deviation = np.sqrt(0.7 * 0.3 / kept.size)
    assert abs(kept.mean()) < 4 * deviation
    for axis in range(4):  # neighbours in the batch, in heads, queries and keys
        a, b = np.split(kept, [1], axis)[1], np.delete(kept, -1, axis)
        assert abs((a * b).mean() / (0.7 * 0.3)) < 4 / np.sqrt(a.size)
    other = drawn(jax.random.PRNGKey(1), 2, 90, 80, 3, keep_prob=0.7)
    assert abs((kept * (np.asarray(other != 0) - 0.7)).mean() / (0.7 * 0.3)) < 4 / np.sqrt(kept.size)


def test_what_is_drawn_does_not_depend_on_blocks_or_on_what_is_seen():
    whole = drawn(KEY, 1, 9, 9, 2, keep_prob=0.5) != 0
    for settings in ({"block": 2}, {"block": 4, "causal": True}, {"block": 2, "causal": True, "window": 3}):
        found = drawn(KEY, 1, 9, 9, 2, keep_prob=0.5, **settings) != 0
        i = np.arange(9)
        near = (i[:, None] >= i) & (i[:, None] - i < settings.get("window", 9)) if "causal" in settings else True
        np.testing.assert_array_equal(found, whole & near)


def test_memory_stays_linear():
    def bytes_for(steps):
        x = jax.ShapeDtypeStruct((steps, 1, 8), jnp.float32)
        loss = lambda *args: jnp.sum(ops.attention(*args, key=KEY, keep_prob=0.9, block=64, causal=True))  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert bytes_for(4096) < 2.2 * bytes_for(2048)


def test_the_layer_drops_in_training_alone():
    x = jax.random.normal(KEY, (2, 5, 8))
    plain, dropping = (nn.MultiHeadAttention(2, causal=True, attention_keep_prob=q) for q in (1.0, 0.5))
    params, state = plain.init(KEY, x)
    np.testing.assert_array_equal(dropping.apply(params, state, x)[0], plain.apply(params, state, x)[0])
    trained, _ = dropping.apply(params, state, x, key=KEY, train=True)
    q, k, v = (ops.linear(x, params[n]["w"]).reshape(2, 5, 2, 4) for n in "qkv")
    y = ops.attention(q, k, v, key=KEY, keep_prob=0.5, causal=True).reshape(2, 5, 8)
    np.testing.assert_allclose(trained, ops.linear(y, params["o"]["w"]), atol=1e-5)
    block = nn.TransformerBlock(2, attention_rate=0.25)
    assert "attention_keep_prob=0.75" in str(block)


def _apply(**options):
    layer, x = nn.MultiHeadAttention(2, attention_keep_prob=0.5), jnp.ones((2, 5, 8))
    return layer.apply(*layer.init(KEY, x), x, **options)


X = jnp.ones((2, 5, 4, 3))


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: ops.attention(X, X, X, keep_prob=0.5), ["attention: key is", "random key"]),
        (lambda: ops.attention(X, X, X, key=KEY, keep_prob=0.0), ["keep_prob is 0.0", "0 < keep_prob <= 1"]),
        (lambda: ops.attention(X, X, X, key=jax.random.split(KEY), keep_prob=0.5), ["must be one key"]),
        (lambda: nn.MultiHeadAttention(2, attention_rate=1.0), ["attention_rate", "[0, 1)"]),
        (lambda: _apply(train=True), ["MultiHeadAttention needs a key in training"]),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)
