"""Explanations: every δ beside autodiff's, the sum of its terms, formulas, names, agreement, tables and errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cotangents import cotangents
from explained_models import FOREIGN, MODELS, chain
from jax import lax

import dlfn
from dlfn.core.rules import RULES
from dlfn.core.walk import STRUCTURAL
from dlfn.explain.docstrings import formulas
from dlfn.explain.latex import ELEMENTWISE, rule
from dlfn.explain.structural import REASONS, STRUCTURAL_FORMULAS
from dlfn.explain.tape import ENTERED
from dlfn.registry.all import entries
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

FEW = {"chain", "branch in a loop", "loops in loops", "custom rules", "repeated blocks"}


def model(name):
    if name in FOREIGN:
        pytest.importorskip(name.split()[0], reason=f"{name} is a model of a library that is not installed")
    return MODELS[name]()


@pytest.mark.parametrize("name", ordinarily(FEW, MODELS))
def test_every_delta_is_autodiffs_and_every_step_has_its_formula_or_a_reason(name, x64):
    f, args = model(name)
    found = dlfn.explain(f, keep=True)(*args)
    assert found.ok == (name != "custom rules"), found  # one of which lets through what it should not
    outputs = [
        (step, output)
        for step in found.steps
        if step.kind not in ("argument", "parameter", "constant")
        for output in step.outputs
        if output.dtype.startswith(("float", "complex"))
    ]
    assert [step for step in found.steps if not ((step.equation and step.rule) or step.reason)] == []
    expected = cotangents(f, args)
    assert len(expected) == len(outputs)
    largest = max(float(np.linalg.norm(bars)) for bars in expected if bars is not None)
    for (step, output), bars in zip(outputs, expected, strict=True):
        if bars is None:
            assert output.delta is None
            continue
        delta = np.zeros(()) if output.delta is None else output.delta.array
        scale = max(np.linalg.norm(bars), 1e-4 * largest)  # what is zero is rounding
        assert np.linalg.norm(delta - bars) <= 1e-10 * scale, (step.name, delta, bars)
        terms = [term.value.array for term in step.terms if step.outputs[term.output] is output]
        if terms and step is not found.steps[-1]:
            assert np.linalg.norm(sum(terms) - delta) <= 1e-12 * scale, step
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("entry", list(entries()), ids=lambda entry: entry.op.name)
def test_the_docstring_of_every_op_gives_its_equation_and_its_rule(entry):
    found = formulas(entry.op.__doc__)
    assert found.equation
    assert found.rule
    for latex in found:
        assert latex.count("{") == latex.count("}")
        assert latex.count("$") == latex.count(r"\$")


def test_every_primitive_with_a_rule_has_a_formula_or_a_reason():
    by_docstring = {"dlfn_op", "custom_jvp_call", "custom_vjp_call", "call_hi_primitive"}
    known = {*STRUCTURAL_FORMULAS, *REASONS, *ENTERED, *ELEMENTWISE, *by_docstring}
    assert {*RULES, *STRUCTURAL} - known == set()


# What one would write by hand.
RULES_BY_HAND = {
    "sin": r"\bar x = \bar y \, \cos x",
    "mul": r"\bar a = \bar y \, b, \qquad \bar b = a \, \bar y",
    "erf": r"\bar x = \tfrac{2}{\sqrt\pi} \, \bar y \, e^{-x \, x}",
    "max": r"\bar a = \bar y \, \begin{cases} 1 & a > b \\ \tfrac12 & a = b \\ 0 & \text{otherwise} \end{cases}, "
    r"\qquad \bar b = \bar y \, \begin{cases} 1 & b > a \\ \tfrac12 & b = a \\ 0 & \text{otherwise} \end{cases}",
    "zeta": r"\bar s \text{ has no rule for its exponent}, \qquad \bar a = -\bar y \, s \, \zeta\left(s + 1, a\right)",
    "floor": r"\bar x = 0",
}


@pytest.mark.parametrize("name", RULES_BY_HAND)
def test_rules_of_the_sheet_are_printed(name):
    assert rule(name) == RULES_BY_HAND[name]


def test_every_elementwise_rule_can_be_printed():
    params = {"integer_pow": {"y": 3}, "reduce_precision": {"exponent_bits": 5, "mantissa_bits": 10}}
    for name in ELEMENTWISE & RULES.keys():
        assert rule(name, params=params.get(name)).startswith(r"\bar "), name


def test_a_chain_has_its_names_numbers_and_terms():
    found = dlfn.explain(chain)(2.0, 1.0, 1.0, 4.0)
    values = {step.name: (step.value.array.item(), step.delta.array.item()) for step in found.steps}
    assert values["h"] == (3, 60)
    assert values["yhat"] == (9, 10)
    assert values["w"] == (2, 60)
    assert values["x"] == (1, 120)
    (term,) = found["yhat"].terms
    assert found.steps[term.user].equation == "y = a - b"
    assert found["yhat"].source.code == "yhat = h**2"
    assert [parameter.path for step in found.steps for parameter in step.parameters] == ["w", "x", "b", "y"]
    assert "yhat" in str(found)
    assert "the three gradients agree" in str(found)


def test_a_value_with_several_users_has_a_term_of_each():
    found = dlfn.explain(lambda x: jnp.sin(x) * x + x)(2.0)
    terms = sorted(term.value.array.item() for term in found["x"].terms)
    np.testing.assert_allclose(terms, sorted([2 * np.cos(2), np.sin(2), 1]), rtol=1e-6)


def test_a_loop_keeps_the_norms_of_all_steps_and_knows_what_is_carried():
    def decay(h, w):
        return lax.scan(lambda h, _: (0.5 * h * w, None), h, length=100)[0]

    found = dlfn.explain(decay)(1.0, 1.0)
    assert found.loops[0].length == 100
    first = next(step for step in found.steps if step.loop is not None)
    assert first.times == 100
    assert any(each.carried for each in first.inputs)
    norms = first.delta.over_steps
    np.testing.assert_allclose(norms[1:] / norms[:-1], 2, rtol=1e-5)  # the gradient vanishes backwards
    data = found.to_json()["steps"][first.id]["outputs"][0]["delta"]
    assert len(data["over_steps"]) == 100


def test_large_arrays_are_summarised():
    x = jnp.arange(4096.0).reshape(64, 64)
    found = dlfn.explain(lambda x: jnp.sum(jnp.sin(x)))(x)
    value = found["x"].value
    assert value.array is None
    assert value.histogram[1].sum() == 4096
    assert value.image[0].shape == (48, 48)
    assert value.norm == pytest.approx(float(jnp.linalg.norm(x)), rel=1e-6)
    assert dlfn.explain(lambda x: jnp.sum(jnp.sin(x)), keep=True)(x)["x"].value.array.shape == (64, 64)


def test_a_diverging_network_shows_where():
    found = dlfn.explain(lambda x: jnp.sum(jnp.exp(jnp.exp(x))))(jnp.array([1.0, 6.0]))
    assert [step.name for step in found.steps if step.value.nonfinite] == ["exp", "reduce_sum"]
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["value"] == "inf"


def test_a_wrong_rule_is_seen():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, dy: (3 * dy,))
    found = dlfn.explain(double)(1.0)
    assert not found.ok
    assert found.agreement.autodiff == pytest.approx(1 / 3)
    assert "DISAGREE" in str(found)
    assert "whose docstring has no formula" in found["double"].reason
    assert dlfn.explain(lambda x: 2 * x, cotangent=jnp.ones(2))(jnp.ones(2)).value == 4
    assert dlfn.explain(lambda x: (x**2, "aux"), has_aux=True)(3.0).value == 9


ERRORS = {
    "got float32[2]; reduce it": lambda: dlfn.explain(jnp.sin)(jnp.ones(2)),
    "no argument is a floating-point array": lambda: dlfn.explain(jnp.sum)(jnp.arange(2)),
    "argnums has 1, and there are 1": lambda: dlfn.explain(jnp.sum, 1)(jnp.ones(2)),
    "cotangent has the shape (3,), and must": lambda: dlfn.explain(jnp.sin, cotangent=jnp.ones(3))(jnp.ones(2)),
    "call it outside of jit": lambda: jax.jit(dlfn.explain(jnp.sum))(jnp.ones(2)),
    "must return (value, aux)": lambda: dlfn.explain(jnp.sum, has_aux=True)(jnp.ones(2)),
    "while_loop cannot be run backwards": lambda: dlfn.explain(
        lambda x: lax.while_loop(lambda x: x < 9, lambda x: x * 2, x)
    )(1.0),
}


@pytest.mark.parametrize("words", ERRORS)
def test_bad_input_is_one_clear_line(words):
    with pytest.raises(dlfn.InputError) as error:
        ERRORS[words]()
    assert words in str(error.value)
    assert "\n" not in str(error.value)
