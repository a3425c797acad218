"""``pytest --dlfn-audit`` on a project of somebody's: what it records, finds, and says, and that it costs nothing."""

import tomllib
from pathlib import Path

import pytest

from helpers import fresh_interpreter

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("quick_compilation")

RULES = """
import functools
import jax, jax.numpy as jnp, dlfn

def rule(f, slope, error=0.0):
    hand = jax.custom_vjp(f)
    hand.defvjp(lambda x: (f(x), x), lambda x, dy: ((1 + error) * dy * slope(x),))
    return hand

def sine(x):
    return jnp.sin(x)

def cube(x):
    return x**3

right, wrong = rule(sine, jnp.cos), rule(cube, lambda x: 3 * x * x, 1e-4)

@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def gathered(f, x, scale, i):
    return f(x)[i] * scale

gathered.defvjp(
    lambda f, x, scale, i: (gathered(f, x, scale, i), (x, i)),
    lambda f, scale, r, dy: (jax.vjp(lambda x: f(x)[r[1]] * scale, r[0])[1](dy)[0], None),
)

@jax.custom_jvp
def square(x):
    return x**2

square.defjvp(lambda primals, tangents: (primals[0] ** 2, 2.1 * primals[0] * tangents[0]))

@dlfn.Op
def double(x):
    return 2 * x

double.def_forward(lambda x: (2 * x, None))
double.def_backward(lambda _, dy: (2 * dy,))

@jax.custom_vjp
def raising(x):
    return x

def _raise(*_):
    raise RuntimeError("not written yet")

raising.defvjp(_raise, _raise)

@jax.custom_gradient
def tangent(x):
    return jnp.tan(x), lambda dy: dy / jnp.cos(x) ** 2

@jax.custom_vjp
def counted(x):
    return jnp.argmax(x)

counted.defvjp(lambda x: (jnp.argmax(x), x), lambda x, _: (jnp.zeros_like(x),))

@jax.custom_vjp
def summed(x):
    return jax.lax.psum(x, "i")

summed.defvjp(lambda x: (summed(x), None), lambda _, dy: (dy,))
"""
TESTS = """
import jax, jax.numpy as jnp, pytest
from rules import *

X = jnp.arange(1.0, 4.0)

@pytest.mark.parametrize("x", [X, X + 1])
def test_right(x):
    assert right(x).shape == (3,)

def test_under_grad():
    jax.grad(lambda x: jnp.sum(wrong(x)))(X)

def test_under_jit():
    jax.jit(jax.grad(gathered, 1), static_argnums=(0, 2))(jnp.sin, X, 0.5, 2)

def test_others():
    jax.nn.relu(X), dlfn.ops.gelu(X), double(X), square(X), raising(X), counted(X), tangent(X)
    jax.vmap(summed, axis_name="i")(X)
    for _ in range(4):
        rule(sine, jnp.cos)(2.0)
"""


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # whether or not this dlfn is installed
    pytester.makepyfile(rules=RULES, test_somebodys=TESTS)
    pytester.syspathinsert()
    return lambda *argv: pytester.runpytest_inprocess("-p", "_dlfn_pytest", *argv)


def line_of(text):
    """A function's line in rules.py, which pytester writes without the empty lines around it."""
    return next(i for i, line in enumerate(RULES.strip().split("\n"), 1) if line.startswith(text))


def test_the_rules_that_tests_meet_are_checked_and_a_wrong_one_fails_the_session(project, monkeypatch):
    monkeypatch.setattr("dlfn.testing.recording._PER_LINE", 2)
    result = project("--dlfn-audit", "-q")
    result.assert_outcomes(passed=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = result.outlines[result.outlines.index(next(x for x in result.outlines if "dlfn audit" in x)) + 1 :]
    said = {line.split()[2].split("(")[0]: line.split()[0] for line in lines if line[:3] in ("ok:", "WRO")}
    right = {name for name, verdict in said.items() if verdict == "ok:"}
    assert right - {"tangent", "wrapped_fun"} == {"sine", "double", "gathered"}
    assert f"ok: rules.py:{line_of('@jax.custom_gradient')} " in "\n".join(lines)
    assert {name for name, verdict in said.items() if verdict == "WRONG:"} == {"cube", "square", "raising"}
    text = "\n".join(lines)
    met = [i for i, line in enumerate(TESTS.strip().split("\n"), 1) if "wrong(x)" in line]
    assert f"WRONG: rules.py:{line_of('def cube')} cube(float32[3])\n  met at test_somebodys.py:{met[0]}\n" in text
    assert "gradient in x [2]: " in text  # and what the audit says
    assert "RuntimeError: not written yet" in text
    assert f"not checked: rules.py:{line_of('def summed') - 1} summed(float32[]) (values drawn)\n  met at " in text
    assert "NameError: Found an unbound axis name: i" in text
    assert "0.5, int32[]) (values drawn)" in text
    assert text.count(" sine(float32[3])") == 1
    assert " sine(2.0) (2 rules of one line)" in text
    assert f"more rules that rules.py:{line_of('def sine')} made" in text
    assert "calls of custom rules: 10, right: 6, wrong: 3, not checked: 1" in text
    assert "relu" not in text
    assert "gelu" not in text
    assert "counted" not in text


def test_without_the_option_nothing_is_recorded_nor_said(project):
    result = project("-q", "-k", "right")
    assert result.ret == pytest.ExitCode.OK
    assert "dlfn audit" not in "\n".join(result.outlines)


def test_somebodys_can_be_left_out_by_name(project):
    result = project("--dlfn-audit", "--dlfn-audit-ignore", "cube", "-q", "-k", "under_grad")
    assert result.ret == pytest.ExitCode.OK
    assert "ignored: cube" in result.outlines
    assert "calls of custom rules: 0" in "\n".join(result.outlines)


def test_right_rules_pass_and_the_values_of_eager_gradients_are_known(project):
    result = project("--dlfn-audit", "-q", "-k", "test_right")
    assert result.ret == pytest.ExitCode.OK
    assert "drawn" not in "\n".join(result.outlines)


def test_what_pytest_loads_imports_no_jax():
    code = "import sys, _dlfn_pytest; print(*({'jax', 'dlfn'} & set(sys.modules)))"
    assert fresh_interpreter(code).split() == []


def test_the_distribution_has_the_plugin():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    (module,) = project["project"]["entry-points"]["pytest11"].values()
    assert f"{module}.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert (root / f"{module}.py").is_file()
