"""The optimisers against optax, step by step."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlfn import optimizers

pytestmark = pytest.mark.usefixtures("quick_compilation")

SCHEDULE = optax.cosine_decay_schedule(0.05, 1000)
SLOW = optax.cosine_decay_schedule(0.005, 1000)
PAIRS = {
    "sgd": (optimizers.sgd(0.005), optax.sgd(0.005)),
    "sgd, schedule": (optimizers.sgd(SLOW), optax.sgd(SLOW)),
    "momentum": (optimizers.momentum(0.01, 0.9), optax.sgd(0.01, 0.9)),
    "momentum, ema": (
        optimizers.momentum(0.05, 0.9, ema=True),
        optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.05)),
    ),
    "adam": (optimizers.adam(0.05), optax.adam(0.05)),
    "adam, schedule": (optimizers.adam(SCHEDULE, 0.8, 0.99, 1e-6), optax.adam(SCHEDULE, 0.8, 0.99, 1e-6)),
    "adamw": (optimizers.adamw(0.05, weight_decay=0.1), optax.adamw(0.05, weight_decay=0.1)),
    "adamw, mask": (
        optimizers.adamw(SCHEDULE, weight_decay=0.1, mask={"w": True, "b": False}),
        optax.adamw(SCHEDULE, weight_decay=0.1, mask={"w": True, "b": False}),
    ),
    "rmsprop": (optimizers.rmsprop(0.0001, 0.9), optax.rmsprop(0.0001, 0.9, eps_in_sqrt=False)),
    "rmsprop, optax's": (optimizers.rmsprop(0.0001, 0.9, eps_in_sqrt=True), optax.rmsprop(0.0001, 0.9)),
    "adagrad, optax's": (
        optimizers.adagrad(0.1, 1e-7, start=0.1, eps_in_sqrt=True),
        optax.adagrad(0.1),
    ),
    "clipped": (
        optax.chain(optax.clip_by_global_norm(0.5), optimizers.sgd(0.05)),
        optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.05)),
    ),
}


def trajectory(optimizer, steps):
    """Every step's parameters, on the banana function of Rosenbrock and a quadratic."""

    def loss(params):
        x, y = params["w"]
        return (1 - x) ** 2 + 10 * (y - x**2) ** 2 + jnp.sum((params["b"] - 3) ** 2)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = {"w": jnp.array([-0.5, 0.7]), "b": jnp.array([[1.0, -2.0, 0.0]])}
    return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]


@pytest.mark.parametrize("name", PAIRS)
def test_trajectories_are_those_of_optax(name, x64, optimised):
    ours, theirs = (trajectory(optimizer, 1000) for optimizer in PAIRS[name])
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        assert np.isfinite(np.asarray(a)).all()
        assert not np.array_equal(a[0], a[-1])


def test_adagrad_of_the_document_starts_at_zero(x64):
    """v = g² after one step: the update is the learning rate in every coordinate."""
    optimizer = optimizers.adagrad(0.1)
    updates, state = optimizer.update(jnp.array([4.0, -1e-3]), optimizer.init(jnp.zeros(2)))
    np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=1e-4)
    updates, _ = optimizer.update(jnp.array([4.0, -1e-3]), state)
    np.testing.assert_allclose(updates, [-0.1 / np.sqrt(2), 0.1 / np.sqrt(2)], rtol=1e-4)


def test_the_two_momenta_differ_by_their_step_length(x64):
    sums, means = (
        trajectory(optimizers.momentum(rate, 0.9, ema=ema), 50)["w"] for rate, ema in ((0.01, False), (0.1, True))
    )
    np.testing.assert_allclose(sums, means, rtol=1e-10)


def test_weight_decay_is_an_l2_penalty_for_sgd_and_not_for_adam(x64):
    """Erratum of 002 section 15.1."""

    def end(optimizer, penalty):
        def step(carry, _):
            w, state = carry
            grad = 2 * (w - 3) + penalty * w
            updates, state = optimizer.update(grad, state, w)
            return (optax.apply_updates(w, updates), state), None

        w = jnp.array([1.0])
        return jax.lax.scan(step, (w, optimizer.init(w)), length=20)[0][0]

    decayed = optax.chain(optax.add_decayed_weights(0.5), optimizers.sgd(0.1))
    np.testing.assert_allclose(end(decayed, 0.0), end(optimizers.sgd(0.1), 0.5), rtol=1e-12)
    decoupled = end(optimizers.adamw(0.1, weight_decay=0.5), 0.0)
    assert float(jnp.abs(decoupled - end(optimizers.adam(0.1), 0.5))[0]) > 0.01


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_numbers_of_python_are_gradients_and_parameters_as_in_optax(name):
    for params in (2.0, jnp.float32(2)):
        ours, theirs = (optimizer.update(1.0, optimizer.init(params), params)[0] for optimizer in PAIRS[name])
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)  # as 1 - beta**t in float32 has four digits less in optax


MAKERS = {name: getattr(optimizers, name) for name in optimizers.__all__ if name != "State"}


@pytest.mark.parametrize("name", MAKERS)
def test_learning_rates(name, refused):
    make = MAKERS[name]
    for rate in (-1.0, "a", float("nan"), jnp.inf, None, jnp.ones(2), np.float32(-1)):
        refused(lambda: make(rate), ["learning_rate is", "0 or more, or a schedule"])  # noqa: B023
    others = set(inspect.signature(make).parameters) - {"learning_rate"}
    injected = optax.inject_hyperparams(make, static_args=others)(learning_rate=0.1)
    alike = injected, *map(make, (0.1, np.float32(0.1), jnp.float32(0.1), optax.constant_schedule(0.1)))
    resting, *found = jax.jit(lambda: [trajectory(optimizer, 2)["w"] for optimizer in (make(0), *alike)])()
    np.testing.assert_array_equal(resting[0], resting[1])
    for ws in found:
        np.testing.assert_allclose(ws, found[0], rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.momentum(0.1, 1.0),
        lambda: optimizers.adam(0.1, beta2=2.0),
        lambda: optimizers.adam(0.1, "a"),
        lambda: optimizers.rmsprop(0.1, jnp.float32(1)),
    ],
)
def test_a_decay_that_never_forgets_is_refused(make, refused):
    refused(make, ["must be a number with 0 <="])
