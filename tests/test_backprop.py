"""backprop, autodiff and compare as a user meets them."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import dlfn
from dlfn import ops

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


@pytest.mark.parametrize("f", [network, looped])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, dlfn.autodiff], ids=["eager", "jit", "stripped"])
def test_backprop_agrees_with_jax(f, transform, x64):
    args = jax.tree.map(lambda a: a.astype("float64"), (PARAMS, X))
    expected = jax.grad(f, (0, 1))(*args)
    close(transform(dlfn.backprop(f, (0, 1)))(*args), expected)
    close(dlfn.backprop(transform(f), (0, 1))(*args), expected)


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


def test_compare_says_which_rules_it_keeps():
    x = jnp.array(3.0)
    kept = dlfn.compare(lambda x: jax.nn.relu(wrong_jvp(x)), dtype="float32")(x)
    assert kept.ok
    assert "the custom_jvp rules of wrong_jvp; custom_jvp=True" in str(kept)
    assert not dlfn.compare(wrong_jvp, dtype="float32", custom_jvp=True)(x)
    assert dlfn.compare(jax.nn.relu)(x).notes == ()
    by_parts = jax.custom_jvp(lambda x: x**2)
    by_parts.defjvps(lambda dx, y, x: 5 * x * dx)
    assert "custom_jvp" in dlfn.compare(by_parts, dtype="float32")(x).notes[0]
    assert "finite differences" not in str(kept)


def test_autodiff_keeps_conventions_of_jax_nn_unless_asked():
    assert jax.grad(dlfn.autodiff(jax.nn.relu))(0.0) == 0.0
    assert jax.grad(dlfn.autodiff(jax.nn.relu, custom_jvp=True))(0.0) == 0.5


def test_autodiff_says_where_it_cannot():
    with pytest.raises(dlfn.InputError, match=r"test_backprop\.py.*differentiates"):
        dlfn.autodiff(jax.grad(network))(PARAMS, X)


def test_backprop_of_an_inner_gradient(x64):
    args = jax.tree.map(lambda a: a.astype("float64"), (PARAMS, X))
    f = lambda w, x: jnp.sum(jax.grad(network)(w, x)["1"] ** 2)  # noqa: E731
    close(dlfn.backprop(f)(*args), jax.grad(f)(*args))


MISTAKES = {
    r"must return one floating-point scalar, got float32\[3\]": lambda: dlfn.backprop(jnp.sin)(jnp.ones(3)),
    r"argument 1\['n'\] is int32": lambda: dlfn.backprop(lambda a, b: a, (0, 1))(1.0, {"n": jnp.arange(3)}),
    "argnums=2 with 1 positional": lambda: dlfn.backprop(jnp.sin, 2)(1.0),
    "no rule for the primitive 'cholesky' .*test_backprop.py:.*register_rule": lambda: dlfn.backprop(
        lambda x: jnp.sum(lax.linalg.cholesky(x))
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


def test_compare_prints_a_table_and_finds_what_is_wrong():
    result = dlfn.compare(network)(PARAMS, X)
    assert result.ok, result
    assert [row.path for row in result.rows] == ["w['1']", "w['2']", "x"]
    assert "all gradients agree" in str(result)

    @jax.custom_vjp
    def slightly_wrong(x):
        return jnp.sum(x**2)

    slightly_wrong.defvjp(lambda x: (jnp.sum(x**2), x), lambda x, dy: (2 * x * dy * jnp.array([1, 1.0001, 1]),))
    result = dlfn.compare(slightly_wrong)(jnp.array([1.0, 2.0, 3.0]))
    assert not result  # so that `assert dlfn.compare(f)(x)` is a test
    assert "[1]: 4.0004 instead of 4" in str(result)
    assert "NOT ALL GRADIENTS AGREE" in str(result)
    # Nor does it hide beside a leaf whose gradient is a thousand times as large.
    assert not dlfn.compare(lambda x, y: 1e-3 * slightly_wrong(x) + y)(jnp.array([0.1, 0.2, 0.3]), 1.0)


def normalised(params, x):
    h = x @ params["w"] + params["b"]
    return ops.tanh((h - jnp.mean(h, axis=0)) / jnp.std(h, axis=0)) @ params["w"].T


def attended(key_bias, x):
    return ops.attention(x[None, :, None], (x + key_bias)[None, :, None], x[None, :, None], causal=True)


def shifted(shift, x):
    return ops.softmax_cross_entropy(x + shift, jnp.array([0, 1, 1]))


ZERO = {  # gradients that are 0 but for rounding
    "a bias before a normalisation": (normalised, ({"w": W, "b": jnp.array([0.3, -0.2, 0.1])}, X), "params['b']"),
    "the keys' bias": (attended, (jnp.array([0.3, -0.2]), X), "key_bias"),
    "a shift of logits": (shifted, (0.5, X), "shift"),
    "nothing beside it": (lambda shift: shifted(shift, X.astype(shift.dtype)), (0.5,), "shift"),
}


@pytest.mark.parametrize("name", ZERO)
def test_compare_takes_rounding_for_zero(name):
    f, args, leaf = ZERO[name]
    result = dlfn.compare(f)(*args)
    assert result.ok, result
    (row,) = [row for row in result.rows if row.path == leaf]
    assert row.norm < 1e-15
    assert ("ok: 0 but for rounding" in str(result)) == (row.norm > 0)

    @jax.custom_vjp
    def leaking(args):  # 1e-9 where 0 is right
        return f(*args)

    leaking.defvjp(
        lambda args: jax.vjp(lambda args: f(*args), args),
        lambda pull, dy: (jax.tree.map(lambda dx: dx + 1e-9, pull(dy)[0]),),
    )
    assert not dlfn.compare(lambda *args: leaking(args))(*args)


def scaled_rule(f, scale):
    """f under a rule whose gradient is that of f times ``scale``."""
    wrong = jax.custom_vjp(f)
    wrong.defvjp(lambda x: (f(x), x), lambda x, dy: (scale * dy.astype(x.dtype) * jax.grad(f)(x),))
    return wrong


SINES = scaled_rule(lambda x: jnp.sum(jnp.sin(x)), 1.001)
ROOT = scaled_rule(lambda eps: jnp.sum(X / jnp.sqrt(X**2 + eps)), -1.0)
SMALL = scaled_rule(lambda y: jnp.sum(0.03 * y), -1.0)
HIDDEN = {  # wrong rules whose error is small beside something else
    "a steep leaf": (lambda x, var: SINES(x) + 1e-6 * jnp.sum(x**2) / var, (X[0], 1e-5), "float64"),
    "a short leaf": (lambda x, scale: SINES(x) + jnp.log(scale), (X[0], 1e-12), "float64"),
    "a small argument": (ROOT, (1e-16,), "float64"),
    "few digits": (lambda x, y: jnp.sum(2 * x) + SMALL(y), (X[0].astype("bfloat16"), X[1].astype("bfloat16")), None),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_compare_does_not_take_wrong_rules_for_rounding(name):
    f, args, dtype = HIDDEN[name]
    assert not dlfn.compare(f, dtype=dtype)(*args)


def test_compare_finds_a_nan_that_no_op_can_repair():
    """Trap 7: the unchosen branch of a where still takes part in the gradient."""
    result = dlfn.compare(lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0)))(jnp.array([0.0, 1.0]))
    assert not result.ok
    assert result.rows[0].hand is None
    assert "[0]: nan" in str(result)


def test_compare_covers_what_backprop_cannot():
    result = dlfn.compare(lambda x: lax.linalg.cholesky(x @ x.T + jnp.eye(2)))(X[:2])
    assert result.ok
    assert result.rows[0].backprop is None
    assert "no rule for the primitive 'cholesky'" in str(result)
    with pytest.raises(dlfn.InputError, match="no argument is a floating-point array"):
        dlfn.compare(lambda n: n)(3)
    for dtype in ("flot64", "int32"):
        with pytest.raises(dlfn.InputError, match=f"dtype is '{dtype}', and must be a floating-point dtype"):
            dlfn.compare(jnp.sin, dtype=dtype)


def test_backprop_refuses_complex_intermediates():
    f = lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2)  # noqa: E731
    with pytest.raises(dlfn.InputError, match=r"'fft' makes a complex64 of a real input .*test_backprop\.py"):
        dlfn.backprop(f)(X)
    result = dlfn.compare(f)(X)
    assert result.ok
    assert "not compared: backprop: 'fft'" in str(result)


def test_compare_tells_a_wrong_forward_and_a_kink_from_a_wrong_rule():
    wrong = dlfn.Op(jnp.sin, lambda x: (1.01 * jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,), name="wrong")
    result = dlfn.compare(lambda x: wrong(x))(X)
    assert not result.ok
    assert "the VALUE is not that of the definitions" in str(result)
    result = dlfn.compare(lambda x: jnp.sum(ops.relu(x)))(jnp.array([0.0, 2.0]))
    assert not result.ok
    assert "finite diff. [0]: 0.5 instead of 0" in str(result)
    assert "a step crossed a kink" in str(result)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", None])
def test_compare_in_narrow_dtypes(dtype):
    result = dlfn.compare(lambda x: ops.gelu(x), dtype=dtype)(X)
    assert result.ok, result
    assert result.rows[0].finite_difference is None


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


HARD_TO_DIFFERENCE = {
    "a domain": (jnp.log, jnp.array([1e-4, 2.0])),
    "a large value": (lambda x: 1e8 + jnp.sin(x), jnp.array([0.3])),
    "small inputs": (lambda x: jnp.sum(jnp.sin(1e7 * x)), jnp.array([1e-7, 2e-7])),
}


@pytest.mark.parametrize("name", HARD_TO_DIFFERENCE)
def test_compare_gives_no_false_alarm_at(name):
    f, x = HARD_TO_DIFFERENCE[name]
    result = dlfn.compare(f)(x)
    assert result.ok, result


ADVICE = {
    "a cast": (lambda x: jax.nn.softmax(x.astype(jnp.float32)), X, r"computes in float32 \(.*\): pass dtype=None"),
    "a closure": (lambda x: ops.tanh(X) * x, 2.0, r"float32 \(.*\), on an array that is no argument: pass it as one"),
    "nan": (ops.gelu, jnp.array([1.0, jnp.nan]), "value by the definitions is nan, .*: x is not finite"),
    "inf": (lambda x: jnp.sum(1 / x), jnp.zeros(1), "value by the definitions is inf, .*look at the definitions"),
}


@pytest.mark.parametrize("name", ADVICE)
def test_compare_says_what_the_cause_may_be(name):
    f, x, message = ADVICE[name]
    result = dlfn.compare(f)(x)
    assert not result
    assert re.search(message, str(result))
    assert "look at the forward" not in str(result)


def test_compare_leaves_finite_differences_out():
    result = dlfn.compare(jnp.sin, coordinates=0)(X)
    assert result
    assert result.rows[0].finite_difference is None


REFUSED = {
    "no gradient": (lambda: dlfn.compare(jnp.argmax)(X), ["returns no floating-point array"]),
    "tolerance": (lambda: dlfn.compare(jnp.sin, tolerance=-1), ["tolerance is -1", "a positive number"]),
    "nan": (lambda: dlfn.compare(jnp.sin, tolerance=float("nan")), ["tolerance is nan", "a positive number"]),
    "coordinates": (lambda: dlfn.compare(jnp.sin, coordinates=-1), ["coordinates is -1", "0 or more"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_compare_refuses(name, refused):
    refused(*REFUSED[name])
