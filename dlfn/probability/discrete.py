"""Distributions of counts: Bernoulli, binomial, Poisson. Counts have no gradient, and neither have samples of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.ops.probability.densities import require_chances, require_expected, require_trials
from dlfn.ops.support.arguments import require_values
from dlfn.ops.support.dtypes import upcast
from dlfn.probability.distribution import Distribution, pytree

__all__ = ["Bernoulli", "Binomial", "Poisson"]


def _chances(distribution: Any) -> tuple[jax.Array, jax.Array, Any]:
    """p and 1 - p, of half types in float32, which draws and numbers of trials need, and the dtype of p."""
    if distribution.probs is not None:
        p = upcast(distribution.probs)
        return p, 1 - p, distribution.probs.dtype
    z = upcast(distribution.logits)
    return ops.sigmoid(z), ops.sigmoid(-z), distribution.logits.dtype


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Bernoulli(Distribution):
    r"""An event of probability p: :math:`P(x) = p^x (1 - p)^{1 - x}`, mean p, variance :math:`p (1 - p)`.

    Args:
        probs: :math:`p`; or
        logits: its log-odds, of which gradients are always finite.

    See :func:`dlfn.ops.bernoulli_log_prob`. Source: 004 distributions.

    >>> coin = Bernoulli(0.25)
    >>> print(coin.mean, coin.variance, coin.log_prob(1), coin.sample(jax.random.key(1), (5,)))
    0.25 0.1875 -1.3862944 [0 0 0 0 0]
    """

    probs: Any = None
    logits: Any = None

    def _check(self) -> None:
        require_chances(type(self).__name__, self.probs, self.logits)

    def log_prob(self, x: Any) -> jax.Array:
        return ops.bernoulli_log_prob(x, self.probs, self.logits)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        return jax.random.bernoulli(key, _chances(self)[0], (*shape, *self.batch_shape)).astype(jnp.int32)

    @property
    def mean(self) -> jax.Array:
        p, _, dtype = _chances(self)
        return p.astype(dtype)

    @property
    def variance(self) -> jax.Array:
        p, q, dtype = _chances(self)
        return (p * q).astype(dtype)


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Binomial(Distribution):
    r"""Successes in n independent trials: :math:`P(k) = \binom nk p^k (1 - p)^{n - k}`, mean np, variance
    :math:`np(1 - p)`.

    Args:
        trials: :math:`n`, whole and 0 or more.
        probs: :math:`p`; or
        logits: its log-odds.

    In a Binomial :func:`jax.grad` needs ``allow_int=True``, as the trials are integers. Samples have the dtype of the
    trials, and of more than 2^24 float32's digits.

    See :func:`dlfn.ops.binomial_log_prob`. Source: 004 distributions.

    >>> ten = Binomial(10, 0.5)
    >>> print(ten.mean, ten.variance, jnp.exp(ten.log_prob(5)))
    5.0 2.5 0.24609375
    """

    trials: Any
    probs: Any = None
    logits: Any = None

    def _check(self) -> None:
        require_trials("Binomial", self.trials)
        require_chances(type(self).__name__, self.probs, self.logits)

    def log_prob(self, x: Any) -> jax.Array:
        return ops.binomial_log_prob(x, self.trials, self.probs, self.logits)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        p = _chances(self)[0]
        whole = jnp.issubdtype(self.trials.dtype, jnp.integer)
        counts = jax.random.binomial(key, self.trials.astype(p.dtype), p, (*shape, *self.batch_shape))
        return counts.astype(self.trials.dtype if whole else jnp.int32)

    @property
    def mean(self) -> jax.Array:
        p, _, dtype = _chances(self)
        return (self.trials.astype(p.dtype) * p).astype(dtype)

    @property
    def variance(self) -> jax.Array:
        p, q, dtype = _chances(self)
        return (self.trials.astype(p.dtype) * p * q).astype(dtype)


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Poisson(Distribution):
    r"""Events where :math:`\lambda` are expected: :math:`P(k) = \lambda^k e^{-\lambda} / k!`, mean and variance
    :math:`\lambda`.

    Args:
        rate: :math:`\lambda`, finite and 0 or more; to sample from, small enough for the counts to fit an int.

    See :func:`dlfn.ops.poisson_log_prob`. Source: 004 distributions.

    >>> print(Poisson(2.0).log_prob(jnp.array([0, 1, 2])))
    [-2.        -1.3068528 -1.3068528]
    """

    rate: Any

    def _check(self) -> None:
        require_expected("Poisson", self.rate)

    def log_prob(self, x: Any) -> jax.Array:
        return ops.poisson_log_prob(x, self.rate)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        most = jnp.iinfo(jnp.result_type(int)).max // 2
        require_values("Poisson", "rate", self.rate, upcast(self.rate) <= most, f"at most {most:.3g} for counts to fit")
        return jax.random.poisson(key, upcast(self.rate), (*shape, *self.batch_shape))

    @property
    def mean(self) -> jax.Array:
        return self.rate

    @property
    def variance(self) -> jax.Array:
        return self.rate
