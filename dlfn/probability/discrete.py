"""Distributions of counts: Bernoulli, binomial, Poisson. Counts have no gradient, and neither have samples of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.ops._common import upcast
from dlfn.ops._densities import require_chances, require_expected, require_trials
from dlfn.probability.distribution import Distribution, pytree

__all__ = ["Bernoulli", "Binomial", "Poisson"]


def _chances(distribution: Any) -> tuple[jax.Array, jax.Array]:
    """p and 1 - p."""
    if distribution.probs is not None:
        return distribution.probs, 1 - distribution.probs
    return ops.sigmoid(distribution.logits), ops.sigmoid(-distribution.logits)


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
        return _chances(self)[0]

    @property
    def variance(self) -> jax.Array:
        p, q = _chances(self)
        return p * q


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Binomial(Distribution):
    r"""Successes in n independent trials: :math:`P(k) = \binom nk p^k (1 - p)^{n - k}`, mean np, variance
    :math:`np(1 - p)`.

    Args:
        trials: :math:`n`, whole and 0 or more.
        probs: :math:`p`; or
        logits: its log-odds.

    In a Binomial :func:`jax.grad` needs ``allow_int=True``, as the trials are integers.

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
        p = upcast(_chances(self)[0])  # bfloat16 would round the trials
        n = self.trials.astype(p.dtype)
        return jax.random.binomial(key, n, p, (*shape, *self.batch_shape)).astype(jnp.int32)

    @property
    def mean(self) -> jax.Array:
        p, _ = _chances(self)
        return self.trials.astype(p.dtype) * p

    @property
    def variance(self) -> jax.Array:
        p, q = _chances(self)
        return self.trials.astype(p.dtype) * p * q


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Poisson(Distribution):
    r"""Events where :math:`\lambda` are expected: :math:`P(k) = \lambda^k e^{-\lambda} / k!`, mean and variance
    :math:`\lambda`.

    Args:
        rate: :math:`\lambda`, finite and 0 or more.

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
        return jax.random.poisson(key, self.rate, (*shape, *self.batch_shape))

    @property
    def mean(self) -> jax.Array:
        return self.rate

    @property
    def variance(self) -> jax.Array:
        return self.rate
