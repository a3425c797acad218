"""compare as a user meets it: what it finds, what it lets pass, and what it says."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

import dlfn
from dlfn import ops
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation", "unaudited")

X, W = jnp.array([[0.3, -0.7], [1.2, 0.4], [-0.5, 0.9]]), jnp.array([[0.5, -0.2, 0.8], [0.1, 0.7, -0.4]])


def network(w, x):
    h = ops.linear(x, w["1"])
    h = ops.tanh(h) + jnp.maximum(h, 0.1) ** 2 / jnp.exp(h)
    return ops.softmax_cross_entropy(ops.linear(h, w["2"]), jnp.array([2, 0, 1]))


@jax.custom_jvp
def wrong_jvp(x):
    return x**2


wrong_jvp.defjvp(lambda primals, tangents: (primals[0] ** 2, 5 * primals[0] * tangents[0]))


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


def test_compare_prints_a_table_and_finds_what_is_wrong():
    result = dlfn.compare(network)({"1": W, "2": W.T @ W}, X)
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


@pytest.mark.parametrize("name", ordinarily(ZERO.keys() - {"a shift of logits"}, ZERO))
def test_compare_takes_rounding_for_zero(name):
    f, args, leaf = ZERO[name]
    result = dlfn.compare(f)(*args)
    assert result.ok, result
    (row,) = [row for row in result.rows if row.path == leaf]
    assert row.norm < 1e-15
    assert ("0 but for rounding" in str(result)) == (row.norm > 0)

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


NOT_LINEAR = {
    "drops": jnp.ones_like,
    "squares": jnp.square,
    "takes the absolute value": jnp.abs,
    "takes the sign": jnp.sign,
    "clips": lambda dy: jnp.clip(dy, -1, 1),
    "clips what is large": lambda dy: jnp.clip(dy, -100, 100),
    "cuts": lambda dy: jnp.maximum(dy, 0),
    "normalises": lambda dy: dy / jnp.sqrt(jnp.sum(dy**2)),
    "rounds": lambda dy: dy.astype(jnp.bfloat16).astype(dy.dtype),
}
OUTPUTS = {
    "a number": lambda x: jnp.sum(jnp.sin(x)),
    "one entry": lambda x: jnp.sum(jnp.sin(x), keepdims=True),
    "an array": jnp.sin,
}


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        # Every kind with one of the outputs, and every output with several kinds.
        pytest.param(kind, output, marks=() if i % 3 == j else pytest.mark.exhaustive)
        for i, kind in enumerate(NOT_LINEAR)
        for j, output in enumerate(OUTPUTS)
    ],
)
def test_compare_finds_a_backward_that_is_not_linear_in_its_cotangent(kind, output):
    f, change = OUTPUTS[output], NOT_LINEAR[kind]

    def backward(x, dy):
        return (change(dy) * jnp.cos(x),)

    wrong = jax.custom_vjp(f)
    wrong.defvjp(lambda x: (f(x), x), backward)
    result = dlfn.compare(lambda x: wrong(x))(X[0])
    assert not result
    assert result.rows[0].linearity > 1e-6


def test_compare_finds_an_op_that_is_not_linear_beside_another_output_whose_rule_is_right():
    wrong = dlfn.Op(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.abs(dy) * jnp.cos(x),), name="wrong")
    result = dlfn.compare(lambda x: (jnp.sum(x**2), wrong(x)))(X[0])
    assert not result
    assert result.rows[0].linearity > 1e-6


@pytest.mark.parametrize("output", OUTPUTS)
def test_compare_finds_no_fault_in_a_backward_that_is_linear(output):
    assert dlfn.compare(OUTPUTS[output])(X[0]).rows[0].linearity < 1e-14


def test_compare_says_that_a_rule_is_not_linear_and_shows_gradients_as_jax_grad_does():
    square = jax.custom_vjp(lambda x: jnp.sum(x**2))
    square.defvjp(lambda x: (jnp.sum(x**2), x), lambda x, dy: (2 * x * jnp.abs(dy),))
    result = dlfn.compare(square)(jnp.array([1.0, 3.0]))
    assert result.rows[0].norm == 6
    assert "not linear in its cotangent" in str(result)


def test_compare_finds_a_nan_that_no_op_can_repair():
    """Trap 7: the unchosen branch of a where still takes part in the gradient."""
    result = dlfn.compare(lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0)))(jnp.array([0.0, 1.0]))
    assert not result.ok
    assert result.rows[0].hand is None
    assert "[0]: nan" in str(result)


def test_compare_covers_what_backprop_cannot():
    halved = Primitive("halved")
    halved.def_abstract_eval(lambda x: x)
    ad.deflinear(halved, lambda dy: [dy / 2])
    mlir.register_lowering(halved, mlir.lower_fun(lambda x: x / 2, multiple_results=False))
    result = dlfn.compare(lambda x: halved.bind(x))(X)
    assert result.ok
    assert result.rows[0].backprop is None
    assert "no rule for the primitive 'halved'" in str(result)
    with pytest.raises(dlfn.InputError, match="no argument is a floating-point array"):
        dlfn.compare(lambda n: n)(3)


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
    "dtype": (lambda: dlfn.compare(jnp.sin, dtype="flot64"), ["dtype is 'flot64'", "a floating-point dtype"]),
    "integers": (lambda: dlfn.compare(jnp.sin, dtype="int32"), ["dtype is 'int32'", "a floating-point dtype"]),
    "no gradient": (lambda: dlfn.compare(jnp.argmax)(X), ["returns no floating-point array"]),
    "tolerance": (lambda: dlfn.compare(jnp.sin, tolerance=-1), ["tolerance is -1", "a positive number"]),
    "nan": (lambda: dlfn.compare(jnp.sin, tolerance=float("nan")), ["tolerance is nan", "a positive number"]),
    "coordinates": (lambda: dlfn.compare(jnp.sin, coordinates=-1), ["coordinates is -1", "0 or more"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_compare_refuses(name, refused):
    refused(*REFUSED[name])
