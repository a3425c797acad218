"""Explanations: every δ beside autodiff's, the sum of its terms, formulas, names, agreement, tables and errors."""

import json

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
    assert found.ok == (name != "custom rules"), found  # one of which lets through what it should not
    outputs = [
        (step, output)
        for step in found.steps
        if step.kind not in ("argument", "parameter", "constant")
        for output in step.outputs
        if output.dtype.startswith(("float", "complex"))
    ]
    assert [step for step in found.steps if not (step.equation and step.rule or step.reason)] == []
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
