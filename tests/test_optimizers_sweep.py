"""Every optimiser: in half types against float64, its state's dtypes, and traced numbers wherever optax takes them."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlfn import optimizers
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

MAKERS = {name: getattr(optimizers, name) for name in optimizers.__all__ if name != "State"}
DTYPES = [jnp.dtype(name) for name in ("float16", "bfloat16", "float32")]


def is_matrix(params):
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


# Every optimiser with the options that change its formula, its arguments besides the learning rate, and optax's.
VARIANTS = {
    "sgd": (optimizers.sgd, {}, optax.sgd, {}),
    "momentum": (optimizers.momentum, {}, optax.sgd, {"momentum": 0.9}),
    "momentum, ema": (
        optimizers.momentum,
        {"ema": True},
        lambda rate: optax.chain(optax.ema(0.9, debias=False), optax.scale(-rate)),
        {},
    ),
    "adam": (optimizers.adam, {}, optax.adam, {}),
    "adam, no momentum": (optimizers.adam, {"beta1": 0.0}, optax.adam, {"b1": 0.0}),
    "adamw": (optimizers.adamw, {}, optax.adamw, {}),
    "adamw, mask": (optimizers.adamw, {"mask": is_matrix}, optax.adamw, {"mask": is_matrix}),
    "rmsprop": (optimizers.rmsprop, {}, optax.rmsprop, {"eps_in_sqrt": False}),
    "rmsprop, optax's": (optimizers.rmsprop, {"eps_in_sqrt": True}, optax.rmsprop, {}),
    "adagrad": (optimizers.adagrad, {}, None, {}),
    "adagrad, optax's": (
        optimizers.adagrad,
        {"eps": 1e-7, "start": 0.1, "eps_in_sqrt": True},
        optax.adagrad,
        {},
    ),
}
RATE = 0.01


def make(name, **more):
    ours, settings, _, _ = VARIANTS[name]
    return ours(**{"learning_rate": RATE, **settings, **more})


def make_oracle(name):
    """Optax's, or where it has no such formula the same in float64."""
    _, _, theirs, settings = VARIANTS[name]
    return make(name) if theirs is None else theirs(RATE, **settings)


def params_of(dtype):
    return {"w": jnp.array([1.0, -0.5, 0.0, 3.0], dtype), "b": jnp.array([[0.25, -2.0]], dtype)}


def gradients_of(dtype, steps, small=1.0):
    """Of changing size and sign, with zeros, over steps; those of every other parameter are smaller."""
    t = jnp.arange(steps)[:, None]
    waves = jnp.sin(t * jnp.array([0.7, 0.11, 1.3, 0.01])) * jnp.where(t < steps // 2, 1.0, 0.01)
    waves = waves * jnp.array([1, small, 0, small]) + jnp.array([0, 0, 0, 0.5 * small])
    return {"w": waves.astype(dtype), "b": waves[:, None, 2:].astype(dtype) + waves[:, None, :2].astype(dtype)}


@functools.partial(jax.jit, static_argnums=0)
def updates_of(optimizer, params, gradients):
    """The update of every step, at the same parameters: what rounding them does is not the optimiser's."""

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return state, updates

    return jax.lax.scan(step, optimizer.init(params), gradients)


def agree(updates, exact, digits):
    """Within half a unit in the last place of its dtype, and a share of it and of the largest one of its parameter."""
    info = jnp.finfo(updates.dtype)
    ours, exact = (np.asarray(x, np.float64) for x in (updates, exact))
    size = np.maximum(np.abs(exact), float(info.tiny))
    unit = np.ldexp(1.0, np.frexp(size)[1] - 1 - info.nmant)
    allowed = 0.5 * unit + digits * np.abs(exact) + 1e-6 * np.abs(exact).max(0) + 1e-30
    np.testing.assert_array_less(np.abs(ours - exact), allowed)


def of_every_dtype(steps, scale=1.0):
    """Parameters and gradients of all dtypes in one tree, for one compilation, some of them matrices. Squares of 1e-4
    are 0 in float16."""
    params, gradients = [], []
    for (i, of_params), (j, of_gradients) in itertools.product(enumerate(DTYPES), enumerate(DTYPES)):
        key = "wb"[(i + j) % 2]
        params.append(params_of(of_params)[key])
        gradients.append(gradients_of(of_gradients, steps, small=1e-4)[key] * jnp.asarray(scale, of_gradients))
    return params, gradients


def test_every_optimiser_has_an_example():
    assert {ours for ours, *_ in VARIANTS.values()} == set(MAKERS.values())


# A formula each; the other variants are tried exhaustively, and beside optax's in test_optimizers.py.
FEW = {"momentum", "adamw, mask", "rmsprop", "adagrad, optax's"}
few = pytest.mark.parametrize("name", ordinarily(FEW, VARIANTS))


@few
def test_half_types_are_float64_rounded_once(name, x64):
    params, gradients = of_every_dtype(steps=1000)
    state, updates = updates_of(make(name), params, gradients)
    assert {x.dtype for x in jax.tree.leaves(state.moments)} <= {jnp.dtype(jnp.float32)}
    wide = (jax.tree.map(lambda x: x.astype(jnp.float64), tree) for tree in (params, gradients))
    exact = updates_of(make_oracle(name), *wide)[1]
    for p, a, b in zip(params, updates, exact, strict=True):
        assert a.dtype == p.dtype
        agree(a[:50], b[:50], 1e-5)
        agree(a, b, 1e-3)


@few
def test_a_gradient_of_zero_moves_nothing_but_what_decays(name):
    params, gradients = of_every_dtype(steps=3, scale=0.0)
    # Where there is an ε it is 0, as 1e-8 is in float16.
    eps = {"eps": 0.0} if "eps" in numbers_of(name) else {}
    _, updates = updates_of(make(name, **eps), params, gradients)
    for p, u in zip(params, updates, strict=True):
        decays = "adamw" in name and (p.ndim > 1 or "mask" not in name)
        expected = (-np.float32(RATE) * (np.float32(1e-4 * decays) * np.asarray(p, np.float32))).astype(p.dtype)
        np.testing.assert_array_equal(u, np.broadcast_to(expected, u.shape))


@pytest.mark.parametrize("name", ["momentum", "momentum, ema", "adam", "adamw"])
def test_first_moments_are_held_in_the_dtype_that_is_asked_for(name):
    (option,) = {"mu_dtype", "accumulator_dtype"} & set(inspect.signature(VARIANTS[name][0]).parameters)
    params, gradients = params_of(jnp.bfloat16), gradients_of(jnp.float32, 50)
    state, updates = updates_of(make(name, **{option: "bfloat16"}), params, gradients)
    first, *second = (jax.tree.leaves(moment) for moment in state.moments.values())
    assert {x.dtype for x in first} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(second)} <= {jnp.dtype(jnp.float32)}
    _, wide = updates_of(make(name), params, gradients)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(wide), strict=True):
        a, b = a.astype(np.float32), b.astype(np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=0.03 * np.abs(b).max())


def test_without_parameters_the_update_has_the_dtype_of_the_gradient():
    for dtype in DTYPES:
        optimizer = optimizers.adam(RATE)
        updates, _ = optimizer.update(jnp.ones(2, dtype), optimizer.init(jnp.ones(2, jnp.float32)))
        assert updates.dtype == dtype


def numbers_of(name):
    """The arguments of an optimiser that are numbers."""
    ours, settings, _, _ = VARIANTS[name]
    parameters = inspect.signature(ours).parameters.values()
    defaults = {"learning_rate": RATE} | {p.name: p.default for p in parameters if p.default is not p.empty} | settings
    return {key: float(value) for key, value in defaults.items() if type(value) in (int, float)}


def statics_of(name):
    return set(inspect.signature(VARIANTS[name][0]).parameters) - set(numbers_of(name))


close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7)


@few
def test_every_number_may_be_traced(name):
    """As arguments of jit, and under vmap, where one after the other changes."""
    params, gradients, numbers = params_of(jnp.float32), gradients_of(jnp.float32, 5), numbers_of(name)
    count = {"sgd": 1, "momentum": 2, "adam": 4, "adamw": 5, "rmsprop": 3, "adagrad": 3}[name.split(",")[0]]
    assert count == len(numbers)

    @jax.jit
    def traced(numbers):
        return updates_of(make(name, **numbers), params, gradients)[1]

    jax.tree.map(close, traced(numbers), updates_of(make(name), params, gradients)[1])
    rows = [{**numbers, key: 0.9 * value + 0.01} for key, value in numbers.items()]
    many = jax.vmap(traced)({key: jnp.array([row[key] for row in rows]) for key in numbers})
    for i, row in enumerate(rows):
        jax.tree.map(lambda a, b: close(a[i], b), many, traced(row))  # noqa: B023


@few
def test_inject_hyperparams(name):
    """Over the steps of a scan, with the state of known numbers and with that of traced ones."""
    params, gradients = params_of(jnp.float32), gradients_of(jnp.float32, 20)
    ours, settings, _, _ = VARIANTS[name]
    injected = optax.inject_hyperparams(ours, static_args=statics_of(name))(**{"learning_rate": RATE, **settings})
    state = injected.init(params)
    assert set(state.hyperparams) == set(numbers_of(name))
    shapes = jax.eval_shape(injected.init, params)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), shapes, state)

    @jax.jit
    def run(state):
        return jax.lax.scan(lambda state, g: injected.update(g, state, params)[::-1], state, gradients)[1]

    single = run(state)
    jax.tree.map(close, single, updates_of(make(name), params, gradients)[1])
    state.hyperparams["learning_rate"] *= 2
    jax.tree.map(lambda a, b: close(a, 2 * b), run(state), single)


@pytest.mark.parametrize("name", MAKERS)
def test_the_derivative_by_the_learning_rate(name):
    """The sum of all updates is proportional to it, where the parameters do not move."""
    params, gradients = params_of(jnp.float32), gradients_of(jnp.float32, 5)

    def total(rate):
        return sum(
            jnp.sum(u) for u in jax.tree.leaves(updates_of(make(name, learning_rate=rate), params, gradients)[1])
        )

    value, slope = jax.jit(jax.value_and_grad(total))(RATE)
    np.testing.assert_allclose(RATE * slope, value, rtol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_known_numbers_are_checked_and_dtypes_too(name, refused):
    maker = MAKERS[name]
    for key in numbers_of(name):
        for bad in (-1.0, float("nan"), "a", jnp.ones(2), jnp.float32(-1), np.float64("inf")):
            refused(lambda: maker(**{"learning_rate": RATE, key: bad}), [f"{name}: {key} is", "must be a number"])  # noqa: B023
    for key in set(numbers_of(name)) & {"mu", "beta", "beta1", "beta2"}:
        refused(lambda: maker(RATE, **{key: 1.0}), [f"{name}: {key} is 1.0", f"0 <= {key} < 1"])  # noqa: B023
    for key in statics_of(name) & {"mu_dtype", "accumulator_dtype"}:
        for bad in (int, "no dtype"):
            refused(lambda: maker(RATE, **{key: bad}), [f"{name}: {key} is", "floating-point dtype"])  # noqa: B023


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw", "rmsprop"])
def test_a_decay_in_half_precision_is_refused_whether_traced_or_not(name, refused):
    injected = optax.inject_hyperparams(MAKERS[name], static_args=statics_of(name))(RATE)
    for dtype in (jnp.bfloat16, jnp.float16):
        for init in (injected.init, functools.partial(jax.eval_shape, injected.init)):
            refused(lambda: init(params_of(dtype)), ["is of dtype", "hyperparam_dtype=jnp.float32"])  # noqa: B023


def test_hyperparameters_in_float32_of_parameters_in_half_precision():
    params, gradients = params_of(jnp.bfloat16), gradients_of(jnp.bfloat16, 20)
    wide = optax.inject_hyperparams(optimizers.adam, static_args="mu_dtype", hyperparam_dtype=jnp.float32)(RATE)
    updates, expected = (updates_of(optimizer, params, gradients)[1] for optimizer in (wide, make("adam")))
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), rtol=0.01)


def test_gradients_that_are_none_are_passed_over():
    """As Equinox has them for what is no array; the parameters may then be anything."""
    for maker in MAKERS.values():
        optimizer = maker(RATE)
        state = optimizer.init({"w": jnp.ones(2), "f": None})
        updates, new = optimizer.update({"w": jnp.ones(2), "f": None}, state, {"w": jnp.ones(2), "f": jnp.tanh})
        assert updates["f"] is None
        assert jax.tree.structure(new) == jax.tree.structure(state)


def test_adamw_says_that_it_needs_parameters(refused):
    for decay in (0.0, 0.1):
        optimizer = optimizers.adamw(RATE, weight_decay=decay)
        state = optimizer.init(jnp.ones(2))
        refused(lambda: optimizer.update(jnp.ones(2), state), ["adamw", "update(gradient, state, params)"])  # noqa: B023


def test_an_update_goes_through_optax_s_wrappers():
    """Those that choose between updates under cond need them in the gradient's dtype."""
    params = params_of(jnp.bfloat16)
    for wrap in (lambda o: optax.apply_if_finite(o, 2), lambda o: optax.MultiSteps(o, 2).gradient_transformation()):
        optimizer = wrap(make("adamw"))
        state, updates = updates_of(optimizer, params, gradients_of(jnp.bfloat16, 3))
        assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))
        assert all(np.isfinite(u.astype(np.float32)).all() for u in jax.tree.leaves(updates))
