"""Calculus against closed forms and jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import calculus
from dlfn.calculus import Pair, chain, cos, exp, log, power, product, quotient, sin, variable

pytestmark = pytest.mark.usefixtures("quick_compilation")

POINTS = np.linspace(0.3, 2.1, 7)
EXPRESSIONS = {
    "power": (lambda u: power(u, 3), lambda x: x**3),
    "negative power": (lambda u: power(u, -2), lambda x: x**-2.0),
    "real power": (lambda u: power(u, 2.5), lambda x: x**2.5),
    "constant": (lambda u: power(u, 0), lambda x: x**0),
    "product": (lambda u: product(sin(u), power(u, 2)), lambda x: jnp.sin(x) * x**2),
    "quotient": (lambda u: quotient(exp(u), cos(u)), lambda x: jnp.exp(x) / jnp.cos(x)),
    "chain": (chain(log, chain(exp, sin)), lambda x: jnp.log(jnp.exp(jnp.sin(x)))),
    "the same twice": (lambda u: product(u, product(u, u)), lambda x: x * x * x),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_rules_on_pairs(name, x64):
    ours, f = EXPRESSIONS[name]
    value, slope = ours(variable(POINTS))
    np.testing.assert_allclose(value, f(POINTS), rtol=1e-14)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(f))(POINTS), rtol=1e-12, atol=1e-14)


def test_the_rules_are_those_of_backprop(monkeypatch):
    monkeypatch.setitem(dlfn.core.rules.RULES, "sin", lambda g, y, x, **_: (42.0 * g,))
    assert sin(variable(1.0)).slope == 42.0
    assert dlfn.backprop(jnp.sin)(1.0) == 42.0


def test_gradient_partial_and_directional_of_the_document(x64):
    """000 section 4: f = (3x + 4y − 5)²."""
    f = lambda x, y: (3 * x + 4 * y - 5) ** 2  # noqa: E731
    x, y = 1.7, -0.4
    inner = 3 * x + 4 * y - 5
    np.testing.assert_allclose(calculus.gradient(f)(x, y), [6 * inner, 8 * inner], rtol=1e-14)
    np.testing.assert_allclose(calculus.partial(f, 1)(x, y), 8 * inner, rtol=1e-14)
    v = np.array([2.0, -1.0])
    got = calculus.directional(lambda p: f(p[0], p[1]))(np.array([x, y]), v)
    np.testing.assert_allclose(got, 12 * inner - 8 * inner, rtol=1e-13)


def test_jacobian_has_the_shape_of_output_and_input(x64):
    w = np.arange(6.0).reshape(2, 3)
    x = np.linspace(0, 1, 3)
    np.testing.assert_allclose(calculus.jacobian(lambda x: w @ x)(x), w)
    f = lambda x: jnp.outer(jnp.sin(x), x)  # noqa: E731
    np.testing.assert_allclose(calculus.jacobian(f)(x), jax.jacrev(f)(x), atol=1e-15)
    diagonal = calculus.jacobian(dlfn.ops.softplus)(x)
    np.testing.assert_allclose(diagonal, np.diag(1 / (1 + np.exp(-x))), atol=1e-15)


@pytest.mark.parametrize(
    ("method", "richardson", "bound"),
    [("forward", 0, 1e-7), ("central", 0, 1e-9), ("complex", 0, 1e-15), ("forward", 2, 1e-9), ("central", 2, 1e-12)],
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_finite_differences_reach_their_order(method, richardson, bound, scale, x64):
    """At large x too: the step grows with it."""
    x = np.linspace(0.1, 2, 9) * scale
    got = calculus.finite_difference(lambda x: jnp.sin(x / scale), method=method, richardson=richardson)(x)
    assert np.abs(got * scale - np.cos(x / scale)).max() < bound


def test_finite_differences_in_float32():
    x = np.linspace(0.1, 2, 9, dtype=np.float32)
    for method, bound in (("forward", 2e-3), ("central", 2e-4), ("complex", 2e-7)):
        got = calculus.finite_difference(jnp.sin, method=method)(x)
        assert got.dtype == jnp.float32
        assert np.abs(got - np.cos(x)).max() < bound


def test_the_limit_converges_at_its_order(x64):
    """Halving h halves the forward error and quarters the central one."""
    for method, ratio in (("forward", 2), ("central", 4)):
        errors = [
            float(calculus.finite_difference(jnp.exp, method=method, step=h)(1.0) - np.e) for h in (1e-2, 5e-3, 2.5e-3)
        ]
        np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], ratio, rtol=0.02)


@pytest.mark.parametrize(
    ("mistake", "part"),
    [
        (lambda: calculus.finite_difference(jnp.sin, method="backward"), "'forward', 'central' or 'complex'"),
        (lambda: calculus.finite_difference(jnp.sin, step=0.0), "step is 0.0"),
        (lambda: calculus.finite_difference(jnp.sin, method="complex", richardson=1), "no error"),
        (lambda: variable(1), "pass 1.0"),
        (lambda: calculus.directional(jnp.sum)(jnp.ones(2), jnp.ones(3)), "(3,)"),
        (lambda: product(Pair(1, 0), variable(1.0)), "floating point"),
    ],
)
def test_mistakes(mistake, part):
    with pytest.raises(dlfn.InputError) as caught:
        mistake()
    assert part in str(caught.value)
