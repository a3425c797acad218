"""compare in float32, bfloat16 and float16: what rounding explains passes, and what it does not fails."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import dlfn
from dlfn import ops
from dlfn.check import rounding
from dlfn.check.measures import cotangents
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation", "unaudited")

RNG = np.random.default_rng(0)
A, B = jnp.asarray(RNG.normal(size=(6, 96)), "float32"), jnp.asarray(RNG.normal(size=(96, 5)), "float32")
X = jnp.asarray(RNG.normal(size=(4, 16)), "float32")


def matmul(backward):
    rule = jax.custom_vjp(jnp.matmul)
    rule.defvjp(lambda a, b: (a @ b, (a, b)), backward)
    return rule


def summed_by_steps(dtype):
    """The cotangent of b as a sum over rows, one after the other in a dtype."""

    def backward(kept, dy):
        a, b = kept

        def step(total, row):
            a, dy = row
            return total + (a[:, None] * dy[None]).astype(dtype), None

        db, _ = lax.scan(step, jnp.zeros(b.shape, dtype), (a, dy))
        return dy @ b.T, db.astype(b.dtype)

    return backward


MANY = jnp.asarray(RNG.normal(size=(400, 4)), "float32"), jnp.asarray(RNG.normal(size=(4, 8)), "float32")
RULES = {  # a rule, its arguments, the dtype, and whether it is right
    "a product": (ops.matmul, (A, B), "float32", True),
    "a long product": (jnp.matmul, (jnp.tile(A, 40), jnp.tile(B, (40, 1))), "float32", True),
    "a product off by 1e-6": (
        matmul(lambda kept, dy: (dy @ kept[1].T * (1 + 1e-6), kept[0].T @ dy)), (A, B), "float32", False,
    ),
    "a product off by 1 %": (
        matmul(lambda kept, dy: (dy @ kept[1].T, kept[0].T @ dy * 1.01)), (A, B), "bfloat16", False,
    ),
    "steps in float32": (matmul(summed_by_steps("float32")), MANY, "bfloat16", True),
    "steps in bfloat16": (matmul(summed_by_steps("bfloat16")), MANY, "bfloat16", False),
    "softmax": (ops.softmax, (X,), "bfloat16", True),
    "a cumulative sum": (jnp.cumsum, (MANY[0].ravel(),), "float16", True),
    "layer_norm": (ops.layer_norm, (X, X[0], X[1]), "float16", True),
    "zero but for rounding": (lambda x, b: ops.softmax(x + b), (X, 0.5), "bfloat16", True),
}  # fmt: skip


FEW = RULES.keys() - {"a long product", "steps in float32", "softmax"}


@pytest.mark.parametrize("name", ordinarily(FEW, RULES))
def test_verdict(name):
    f, args, dtype, right = RULES[name]
    result = dlfn.compare(lambda *args: f(*args), dtype=dtype)(*args)
    assert result.ok == right, result
    assert all(row.hidden > 0 for row in result.rows)
    assert "hidden" in str(result)


def recurrent(x, w):
    h, _ = lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length=3)
    return jax.checkpoint(lambda h: jnp.where(h > 0, h, jnp.linalg.solve(w, h.T).T))(h)


def branched(x, w):
    x = lax.cond(x[0, 0] > 9, lambda x: 0.0 * x, jnp.sin, x)
    return lax.fori_loop(0, 3, lambda i, x: jnp.sin(x) * w[0, 0], x)


def scattered(x, w):
    return jnp.zeros((5, 4), x.dtype).at[jnp.array([0, 1, 1])].add(x) @ w + jnp.abs(jnp.fft.fft(x)).sum()


@pytest.mark.parametrize("f", [recurrent, branched, scattered])
def test_without_rounding_is_float64(f):
    """The program traced in float32, run in float64, is the one traced in float64, through loops, branches and what
    holds programs of its own."""
    point = [X[:3, :4], X[:, :4]]
    program = jax.value_and_grad(lambda point: jnp.sum(f(*point)))
    found = rounding.scatter(program, point)
    with jax.enable_x64(True):
        expected = jax.jit(program)([x.astype("float64") for x in point])
    for i, (got, right) in enumerate(zip(found.exact, jax.tree.leaves(expected), strict=True)):
        np.testing.assert_allclose(got, right, rtol=1e-12)
        assert 1e-9 < found.largest[i] / np.max(np.abs(right)) < 1e-3


def test_dropout_has_the_mask_that_people_run():
    """Random bits are drawn as in float32, where float64 would draw others."""

    def dropped(x):
        return x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)

    result = dlfn.compare(dropped, dtype="float32")(X)
    assert result.ok
    (gradient,) = jax.vjp(dropped, X)[1](cotangents(X, 0)[0])
    assert result.rows[0].norm == pytest.approx(float(jnp.max(jnp.abs(gradient))), rel=1e-6)


def test_errors_differ_between_the_steps_of_a_loop():
    """Were they the same, they would add up to at least half a unit of each of the 64 partial sums, 16 of the last."""

    def total(point):
        return [lax.scan(lambda t, x: (t + x, None), jnp.float32(0), point[0])[0]]

    found = rounding.scatter(total, [jnp.ones(64)])
    assert found.exact[0] == 64
    assert 0.5 < found.largest[0] / 64 / rounding.unit("float32") < 14


NARROW = {
    "a cast": (lambda x: jax.nn.softmax(x.astype(jnp.float32)), X, r"computes in float32 \(.*test_low_precision"),
    "a closure": (lambda x: ops.tanh(X) * x, 2.0, "on an array that is no argument"),
}


@pytest.mark.parametrize("name", NARROW)
def test_what_computes_in_float32_is_compared_in_float32(name):
    f, x, message = NARROW[name]
    result = dlfn.compare(f)(x)
    assert result.ok, result
    assert result.dtype == "float32"
    assert re.search(message, result.notes[0])


def test_exact_numbers_in_narrow_dtypes_do_not_leave_float64():
    labels = jnp.array([0, 1, 1, 0])
    result = dlfn.compare(lambda x: jnp.sum(jax.nn.one_hot(labels, 16, dtype="float32") * x))(X)
    assert result.ok
    assert result.dtype == "float64"


def sine(cast):
    rule = jax.custom_vjp(lambda x: jnp.sin(x))
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: ((dy * jnp.cos(x)).astype(cast),))
    return rule


def test_a_cotangent_of_another_dtype_fails():
    result = dlfn.compare(lambda x: jnp.sum(lax.map(sine("float32"), x)), dtype="bfloat16")(X)
    assert not result
    assert "test_low_precision.py" in result.notes[0]
    assert "returns a float32 cotangent for its argument 0, which is bfloat16" in result.notes[0]
    assert dlfn.compare(sine("bfloat16"), dtype="bfloat16")(X)
