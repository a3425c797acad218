"""Attention's windows, sinks and segments: bad arguments, what no window shows, memory, and nothing seen at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlfn import InputError, ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.ones((2, 5, 4, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window is 0, and must be a positive int"),
        ({"window": 2.0}, "window is 2.0, and must be a positive int"),
        ({"soft_cap": 0.0}, "soft_cap is 0.0, and must be a positive number"),
        ({"soft_cap": float("inf")}, "soft_cap is inf, and must be a positive number"),
        ({"sinks": jnp.ones(3)}, r"sinks is float32\[3\], and must be one number for each of the 4 heads"),
        ({"sinks": jnp.ones(4, int)}, "sinks is int32.*must be floating point"),
        ({"segments": jnp.ones((2, 5))}, r"segments is float32\[2, 5\], and must be integers"),
        ({"segments": jnp.ones((2, 4), int)}, r"segments is int32\[2, 4\], and must broadcast to \[2, 5\]"),
        ({"key_segments": jnp.ones((2, 5), int)}, "key_segments is given and segments is not"),
        ({"k": X[:, :4], "v": X[:, :4], "segments": jnp.ones((2, 5), int)}, "give key_segments, too"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        ops.attention(**({"q": X, "k": X, "v": X} | arguments))


def test_keys_before_every_window_do_not_matter():
    q, k = jnp.ones((2, 1, 1)), jnp.ones((9, 1, 1))
    hidden = k.at[:5].set(jnp.nan)
    seen = lambda q, k, v: ops.attention(q, k, v, causal=True, window=3, block=1)  # noqa: E731
    for given in (hidden, jnp.where(jnp.isnan(hidden), 7.0, hidden)):
        y, pullback = jax.vjp(seen, q, given, given)
        np.testing.assert_array_equal(y, jnp.ones_like(q))
        for cotangent in pullback(jnp.ones_like(q)):
            assert jnp.isfinite(cotangent).all()


@pytest.mark.parametrize("sink", [-jnp.inf, 0.0, 5.0])
def test_a_row_without_keys_gives_its_weight_to_the_sink(sink):
    q, v, sinks = jnp.ones((2, 1, 1)), jnp.array([[[2.0]]]), jnp.array([sink])
    of = lambda *args: ops.attention(args[0], args[0][:1], args[1], None, None, args[2], causal=True)  # noqa: E731
    y, pullback = jax.vjp(of, q, v, sinks)
    weight = float(jax.nn.sigmoid(1 - sink))
    np.testing.assert_allclose(y.ravel(), [0, 2 * weight], rtol=1e-6)
    _, dv, dsinks = pullback(jnp.ones_like(y))
    np.testing.assert_allclose(dv.ravel(), [weight], rtol=1e-6)
    np.testing.assert_allclose(dsinks, [-2 * weight * (1 - weight)], rtol=1e-5, atol=1e-7)


def test_a_window_takes_memory_linear_in_the_queries():
    def bytes_for(steps):
        x = jax.ShapeDtypeStruct((steps, 1, 8), jnp.float32)
        loss = lambda q, k, v: jnp.sum(ops.attention(q, k, v, causal=True, window=64))  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert bytes_for(8192) < 2.2 * bytes_for(4096)
