"""Comparisons in which an opinion is missing, or the definition is wrong: the verdict stands on the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas

import dlfn
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation", "unaudited")

X, A = jnp.array([0.5, 1.5, 2.5]), jnp.eye(3) * 3 + 0.3


def rule(f, slope, error=0.0):
    """f with a hand-written slope; one coordinate is off by the relative error."""
    hand = jax.custom_vjp(f)
    hand.defvjp(lambda x: (f(x), x), lambda x, dy: ((dy * slope(x)).at[1].multiply(1 + error),))
    return hand


def newton(a):
    return lax.while_loop(lambda s: jnp.max(jnp.abs(s * s - a)) > 1e-13, lambda s: 0.5 * (s + a / s), jnp.ones_like(a))


def half_over_root(a):
    return 0.5 / jnp.sqrt(a)


def outside(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


def kernel(x):
    def body(x, y):
        y[...] = jnp.sin(x[...])

    return pallas.pallas_call(body, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def solved(a, b):
    def solve(matvec, b):
        return jnp.linalg.solve(a, b)

    return lax.custom_linear_solve(lambda v: a @ v, b, solve, lambda matvec, b: jnp.linalg.solve(a.T, b))


def by_value(x):
    return jnp.sum(x**2) if x[0] > 0 else jnp.sum(x)


@jax.custom_vjp
def unfinished(x):
    return jnp.sin(x)


def _unfinished_backward(x, dy):
    raise RuntimeError("this rule is not written yet")


unfinished.defvjp(lambda x: (jnp.sin(x), x), _unfinished_backward)


MISSING = {  # function, arguments, whether it is right, what the comparison says
    "a loop": (rule(newton, half_over_root), (X,), True, "autodiff: not available: ValueError: Reverse-mode"),
    "a loop, wrong": (rule(newton, half_over_root, 1e-3), (X,), False, "finite diff. [1]: "),
    "a callback": (rule(outside, jnp.cos), (X,), True, "autodiff: not available: ValueError: Pure callbacks"),
    "a callback, wrong": (rule(outside, jnp.cos, 1e-3), (X,), False, "finite diff. [1]: "),
    "a kernel": (rule(kernel, jnp.cos), (X,), True, "autodiff: not available"),
    "a kernel, wrong": (rule(kernel, jnp.cos, 1e-4), (X,), False, "finite diff. [1]: "),
    "a linear solve": (solved, (A, X), True, "all gradients agree"),
    "a rule that raises": (unfinished, (X,), False, "hand rule: not available: RuntimeError: this rule is not written"),
    "control flow by values": (by_value, (X,), True, "autodiff: not available: TracerBoolConversionError"),
}


@pytest.mark.parametrize("name", ordinarily(MISSING.keys() - {"a callback, wrong", "a kernel, wrong"}, MISSING))
def test_what_cannot_be_had_is_named_and_the_others_decide(name):
    f, args, right, words = MISSING[name]
    result = dlfn.compare(f)(*args)
    assert result.ok == right, result
    assert words in str(result)


def test_the_line_is_the_users():
    assert "test_opinions.py:" in str(dlfn.compare(unfinished)(X))
    assert "test_opinions.py:" in str(dlfn.compare(by_value)(X))


def test_a_reference_takes_the_place_of_the_definition():
    assert dlfn.compare(rule(kernel, jnp.cos), reference=jnp.sin)(X)
    wrong = dlfn.compare(rule(kernel, jnp.cos, 1e-9), reference=jnp.sin)(X)  # less than finite differences see
    assert not wrong
    assert "|reference|" in str(wrong)
    assert "against the reference" in str(wrong)
    assert not dlfn.compare(rule(jnp.sin, jnp.cos), reference=lambda x: jnp.sin(x) + 1e-3)(X).value_ok
    # A reference whose own derivative is a hand rule over what cannot be differentiated serves as it is.
    assert dlfn.compare(jnp.sqrt, reference=rule(newton, half_over_root))(X)


def test_a_reference_of_other_outputs_is_refused(refused):
    refused(
        lambda: dlfn.compare(jnp.sin, reference=jnp.sum)(X),
        ["compare: reference returns", "float64[]", "must return what the function does", "float64[3]"],
    )


def quotient(x):
    return jnp.where(x == 0, 1.0, jnp.sin(x) / x)


def its_slope(x):
    safe = jnp.where(x == 0, 1.0, x)
    return jnp.where(x == 0, 0.0, (x * jnp.cos(x) - jnp.sin(x)) / safe**2)


def test_the_definition_is_named_where_it_is_at_fault():
    x = jnp.array([0.5, 0.7, 0.0])
    result = dlfn.compare(rule(quotient, its_slope))(x)
    assert result.ok
    assert result.rows[0].culprit == "[2]"
    assert "the definition is wrong" in str(result)
    assert "does not, at x[2]" in str(result)
    assert not dlfn.compare(rule(quotient, its_slope, 1e-3))(x)  # wrong beside it
    assert not dlfn.compare(rule(quotient, lambda x: its_slope(x) + (x == 0)))(x)  # wrong there


@pytest.mark.parametrize("tolerance", [1e-6, 1e-12])
def test_a_definition_by_iteration_is_at_fault(tolerance):
    """Autodiff of a bisection, which compares numbers, is 0, and its values are a staircase."""

    def cube_root(a):
        def halved(ends, _):
            middle = (ends[0] + ends[1]) / 2
            above = middle**3 > a
            return (jnp.where(above, ends[0], middle), jnp.where(above, middle, ends[1])), None

        length = int(np.ceil(np.log2(2 / tolerance)))
        return lax.scan(halved, (jnp.zeros_like(a), 2 + 0 * a), length=length)[0][0]

    slope = lambda a: 1 / (3 * jnp.cbrt(a) ** 2)  # noqa: E731
    a = jnp.array([1.5, 3.1])
    assert dlfn.compare(rule(cube_root, slope))(a).rows[0].culprit
    assert not dlfn.compare(rule(cube_root, lambda a: 1.01 * slope(a)))(a)


def test_a_definition_that_stops_its_gradient_does_not_excuse_a_rule():
    """Nor does a rule that is right by its definition, and not the slope of the value, pass."""
    stopped = rule(lambda x: x * lax.stop_gradient(x), lambda x: x)
    assert not dlfn.compare(stopped)(X)
    assert dlfn.compare(rule(lambda x: x * lax.stop_gradient(x), lambda x: 2 * x))(X).rows[0].culprit


def test_what_cannot_run_in_float64_is_compared_in_its_own_dtype():
    def summed(x):
        return lax.scan(lambda total, x: (total + x, None), jnp.float32(0), x)[0]

    result = dlfn.compare(summed)(X.astype("float32"))
    assert result.ok
    assert result.dtype == "float32"
    assert "float64: not available: TypeError: scan body function carry" in str(result)


def test_nothing_to_compare_is_no_agreement(refused):
    refused(lambda: dlfn.compare(newton)(X), ["compare: there is no gradient to compare", "hand rule: not available"])
    alone = dlfn.compare(rule(outside, jnp.cos), dtype="float32")(X)  # no finite differences in narrow dtypes
    assert not alone
    assert "nothing to compare the hand rule with; pass reference=" in str(alone)
