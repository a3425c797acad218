"""Explanations: every δ beside autodiff's, the sum of its terms, formulas, names, agreement, tables and errors."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from cotangents import cotangents
from explained_models import FOREIGN, MODELS
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
    assert found.ok, found
    outputs = [
        (step, output)
        for step in found.steps
        if step.kind not in ("argument", "parameter", "constant")
        for output in step.outputs
        if jnp.issubdtype(output.dtype, jnp.inexact)
    ]
    assert [step for step in found.steps if not (step.equation and step.rule or step.reason)] == []
    expected = cotangents(f, args)
    assert len(expected) == len(outputs)
    for (step, output), bars in zip(outputs, expected, strict=True):
        delta = np.zeros(()) if output.delta is None else output.delta.array
        scale = np.linalg.norm(bars)
        assert np.linalg.norm(delta - bars) <= 1e-10 * max(scale, 1e-6), (step.name, delta, bars)
        terms = [term.value.array for term in step.terms if step.outputs[term.output] is output]
        if terms and step is not found.steps[-1]:
            assert np.linalg.norm(sum(terms) - delta) <= 1e-12 * max(scale, 1e-6), step
    json.dumps(found.to_json(), allow_nan=False)
