"""What several tests use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.registry.all import entries

__all__ = [
    "ENTRIES", "TYPICAL", "cotangent", "first_case_of", "fresh_interpreter", "initialised", "is_first_case",
    "lines_with_type_errors", "marks_of", "ordinarily", "over_cases",
]  # fmt: skip

ENTRIES = list(entries())

# Each stands for the ops that are made like it: elementwise; with a key; with ids; a matrix product; a loop with
# several outputs. What is the same code for every op is tried on these in every run, on the others exhaustively.
TYPICAL = {"sigmoid", "dropout", "softmax_cross_entropy", "linear", "rnn"}


def is_first_case(entry, case):
    """Of an op, where of elementwise ones the sigmoid stands for all, as one function makes them."""
    return case is entry.cases[0] and (not entry.elementwise or entry.op.name == "sigmoid")


def first_case_of(names):
    """A condition for ``over_cases``."""
    return lambda entry, case: case is entry.cases[0] and entry.op.name in names


def marks_of(name, ordinary):
    return [pytest.mark.typical] * (name in TYPICAL) + [pytest.mark.exhaustive] * (not ordinary)


def ordinarily(chosen, values):
    """Parameters for ``parametrize``: those among ``chosen`` in every run, the others exhaustively alone."""
    return [pytest.param(value, marks=[pytest.mark.exhaustive] * (value not in chosen)) for value in values]


def over_cases(ordinary=lambda entry, case: True, among=lambda entry, case: True):
    """Runs a test of (entry, case) for the cases of the registry, but what is not ordinary exhaustively alone."""
    params = [
        pytest.param(
            entry, case, id=f"{entry.op.name}-{case.name}", marks=marks_of(entry.op.name, ordinary(entry, case))
        )
        for entry in ENTRIES
        for case in entry.cases
        if among(entry, case)
    ]
    return pytest.mark.parametrize(("entry", "case"), params)


def cotangent(y):
    """For an array y: numbers that are neither alike nor ordered, and the same in every dtype."""
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)


def initialised(layer, x):
    """Parameters and state for a layer, as its ``init`` shapes them. The parameters are random numbers of NumPy, as
    programs that draw JAX's take long to compile; none of them is a 0 or 1 that hides a term."""
    key, rng = jax.random.key(0), np.random.default_rng(0)
    params, state = jax.eval_shape(layer.init, key, x)
    params = jax.tree.map(lambda p: jnp.asarray(0.5 * rng.normal(size=p.shape), p.dtype), params)
    return params, jax.jit(lambda: layer.init(key, x)[1])() if jax.tree.leaves(state) else state


def fresh_interpreter(code):
    """What the code prints in an interpreter of its own, which finds this dlfn."""
    environment = {**os.environ, "PYTHONPATH": str(Path(dlfn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def lines_with_type_errors(code, folder):
    """In which lines a type checker, which finds this dlfn, sees an error."""
    program = shutil.which("basedpyright", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("basedpyright is not installed")
    (folder / "code.py").write_text(code)
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(Path(dlfn.__file__).parents[1])]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [program, "--outputjson", "--pythonpath", sys.executable, "--project", str(folder)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return {d["range"]["start"]["line"] + 1 for d in found["generalDiagnostics"] if d["severity"] == "error"}


def python(code, *arguments, **environment):
    """A process of Python that runs ``code``, with this checkout on its path, and does not wait for it."""
    root = Path(dlfn.__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)]),
        **environment,
    }
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *map(str, arguments)], env=environment)
