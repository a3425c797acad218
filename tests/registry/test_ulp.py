"""Derivatives of the activations to the last place, over the registry; and the measuring itself."""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dlfn import ops
from dlfn.ops.activations import exponential_units, piecewise
from dlfn.ops.activations import smooth as activations
from dlfn.registry import ulp
from dlfn.registry.all import entries

CASES = {f"{e.op.name}-{c.name}": (e, c) for e in entries() for c in e.cases if c.slope}
# One each of what makes a derivative hard to round: erf, an exponential on one side, a kink.
QUICK = {"gelu-exact", "elu-default", "hard_swish-default"}
over_cases = pytest.mark.parametrize("name", CASES)
over_measured = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive) for name in CASES]
)


@functools.cache
def measured(name):
    return ulp.measure(*CASES[name])


@pytest.mark.parametrize(
    "name", sorted({*activations.__all__, *exponential_units.__all__, *piecewise.__all__} - {"prelu"})
)
def test_every_activation_has_a_closed_form(name):
    (entry,) = entries([name])
    assert all(case.slope for case in entry.cases)


@over_measured
def test_derivative_is_within_its_bounds(name):
    bounds = [(figure, ulp.BOUNDS[figure.dtype, figure.bound]) for figure in measured(name).ours]
    missed = [f"{figure.dtype}: {figure}, bound {bound}" for figure, bound in bounds if figure.ulp > bound]
    assert not missed


@over_measured
def test_derivative_is_no_worse_than_autodiff(name):
    best = {figure.dtype: figure.ulp for figure in measured(name).ours}
    assert all(best[rival.dtype] <= rival.ulp + 1 for rival in measured(name).autodiff)


def functions(mp):
    """The definitions in mpmath, to differentiate in 60 digits: they share nothing with the closed forms."""

    def gelu(x, approximate):
        if approximate:
            return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))
        return x / 2 * mp.erfc(-x / mp.sqrt(2))

    def ramp(x, low, high):
        return min(max(x, low), high)

    return {
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "tanh": mp.tanh,
        "relu": lambda x: max(x, 0),
        "silu": lambda x: x / (1 + mp.exp(-x)),
        "softplus": lambda x: mp.log1p(mp.exp(x)),
        "gelu": gelu,
        "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)),
        "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
        "softsign": lambda x: x / (1 + abs(x)),
        "squareplus": lambda x, b: (x + mp.sqrt(x * x + b)) / 2,
        "elu": lambda x, alpha: x if x > 0 else alpha * mp.expm1(x),
        "selu": lambda x: (
            mp.mpf("1.0507009873554804934193349852946")
            * (x if x > 0 else mp.mpf("1.6732632423543772848170429916717") * mp.expm1(x))
        ),
        "celu": lambda x, alpha: x if x > 0 else alpha * mp.expm1(x / alpha),
        "leaky_relu": lambda x, negative_slope: x if x >= 0 else negative_slope * x,
        "relu6": lambda x: ramp(x, 0, 6),
        "hard_tanh": lambda x: ramp(x, -1, 1),
        "hard_sigmoid": lambda x: ramp(x + 3, 0, 6) / 6,
        "hard_swish": lambda x: x * ramp(x + 3, 0, 6) / 6,
    }


@over_cases
def test_float64_and_closed_form_against_mpmath(name, x64):
    mpmath = pytest.importorskip("mpmath")
    entry, case = CASES[name]
    rng = np.random.default_rng(5)
    powers = rng.choice([-1, 1], 10) * 0.75 * 2.0 ** -np.arange(10)  # no kink is there
    x = np.concatenate([rng.uniform(-12, 12, 70), rng.uniform(-1, 1, 20), powers])
    with mpmath.workdps(120):
        definitions = functions(mpmath)
        assert entry.op.name in definitions, f"add {entry.op.name} to functions() above"
        f = functools.partial(definitions[entry.op.name], **case.static)
        exact = np.array([np.longdouble(mpmath.nstr(mpmath.diff(f, mpmath.mpf(float(at))), 25)) for at in x])
    closed, largest = case.slope(x.astype(np.longdouble), **case.static)
    scale = np.where(largest > 0, largest, 1)
    assert np.max(np.abs(closed - exact) / scale) < 1e-14
    assert np.max(np.abs(ulp.derivative(entry.op, case.static)(x) - exact) / scale) < 1e-13


def one_off(at, change):
    """Sigmoid with a derivative whose bits are changed at one number."""

    @jax.custom_vjp
    def f(x):
        return ops.sigmoid(x)

    def backward(x, dy):
        (exact,) = jax.vjp(ops.sigmoid, x)[1](dy)
        bits = lax.bitcast_convert_type(exact, jnp.int32 if x.dtype.itemsize == 4 else jnp.int16)
        return (jnp.where(x == at, lax.bitcast_convert_type(bits + jnp.asarray(change, bits.dtype), x.dtype), exact),)

    f.defvjp(lambda x: (ops.sigmoid(x), x), backward)
    return f


@pytest.mark.parametrize(("dtype", "at"), [("float32", 3.0), ("bfloat16", -60.0), ("float16", -13.0)])
def test_one_derivative_8_ulp_off_is_reported(dtype, at):
    _, case = CASES["sigmoid-default"]
    (x,) = ulp.inputs(dtype, case.slope)
    error = ulp.ulp_error(one_off(at, 8), case.slope, x)
    assert x[np.argmax(error)] == at
    assert 8 - ulp.BOUNDS[dtype, np.inf] <= error.max() <= 8 + ulp.BOUNDS[dtype, np.inf]


def test_what_counts_as_zero_and_what_does_not():
    x = np.array([1, 1, 1, 1, 1], np.float32)
    tiny = np.longdouble(2) ** -126
    exact = ulp.Exact(lambda x: (x * tiny * np.longdouble([0.9, 0.9, 0.9, 1.1, 1]), x * tiny), x)
    error = exact.errors(np.array([0, 2**-127, 1.5 * 2**-126, 0, np.nan], np.float32))
    assert list(error[:2]) == [0, 0]
    assert min(error[2:]) > 1e6
    assert np.isinf(error[4])


def test_near_a_root_an_ulp_is_that_of_the_largest_term():
    exact = ulp.Exact(lambda x: (x * np.longdouble(2) ** -20, x), np.ones(1, np.float32))
    assert exact.errors(np.array([2**-20 + 2**-23], np.float32)) == 1


def test_script_says_which_bound_is_missed(capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("ulp_script", Path(__file__).parents[2] / "scripts" / "ulp.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["relu"]) == 0
    assert "all within their bounds" in capsys.readouterr().out
    measure = ulp.measure
    fake = ulp.Figure("float16", np.inf, 1.5, 2.0)

    def spoilt(*args, **kwargs):
        done = measure(*args, **kwargs)
        return ulp.Measurement(done.name, (*done.ours[:3], fake), done.autodiff)

    monkeypatch.setattr(ulp, "measure", spoilt)
    assert script.main(["relu"]) == 1
    assert "1.5 @ 2" in (out := capsys.readouterr().out)
    assert "FAIL" in out
