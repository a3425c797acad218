"""Distributions of real numbers: normal, uniform, exponential. Samples are reparameterised: functions of the parameters
and of noise that does not depend on them, so that they have gradients."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.ops.probability.densities import require_ends
from dlfn.ops.support.arguments import require_float, require_positive
from dlfn.ops.support.dtypes import upcast
from dlfn.probability.distribution import Distribution, as_real, pytree

__all__ = ["Exponential", "Normal", "Uniform"]


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Normal(Distribution):
    r"""The normal distribution, with mean :math:`\mu` and variance :math:`\sigma^2`.

    Samples are :math:`x = \mu + \sigma \epsilon` with standard normal :math:`\epsilon`, so that
    :math:`\partial x / \partial \mu = 1` and :math:`\partial x / \partial \sigma = \epsilon`.

    Args:
        loc: :math:`\mu`.
        scale: :math:`\sigma`, positive and finite.

    See :func:`dlfn.ops.normal_log_prob`. Source: 004 distributions.

    >>> print(Normal(1.0, 2.0).log_prob(3.0), Normal(1.0, 2.0).variance)
    -2.1120858 4.0
    >>> score = jax.grad(lambda d: d.log_prob(3.0))(Normal(1.0, 2.0))
    >>> print(score.loc, score.scale)
    0.5 0.0
    """

    loc: Any
    scale: Any

    def _check(self) -> None:
        require_float("Normal", "loc", self.loc)
        require_positive("Normal", "scale", self.scale)

    def log_prob(self, x: Any) -> jax.Array:
        return ops.normal_log_prob(as_real(x), self.loc, self.scale)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        loc, scale = upcast(self.loc, self.scale)  # the noise of half types is coarse
        x = loc + scale * jax.random.normal(key, (*shape, *self.batch_shape), loc.dtype)
        return x.astype(jnp.result_type(self.loc, self.scale))

    @property
    def mean(self) -> jax.Array:
        return self._of_batch(self.loc)

    @property
    def variance(self) -> jax.Array:
        return self._of_batch(self.scale * self.scale)


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Uniform(Distribution):
    r"""All numbers of an interval alike: density :math:`1 / (b - a)`, mean :math:`(a + b) / 2`, variance
    :math:`(b - a)^2 / 12`.

    Samples are :math:`x = a + (b - a) u` with u uniform on [0, 1), so that :math:`\partial x / \partial a = 1 - u` and
    :math:`\partial x / \partial b = u`.

    Args:
        low: :math:`a`.
        high: :math:`b`, greater than a.

    See :func:`dlfn.ops.uniform_log_prob`. Source: 004 distributions.

    >>> print(Uniform(0.0, 4.0).log_prob(jnp.array([1.0, 5.0])), Uniform(0.0, 4.0).variance)
    [-1.3862944       -inf] 1.3333334
    """

    low: Any
    high: Any

    def _check(self) -> None:
        require_ends("Uniform", self.low, self.high)

    def log_prob(self, x: Any) -> jax.Array:
        return ops.uniform_log_prob(as_real(x), self.low, self.high)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        low, high = upcast(self.low, self.high)
        x = low + (high - low) * jax.random.uniform(key, (*shape, *self.batch_shape), low.dtype)
        return x.astype(jnp.result_type(self.low, self.high))

    @property
    def mean(self) -> jax.Array:
        return 0.5 * self.low + 0.5 * self.high

    @property
    def variance(self) -> jax.Array:
        return (self.high - self.low) ** 2 / 12


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Exponential(Distribution):
    r"""Waiting times: density :math:`\lambda e^{-\lambda x}` for :math:`x \ge 0`, mean :math:`1 / \lambda`, variance
    :math:`1 / \lambda^2`.

    Samples are :math:`x = -\log(1 - u) / \lambda` with u uniform on [0, 1), so that
    :math:`\partial x / \partial \lambda = -x / \lambda`.

    Args:
        rate: :math:`\lambda`, positive and finite.

    See :func:`dlfn.ops.exponential_log_prob`. Source: 004 distributions.

    >>> print(Exponential(2.0).log_prob(1.0), Exponential(2.0).mean, Exponential(2.0).variance)
    -1.3068528 0.5 0.25
    """

    rate: Any

    def _check(self) -> None:
        require_positive("Exponential", "rate", self.rate)

    def log_prob(self, x: Any) -> jax.Array:
        return ops.exponential_log_prob(as_real(x), self.rate)

    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        rate = upcast(self.rate)
        return (jax.random.exponential(key, (*shape, *self.batch_shape), rate.dtype) / rate).astype(self.rate.dtype)

    @property
    def mean(self) -> jax.Array:
        return 1 / self.rate

    @property
    def variance(self) -> jax.Array:
        return 1 / (self.rate * self.rate)
