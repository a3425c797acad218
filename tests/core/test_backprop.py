"""backprop and autodiff as a user meets them."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import dlfn
from dlfn import ops
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")
X, W = jnp.array([[0.3, -0.7], [1.2, 0.4], [-0.5, 0.9]]), jnp.array([[0.5, -0.2, 0.8], [0.1, 0.7, -0.4]])
LABELS = jnp.array([2, 0, 1])


def network(w, x):
    h = checkpoint_name(ops.linear(x, w["1"]), "z1")
    h = ops.tanh(h) + jnp.maximum(h, 0.1) ** 2 / jnp.exp(h)
    return ops.softmax_cross_entropy(ops.linear(h, w["2"]), LABELS)


PARAMS = {"1": W, "2": W.T @ W}


def looped(w, x):
    def step(carry, scale):
        value = lax.cond(carry > 0.5, jax.checkpoint(network), jax.jit(network), w, x * scale)
        return carry + 0.3 * jax.nn.relu(value), checkpoint_name(value, "step")

    carry, values = lax.scan(step, jnp.sum(x), jnp.array([0.5, 1.0, 1.5]), reverse=True)
    return carry + jnp.sum(jnp.sort(values))


@functools.cache
def gradient_by_jax(f):
    return jax.jit(jax.grad(f, (0, 1)))(*in_float64())


def in_float64():
    return jax.tree.map(lambda a: a.astype("float64"), (PARAMS, X))


@pytest.mark.parametrize("f", ordinarily([looped], [network, looped]))
@pytest.mark.parametrize("transform", [None, jax.jit, dlfn.autodiff], ids=["eager", "jit", "stripped"])
def test_backprop_agrees_with_jax(f, transform, x64):
    args, expected = in_float64(), gradient_by_jax(f)
    if transform is None:
        close(dlfn.backprop(f, (0, 1))(*args), expected)
    else:
        close(jax.jit(transform(dlfn.backprop(f, (0, 1))))(*args), expected)
        close(jax.jit(dlfn.backprop(transform(f), (0, 1)))(*args), expected)


def close(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-10, atol=1e-12)


def test_forms_mirror_jax():
    f = lambda x, y: (jnp.sum(x * y), {"extra": x})  # noqa: E731
    close(dlfn.backprop(f, (0, -1), has_aux=True)(X, X), jax.grad(f, (0, 1), has_aux=True)(X, X))
    close(dlfn.backprop_value_and_grad(f, has_aux=True)(X, X), jax.value_and_grad(f, has_aux=True)(X, X))
    value, back, aux = dlfn.backprop_vjp(lambda x: ({"y": jnp.sin(x)}, x), X, has_aux=True)
    close((value, back({"y": X}), aux), ({"y": jnp.sin(X)}, (X * jnp.cos(X),), X))
    assert dlfn.backprop(lambda x: 3.0)(2.0) == 0.0


def test_every_delta_has_a_name():
    gradient, deltas = dlfn.backprop(network, record=True)(PARAMS, X)
    assert list(deltas) == ["linear", "z1", "tanh", "linear#2", "softmax_cross_entropy"]
    # δ of the logits is (p − y) / m, and dW = hᵀ δ.
    h = ops.linear(X, PARAMS["1"])
    h = jnp.tanh(h) + jnp.maximum(h, 0.1) ** 2 / jnp.exp(h)
    delta = (jax.nn.softmax(h @ PARAMS["2"]) - jax.nn.one_hot(LABELS, 3)) / 3
    np.testing.assert_allclose(deltas["linear#2"], delta, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient["1"], X.T @ deltas["z1"], rtol=1e-5, atol=1e-7)
    _, deltas = jax.jit(dlfn.backprop(looped, record=True))(PARAMS, X)
    assert deltas["z1"].shape == (3, 3, 3)  # stacked over the steps
    assert deltas["step"].shape == (3,)


@jax.custom_vjp
def wrong_vjp(x):
    return x**2


wrong_vjp.defvjp(lambda x: (x**2, x), lambda x, dy: (5 * x * dy,))


@jax.custom_jvp
def wrong_jvp(x):
    return x**2


wrong_jvp.defjvp(lambda primals, tangents: (primals[0] ** 2, 5 * primals[0] * tangents[0]))


@pytest.mark.parametrize("f", [wrong_vjp, wrong_jvp])
def test_custom_rules_are_used_or_stripped(f):
    assert dlfn.backprop(f)(3.0) == jax.grad(f)(3.0) == 15.0
    assert dlfn.backprop(f, custom_rules="strip")(3.0) == 6.0
    assert jax.grad(dlfn.autodiff(f, custom_jvp=True))(3.0) == 6.0
    assert jax.grad(dlfn.autodiff(f))(3.0) == (6.0 if f is wrong_vjp else 15.0)
    assert not dlfn.compare(wrong_vjp)(3.0).ok


def test_autodiff_keeps_conventions_of_jax_nn_unless_asked():
    assert jax.grad(dlfn.autodiff(jax.nn.relu))(0.0) == 0.0
    assert jax.grad(dlfn.autodiff(jax.nn.relu, custom_jvp=True))(0.0) == 0.5


def test_autodiff_says_where_it_cannot():
    with pytest.raises(dlfn.InputError, match=r"test_backprop\.py.*differentiates"):
        dlfn.autodiff(jax.grad(network))(PARAMS, X)


def test_backprop_of_an_inner_gradient(x64):
    args = jax.tree.map(lambda a: a.astype("float64"), (PARAMS, X))
    f = lambda w, x: jnp.sum(jax.grad(network)(w, x)["1"] ** 2)  # noqa: E731
    close(*jax.jit(lambda *args: [way(f)(*args) for way in (dlfn.backprop, jax.grad)])(*args))


MISTAKES = {
    r"must return one floating-point scalar, got float32\[3\]": lambda: dlfn.backprop(jnp.sin)(jnp.ones(3)),
    r"argument 1\['n'\] is int32": lambda: dlfn.backprop(lambda a, b: a, (0, 1))(1.0, {"n": jnp.arange(3)}),
    "argnums=2 with 1 positional": lambda: dlfn.backprop(jnp.sin, 2)(1.0),
    "no rule for the primitive 'schur' .*test_backprop.py:.*register_rule": lambda: dlfn.backprop(
        lambda x: jnp.sum(lax.linalg.schur(x)[0])
    )(jnp.eye(2)),
    "while_loop cannot be run backwards.*test_backprop.py": lambda: dlfn.backprop(
        lambda x: lax.while_loop(lambda c: c < 3, lambda c: 2 * c, x)
    )(1.0),
    "custom_rules must be 'use' or 'strip', got 'no'": lambda: dlfn.backprop(jnp.sin, custom_rules="no")(1.0),
    r"is complex64; only real": lambda: dlfn.backprop(jnp.abs)(1j),
    r"cotangent of the value has shape \(3,\), but the value has \(2,\)": lambda: dlfn.backprop_vjp(
        jnp.sin, jnp.ones(2)
    )[1](jnp.ones(3)),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message):
    with pytest.raises(dlfn.InputError, match=message):
        MISTAKES[message]()


def test_a_rule_can_be_registered_and_is_checked():
    name = "cbrt"
    original = dlfn.core.rules.RULES[name]
    try:
        dlfn.register_rule(name, lambda dy, y, x, **_: 7.0 * dy)
        assert dlfn.backprop(jnp.cbrt)(1.0) == 7.0
        dlfn.register_rule(name, lambda dy, y, x, **_: jnp.ones(2))
        with pytest.raises(dlfn.InputError, match="rule of 'cbrt' returned a cotangent float32"):
            dlfn.backprop(jnp.cbrt)(1.0)
    finally:
        dlfn.register_rule(name, original)


def test_tripwire_backprop_never_enters_jax_autodiff(monkeypatch):
    """JAX's differentiation machinery raises; a rule that called it would trip."""

    def trip(*args, **kwargs):
        raise AssertionError("JAX's autodiff was entered")

    from jax._src.interpreters import ad as machinery

    for name in ("jvp", "linearize", "backward_pass", "linearize_jaxpr", "jvp_jaxpr", "linear_transpose"):
        if hasattr(machinery, name):
            monkeypatch.setattr(machinery, name, trip)
    for trace in ("JVPTrace", "LinearizeTrace"):
        monkeypatch.setattr(getattr(machinery, trace), "__init__", trip)
    jax.clear_caches()
    dlfn.backprop(looped)(PARAMS, X)
    jax.jit(dlfn.backprop(looped))(PARAMS, X)
    dlfn.backprop(wrong_jvp)(1.0)
    dlfn.backprop(wrong_vjp)(1.0)
    with pytest.raises(AssertionError, match="was entered"):
        jax.grad(network)(PARAMS, X)
    original = dlfn.core.rules.RULES["sin"]
    try:
        dlfn.register_rule("sin", lambda dy, y, x, **_: jax.vjp(jnp.sin, x)[1](dy))
        with pytest.raises(AssertionError, match="was entered"):
            dlfn.backprop(jnp.sin)(1.0)
    finally:
        dlfn.register_rule("sin", original)


def linear_recurrence(logarithm, x):
    """A diagonal recurrence with complex factors, as in state-space models, in all that contains other equations."""
    factor = jnp.exp(lax.complex(-jnp.exp(logarithm), 3 * logarithm))

    def step(h, x):
        h = jax.checkpoint(lambda h: factor * h + x)(h)
        return lax.cond(h[0].real > 0, lambda h: h, jax.jit(lambda h: 1j * h), h), jnp.sinc(jnp.abs(h))

    h, sizes = lax.scan(step, jnp.zeros_like(factor), x)
    return jnp.sum(h.imag) + jnp.sum(jnp.abs(jnp.fft.rfft(sizes, axis=0)) ** 2)


def test_complex_numbers_within_a_real_function(x64):
    args = np.array([-0.3, 0.2, 0.5]), np.array(W.T @ W, float)
    close(jax.jit(dlfn.backprop(linear_recurrence, (0, 1)))(*args), jax.grad(linear_recurrence, (0, 1))(*args))
    result = dlfn.compare(lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2))(X)
    assert result.ok
    assert "not available" not in str(result)


def test_complex_values_have_complex_cotangents():
    f = lambda x: (jnp.exp(1j * x), x)  # noqa: E731
    bar = (jnp.array([1 + 2j, 3 - 1j], "complex64"), jnp.ones(2))
    close(dlfn.backprop_vjp(f, X[0])[1](bar), jax.vjp(f, X[0])[1](bar))


def test_names_are_numbered_in_the_order_of_the_forward_pass():
    def f(x):
        for scale in (1.0, 2.0):
            x = jax.checkpoint(lambda x, scale=scale: checkpoint_name(scale * x, "h"))(x)
        x, _ = lax.scan(lambda c, s: (checkpoint_name(c * s, "h"), None), x, jnp.array([1.0, 3.0]))
        branches = (lambda x: checkpoint_name(5 * x, "h"), lambda x: jnp.sum(checkpoint_name(jnp.stack([x, x]), "h")))
        return checkpoint_name(7 * lax.cond(x > 0, *branches, x), "h")

    _, deltas = dlfn.backprop(f, record=True)(1.0)
    assert {name: np.asarray(delta).tolist() for name, delta in deltas.items()} == {
        "h": 2 * 3 * 5 * 7, "h#2": 3 * 5 * 7, "h#3": [3 * 5 * 7, 5 * 7], "h#4": [0, 0], "h#5": 7, "h#6": 1,
    }  # fmt: skip


@pytest.mark.parametrize("cotangent", [np.float32(3), 3.0, jnp.float32(3)], ids=["numpy", "python", "jax"])
def test_a_custom_vjp_may_return_any_kind_of_number(cotangent):
    @jax.custom_vjp
    def f(x):
        return 3 * x

    f.defvjp(lambda x: (3 * x, None), lambda _, dy: (cotangent,))
    assert dlfn.backprop(f)(1.0) == 3.0


def test_floats_by_keyword_are_configuration():
    x, key = jnp.ones(8), jax.random.key(0)
    value = ops.dropout(x, key, keep_prob=0.5)
    np.testing.assert_array_equal(dlfn.autodiff(ops.dropout)(x, key, keep_prob=0.5), value)
    assert dlfn.compare(ops.dropout)(x, key, keep_prob=0.5).ok
