"""Oracles of initialisation, optimisation, probability, statistics, and information."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlfn import augmentation, linalg, nn, ops, optimizers, probability, statistics
from dlfn.catalogue.oracles._table import Table, agree, normal, sklearn
from dlfn.train.config import Schedule
from dlfn.train.optimizer import make_optimizer, make_schedule

__all__ = ["ORACLES"]

ORACLES = Table()


@ORACLES.add("init.xavier_he", "the variances of the formulas")
def _():
    shape, (n_in, n_out) = (3, 3, 40, 60), (9 * 40, 9 * 60)
    for name, variance in (("xavier", 2 / (n_in + n_out)), ("he", 2 / n_in)):
        for kind in ("uniform", "normal"):
            w = getattr(nn.initializers, f"{name}_{kind}")(jax.random.key(0), shape)
            agree(jnp.var(w), variance, rtol=5 * math.sqrt(2 / w.size))
            agree(jnp.mean(w), 0, atol=5 * math.sqrt(variance / w.size))


def _same_trajectory(ours: optax.GradientTransformation, theirs: optax.GradientTransformation) -> None:
    target = normal(6)

    def run(optimizer):
        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(w - target + jnp.sin(3 * w), state, w)
            return (w + updates, state), w

        start = jnp.ones(6)
        return jax.lax.scan(step, (start, optimizer.init(start)), length=100)[1]

    agree(run(ours), run(theirs), 1e-11)


OPTIMIZERS = {
    "network.gradient_descent": [(optimizers.sgd(0.1), optax.sgd(0.1))],
    "optim.sgd": [(optimizers.sgd(0.1), optax.sgd(0.1))],
    "optim.momentum": [(optimizers.momentum(0.05, 0.8), optax.sgd(0.05, momentum=0.8))],
    "optim.momentum_ema": [
        (
            optimizers.momentum(0.05, 0.8, ema=True),
            optax.chain(optax.ema(0.8, debias=False), optax.scale(-0.05)),
        )
    ],
    "optim.adam": [
        (optimizers.adam(0.01), optax.adam(0.01)),
        (optimizers.adamw(0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
    ],
    "optim.rmsprop_adagrad": [
        (optimizers.rmsprop(0.01, 0.9, eps=1e-8), optax.rmsprop(0.01, 0.9, eps=1e-8, eps_in_sqrt=False)),
        (
            optimizers.adagrad(0.1, eps=1e-7, eps_in_sqrt=True, start=0.1),
            optax.adagrad(0.1, initial_accumulator_value=0.1, eps=1e-7),
        ),
    ],
}


def _trajectories(id):
    def run():
        for ours, theirs in OPTIMIZERS[id]:
            _same_trajectory(ours, theirs)

    return run


for _id in OPTIMIZERS:
    ORACLES.add(_id, "optax, 100 steps")(_trajectories(_id))


@ORACLES.add("probability.bayes", "NumPy")
def _():
    joint = np.random.default_rng(0).dirichlet(np.ones(6)).reshape(2, 3)
    agree(probability.marginal(joint, 0), joint.sum(1))
    agree(probability.conditional(joint, 1), joint / joint.sum(0))
    prior, likelihood = joint.sum(1), joint / joint.sum(1, keepdims=True)
    agree(probability.bayes(prior, likelihood), joint / joint.sum(0))
    agree(probability.independent(joint), False)
    agree(probability.independent(np.outer(joint.sum(1), joint.sum(0))), True)


@ORACLES.add("probability.distributions", "scipy.stats")
def _():
    from scipy import stats

    x, counts = np.linspace(0.05, 0.95, 7), np.arange(8)
    for ours, theirs, at in (
        (probability.Bernoulli(0.3), stats.bernoulli(0.3), np.array([0, 1])),
        (probability.Binomial(7, 0.3), stats.binom(7, 0.3), counts),
        (probability.Poisson(2.5), stats.poisson(2.5), counts),
        (probability.Normal(0.5, 2.0), stats.norm(0.5, 2.0), x),
        (probability.Uniform(-1.0, 2.0), stats.uniform(-1, 3), x),
        (probability.Exponential(1.5), stats.expon(scale=1 / 1.5), x),
    ):
        expected = getattr(theirs, "logpmf" if at is not x else "logpdf")(at)
        agree(ours.log_prob(jnp.asarray(at, jnp.float64)), expected)
        agree((ours.mean, ours.variance), theirs.stats("mv"))


@ORACLES.add("statistics.descriptive", "NumPy")
def _():
    x, y = normal(20, 3), normal(20, 3, seed=1)
    for ours, theirs in ((ops.mean, np.mean), (ops.variance, np.var), (ops.std, np.std)):
        agree(ours(x, axis=0), theirs(np.asarray(x), axis=0))
    agree(ops.covariance(x[:, 0], y[:, 0]), np.cov(x[:, 0], y[:, 0], ddof=0)[0, 1])


@ORACLES.add("statistics.tests", "scipy.stats")
def _():
    from scipy import stats

    a, b = normal(12), 0.5 + 2 * normal(9, seed=1)
    z = (np.mean(a) - 0.2) * math.sqrt(12) / 1.5
    agree(statistics.z_test(a, 0.2, 1.5)[:2], (z, 2 * stats.norm.sf(abs(z))))
    agree(statistics.welch_t_test(a, b)[:2], tuple(stats.ttest_ind(a, b, equal_var=False)))
    observed = [18, 22, 16, 25, 24, 15]
    agree(statistics.chi_squared_test(observed)[:2], tuple(stats.chisquare(observed)))
    exact = stats.permutation_test((a[:5], b[:4]), lambda a, b: np.mean(a) - np.mean(b), n_resamples=10_000)
    agree(statistics.permutation_test(a[:5], b[:4]).p_value, exact.pvalue)
    agree(statistics.compare_runs(a, b + 10).significant, True)


@ORACLES.add("data.augmentation", "scipy.ndimage.affine_transform, numpy.flip")
def _():
    from scipy import ndimage

    image, matrix = np.asarray(normal(9, 7)), np.asarray(linalg.translation([0.6, -1.3]) @ linalg.scaling([1.2, 0.9]))
    back, centre = np.linalg.inv(matrix), np.array([4.0, 3.0])
    linear, shift = back[1::-1, 1::-1], back[1::-1, 2]  # ours are (x, y) from the centre, SciPy's (row, column)
    offset = centre + shift - linear @ centre
    expected = ndimage.affine_transform(image, linear, offset, order=1, mode="grid-constant")  # pyright: ignore[reportArgumentType]
    batch, key = jnp.asarray(image)[None, :, :, None], jax.random.key(0)
    agree(augmentation.affine(batch, matrix)[0, :, :, 0], expected)
    agree(augmentation.flip(key, batch, probability=1.0)[0, :, :, 0], image[:, ::-1])
    many = jnp.zeros((8, 32, 32, 1))
    agree(jnp.std(augmentation.noise(key, many, std=0.3)), 0.3, 0.05)
    agree(augmentation.crop(key, many, size=(28, 28)).shape, (8, 28, 28, 1))
    still = augmentation.random_affine(key, batch)
    agree(still, batch)


@ORACLES.add("information.entropy_kl", "scipy.stats.entropy")
def _():
    from scipy import stats

    p, q = np.random.default_rng(0).dirichlet(np.ones(5), size=2)
    p[0] = 0
    p /= p.sum()
    agree(ops.entropy(jnp.asarray(p)), stats.entropy(p))
    agree(ops.relative_entropy(jnp.asarray(p), jnp.asarray(q)), stats.entropy(p, q))
    agree(ops.cross_entropy(jnp.asarray(p), jnp.asarray(q)), stats.entropy(p) + stats.entropy(p, q))


@ORACLES.add("information.mutual", "sklearn.metrics.mutual_info_score")
def _():
    mutual_info_score = sklearn("metrics").mutual_info_score
    counts = np.random.default_rng(0).integers(0, 9, (3, 4)).astype(float)
    joint = jnp.asarray(counts / counts.sum())
    agree(ops.mutual_information(joint), mutual_info_score(None, None, contingency=counts))


@ORACLES.add("information.vae_vib", "scipy.integrate.quad")
def _():
    from scipy import integrate, stats

    mean, log_variance = 0.7, -1.2
    q, std = stats.norm, math.exp(log_variance / 2)

    def integrand(x):
        return q.pdf(x, mean, std) * (q.logpdf(x, mean, std) - q.logpdf(x))

    integral = integrate.quad(integrand, -8, 8, epsabs=1e-12)[0]
    agree(ops.normal_kl(jnp.array([mean]), jnp.array([log_variance])), integral, 1e-9)


@ORACLES.add("optim.schedules_clipping", "the formula of clipping in NumPy, and optax.cosine_decay_schedule")
def _():
    gradient: Any = {"w": normal(5), "b": normal(3, seed=1)}
    length = math.sqrt(sum(float(jnp.sum(a**2)) for a in gradient.values()))
    for bound in (0.5, 50.0):
        optimizer = make_optimizer({"name": "sgd", "learning_rate": 1.0}, Schedule(), 100, clip_norm=bound)
        updates: Any = optimizer.update(gradient, optimizer.init(gradient))[0]
        for name, g in gradient.items():
            agree(updates[name], -np.asarray(g) * min(1, bound / length))
    schedule = make_schedule(Schedule("cosine"), 2.0, 100)
    agree([schedule(t) for t in (0, 50, 100)], [2.0, 1.0, 0.0], atol=1e-7)
