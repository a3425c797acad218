"""compare of a rule's own derivative, of what is not deterministic, within a time, and of what cannot be compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import dlfn
from dlfn import ops

pytestmark = pytest.mark.usefixtures("quick_compilation", "unaudited")

X = jnp.array([0.5, 1.5, 2.5])


def sine(slope):
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (dy * slope(x),))
    return rule


def test_a_rule_that_is_right_but_for_its_own_derivative():
    stopped = sine(lambda x: lax.stop_gradient(jnp.cos(x)))
    assert dlfn.compare(stopped)(X)
    result = dlfn.compare(stopped, order=2)(X)
    assert [(row.path, row.ok) for row in result.rows] == [("x", True), ("2nd order: x", False)]


@pytest.mark.parametrize(
    ("f", "dtype"), [(sine(jnp.cos), "float64"), (ops.tanh, "float64"), (sine(jnp.cos), "float32")]
)
def test_second_order_agrees(f, dtype):
    result = dlfn.compare(lambda x: f(x), order=2, dtype=dtype)(X)
    assert result.ok, result
    assert len(result.rows) == 2


def outside(x):
    draw = lambda: np.random.default_rng().random(3)  # noqa: E731
    return x * jax.pure_callback(draw, jax.ShapeDtypeStruct((3,), "float64"))


def traced(x):
    return x * np.random.default_rng().random(3)


@pytest.mark.parametrize("f", [outside, traced])
def test_what_is_not_deterministic_is_called_that(f, refused):
    refused(lambda: dlfn.compare(f)(X), ["compare: two equal calls differ by", "random numbers", "as an argument"])


def test_what_is_out_of_time_is_named():
    result = dlfn.compare(jnp.sin, seconds=1e-9)(X)
    assert result.ok
    assert [note.split(":")[0] for note in result.notes] == ["backprop", "finite diff."]
    assert "1e-09 seconds were over" in result.notes[0]


REFUSED = {
    "a string": (lambda x: "x", ["TypeError", "which is not a valid JAX type"]),
    "nothing": (lambda x: None, ["no floating-point array (nothing)"]),
    "complex": (jnp.fft.fft, ["no floating-point array (complex128)"]),
    "integers": (lambda x: jnp.round(x).astype(int), ["no floating-point array (int"]),
    "its own error": (lambda x: 1 / 0, ["ZeroDivisionError: division by zero", "test_order_two.py:"]),
    "shapes": (lambda x: x @ jnp.ones((2, 2)), ["TypeError", "contracting dimensions", "test_order_two.py:"]),
    "NumPy": (lambda x: np.sin(x), ["TracerArrayConversionError", "test_order_two.py:"]),
    "a number": (lambda x: float(x[0]) * x, ["ConcretizationTypeError", "test_order_two.py:"]),
    "no backward": (jax.custom_vjp(lambda x: jnp.sin(x)), ["No VJP defined for custom_vjp function"]),
    "a loop": (lambda x: lax.while_loop(lambda c: jnp.sum(c) < 9, lambda c: 2 * c, x), ["Reverse-mode", "while_loop"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_in_one_sentence(name, refused):
    f, words = REFUSED[name]
    refused(lambda: dlfn.compare(f)(X), ["compare: ", *words])


def test_settings_are_refused(refused):
    refused(lambda: dlfn.compare(jnp.sin, order=3), ["compare: order is 3", "1, or 2"])
    refused(lambda: dlfn.compare(jnp.sin, seconds=-1), ["compare: seconds is -1", "a positive number"])


def test_a_wrong_coordinate_is_named_among_many():
    """Along a direction it is seen, and by halves it is found."""
    wrong = jax.custom_jvp(lambda x: x**2)
    wrong.defjvp(lambda x, dx: (x[0] ** 2, 2 * x[0] * dx[0] * jnp.ones(500).at[321].add(1e-4)))
    x = jnp.linspace(1.0, 2.0, 500)
    result = dlfn.compare(wrong, coordinates=1)(x)
    assert not result
    assert result.rows[0].worst.startswith("finite diff. [321]")
