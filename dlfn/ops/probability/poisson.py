r"""Log-probability of the Poisson distribution, with the score in its rate."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from dlfn.ops.probability.densities import (
    HALF_LOG_2_PI,
    cotangent,
    is_whole,
    or_nan,
    require_counts,
    require_expected,
)
from dlfn.ops.probability.saddle_point import deviance, stirling_error
from dlfn.ops.support.arguments import require_broadcast
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import or_one

__all__ = ["poisson_log_prob"]


@Op
def poisson_log_prob(
    counts: Real[ArrayLike, "*#shape"] | Bool[ArrayLike, "*#shape"], rate: Float[ArrayLike, "*#shape"]
) -> Float[Array, "*shape"]:
    r"""Log-probability of k events where :math:`\lambda` are expected,
    :math:`\log \lambda^k e^{-\lambda} / k! = k \log \lambda - \lambda - \log k!`.

    .. math::
        \frac{\partial \log P}{\partial \lambda} = \frac k\lambda - 1 = \frac{k - \lambda}{\lambda}.

    For large k the three terms cancel, so it is computed as :math:`-\mu(k) - D(k, \lambda) - \tfrac12 \log 2\pi k`, as
    in :func:`binomial_log_prob`. With a rate of 0 there are no events: any other count has probability 0, and its score
    is the limit from above, infinity. Half types are computed and summed in float32.

    Args:
        counts: :math:`k`, whole numbers, of which booleans are 0 and 1, as in SciPy; negative ones are impossible.
        rate: :math:`\lambda`, finite and 0 or more.

    Returns:
        One log-probability per count, in the shape that the arguments broadcast to.

    Raises:
        InputError: on an integer rate, shapes that do not broadcast, and known counts that are not whole or rates that
            are negative or infinite.

    Source: Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*; 004 distributions.

    >>> import jax, jax.numpy as jnp
    >>> print(poisson_log_prob(jnp.array([0, 1, 1000000]), jnp.array([0.0, 2.0, 1e6])))
    [-0.        -1.3068528 -7.826694 ]
    >>> print(jax.grad(poisson_log_prob, 1)(0, 0.0), jax.grad(poisson_log_prob, 1)(3, 2.0))
    -1.0 0.5
    """
    rate = jnp.asarray(rate)
    k = jnp.asarray(counts).astype(rate.dtype)
    return k * jnp.log(rate) - rate - jax.lax.lgamma(k + 1)


@poisson_log_prob.def_forward
def _poisson_log_prob_forward(counts, rate):
    k, r, possible = _events(counts, rate)
    some = or_one(k)
    # k / r must not overflow.
    tiny = r < 2.0**-64
    log_ratio = jnp.log(some / jnp.where(tiny, r * 2.0**64, r))
    log_ratio = log_ratio + jnp.where(tiny, jnp.full_like(r, 64 * math.log(2)), jnp.zeros_like(r))
    y = -(stirling_error(some) + deviance(some, r, log_ratio)) - (0.5 * jnp.log(some) + HALF_LOG_2_PI)
    y = jnp.where(k == 0, -r, y)
    y = or_nan(jnp.where(possible, y, jnp.full_like(y, -jnp.inf)), r == r)
    return y.astype(rate.dtype), (counts, rate)


@poisson_log_prob.def_backward
def _poisson_log_prob_backward(residuals, dy):
    counts, rate = residuals
    k, r, possible = _events(counts, rate)
    valid = r == r
    r = jnp.where(k == 0, jnp.ones_like(r), r)  # for no events the score is -1, whatever the rate
    score = or_nan(jnp.where(possible, (k - r) / r, jnp.zeros_like(r)), valid)
    return None, cotangent(dy.astype(r.dtype) * score, rate)


@poisson_log_prob.def_check
def _poisson_log_prob_check(counts, rate):
    require_counts("poisson_log_prob", "counts", counts)
    require_expected("poisson_log_prob", rate)
    require_broadcast("poisson_log_prob", counts=counts, rate=rate)


def _events(counts, rate):
    """In the dtype to compute in, the counts, 0 or more, and the rate, nan where it is none; and which counts are
    possible."""
    r = upcast(rate)
    possible = (counts >= 0) & is_whole(counts)
    return jnp.maximum(counts, 0).astype(r.dtype), or_nan(r, (r >= 0) & (r < jnp.inf) & (counts == counts)), possible
