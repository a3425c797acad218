r"""Log-probabilities of the Bernoulli, binomial and Poisson distributions, with the score in their parameters.

Counts are integers, or floating point that holds whole numbers, and have no gradient. All arguments broadcast as in
NumPy, and half types are computed and summed in float32. Outside of the support the log-probability is -inf and its
gradients are 0. Parameters that belong to no distribution, such as a probability of 1.2, are refused where their values
are known; under jit value and gradients are nan.

:math:`0 \log 0 = 0`: a probability of 0 or 1 gives what it makes sure the log-probability 0, and what it excludes -inf.
There the gradient is the limit from inside of the interval, which of the excluded is infinite. From logits all
gradients are finite.
"""

import math

import jax
import jax.numpy as jnp

from dlfn.core import InputError, Op
from dlfn.ops._common import require_float, upcast
from dlfn.ops._densities import (
    HALF_LOG_2_PI,
    cotangent,
    is_whole,
    or_nan,
    require_broadcast,
    require_counts,
    require_values,
)
from dlfn.ops._elementwise import log_sigmoid_value, sigmoid_value
from dlfn.ops._saddle_point import deviance, stirling_error

__all__ = ["bernoulli_log_prob", "binomial_log_prob", "poisson_log_prob"]


def _check_chances(op, probs, logits):
    if (probs is None) == (logits is None):
        raise InputError(f"{op}: give either probs or logits, got {'neither' if probs is None else 'both'}")
    if probs is None:
        require_float(op, "logits", logits)
    else:
        require_float(op, "probs", probs)
        hint = "in [0, 1], as probs are probabilities; pass log-odds as logits="
        require_values(op, "probs", probs, lambda p: (p >= 0) & (p <= 1), hint)


def _chances(probs, logits):
    """p, 1 - p and their logarithms."""
    if probs is None:
        z = upcast(logits)
        return sigmoid_value(z), sigmoid_value(-z), log_sigmoid_value(z), log_sigmoid_value(-z)
    p = _probability(probs)
    return p, 1 - p, jnp.log(p), jnp.log1p(-p)


def _probability(probs):
    p = upcast(probs)
    return or_nan(p, (p >= 0) & (p <= 1))


@Op
def bernoulli_log_prob(x, probs=None, logits=None):
    r"""Log-probability of an event that happened, x = 1, or did not, x = 0:
    :math:`\log p^x (1 - p)^{1 - x} = x \log p + (1 - x) \log(1 - p)`, with :math:`p = \sigma(z)` from logits.

    .. math::
        \frac{\partial \log P}{\partial p} = \frac xp - \frac{1 - x}{1 - p}, \qquad
        \frac{\partial \log P}{\partial z} = x\, \sigma(-z) - (1 - x)\, \sigma(z) = x - \sigma(z),

    as :math:`\partial p / \partial z = p (1 - p)`. For x that are probabilities themselves take
    :func:`binary_cross_entropy`.

    Args:
        x: observations, 0 or 1; boolean, integer or floating point.
        probs: :math:`p`, in [0, 1]; or
        logits: :math:`z`, any log-odds.

    Returns:
        One log-probability per observation, in the shape that the arguments broadcast to.

    Raises:
        InputError: on both or neither of probs and logits, on integer ones, shapes that do not broadcast, and known
            observations that are no whole numbers or probabilities that are none.

    Source: 004 distributions.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([1, 0, 0])
    >>> print(bernoulli_log_prob(x, 0.25), bernoulli_log_prob(x, logits=-90.0))
    [-1.3862944  -0.28768206 -0.28768206] [-90.  -0.  -0.]
    >>> print(jax.grad(bernoulli_log_prob, 1)(1, 0.25), jax.grad(bernoulli_log_prob, 1)(0, 0.0))
    4.0 -1.0
    """
    p = 1 / (1 + jnp.exp(-logits)) if probs is None else probs
    return jnp.where((x == 0) | (x == 1), jnp.where(x == 1, jnp.log(p), jnp.log(1 - p)), -jnp.inf)


@bernoulli_log_prob.def_check
def _bernoulli_check(x, probs, logits):
    require_counts("bernoulli_log_prob", "x", x)
    _check_chances("bernoulli_log_prob", probs, logits)
    require_broadcast("bernoulli_log_prob", x=x, **_given(probs, logits))


def _given(probs, logits):
    return {"probs": probs} if logits is None else {"logits": logits}


@bernoulli_log_prob.def_forward
def _bernoulli_forward(x, probs, logits):
    if probs is None:
        z = upcast(logits)
        y = log_sigmoid_value(jnp.where(x == 1, z, -z))
    else:
        p = _probability(probs)
        y = jnp.where(x == 1, jnp.log(p), jnp.log1p(-p))
    y = jnp.where((x == 0) | (x == 1), y, jnp.full_like(y, -jnp.inf))
    return y.astype((logits if probs is None else probs).dtype), (x, probs, logits)


@bernoulli_log_prob.def_backward
def _bernoulli_backward(residuals, dy):
    x, probs, logits = residuals
    happened, possible = x == 1, (x == 0) | (x == 1)
    if probs is None:
        z = upcast(logits)
        size = sigmoid_value(jnp.where(happened, -z, z))
    else:
        p = _probability(probs)
        size = 1 / jnp.where(happened, p, 1 - p)
    score = jnp.where(happened, size, -size)
    score = dy.astype(score.dtype) * jnp.where(possible, score, jnp.zeros_like(score))
    return (None, None, cotangent(score, logits)) if probs is None else (None, cotangent(score, probs), None)


@Op
def binomial_log_prob(counts, trials, probs=None, logits=None):
    r"""Log-probability of k successes in n independent trials, :math:`\log \binom nk p^k (1 - p)^{n - k}`.

    .. math::
        \frac{\partial \log P}{\partial p} = \frac kp - \frac{n - k}{1 - p}, \qquad
        \frac{\partial \log P}{\partial z} = k\, \sigma(-z) - (n - k)\, \sigma(z) = k - n\, \sigma(z),

    with :math:`p = \sigma(z)` from logits. The logarithms of the factorials are of the order of :math:`n \log n` and
    the result of that of :math:`\log n`; so that no digits cancel it is computed as Loader does,

    .. math::
        \log P = \mu(n) - \mu(k) - \mu(n - k) - D(k, np) - D(n - k, n(1 - p)) + \tfrac12 \log \frac{n}{2\pi k (n - k)},

    with :math:`\mu` the error of Stirling's formula and :math:`D(k, m) = k \log(k/m) + m - k`.

    Args:
        counts: :math:`k`, whole numbers; impossible outside of 0 to n.
        trials: :math:`n`, whole numbers, 0 or more.
        probs: :math:`p`, in [0, 1]; or
        logits: :math:`z`, any log-odds.

    Returns:
        One log-probability per count, in the shape that the arguments broadcast to.

    Raises:
        InputError: on both or neither of probs and logits, on integer ones, shapes that do not broadcast, and known
            counts that are not whole, trials that are negative, or probabilities that are none.

    Source: 004 distributions; Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*.

    >>> import jax, jax.numpy as jnp
    >>> counts = jnp.array([0, 2, 4, 5])
    >>> print(jnp.exp(binomial_log_prob(counts, 4, 0.5)))
    [0.0625 0.375  0.0625 0.    ]
    >>> print(jax.grad(lambda p: binomial_log_prob(2, 4, p))(0.25), jax.grad(lambda p: binomial_log_prob(0, 4, p))(0.0))
    5.333333 -4.0
    """
    dtype = (logits if probs is None else probs).dtype
    k, n = counts.astype(dtype), trials.astype(dtype)
    p = 1 / (1 + jnp.exp(-logits)) if probs is None else probs
    ways = jax.lax.lgamma(n + 1) - jax.lax.lgamma(k + 1) - jax.lax.lgamma(n - k + 1)
    return ways + k * jnp.log(p) + (n - k) * jnp.log(1 - p)


@binomial_log_prob.def_check
def _binomial_check(counts, trials, probs, logits):
    require_counts("binomial_log_prob", "counts", counts)
    require_counts("binomial_log_prob", "trials", trials)
    require_values("binomial_log_prob", "trials", trials, lambda n: n >= 0, "0 or more")
    _check_chances("binomial_log_prob", probs, logits)
    require_broadcast("binomial_log_prob", counts=counts, trials=trials, **_given(probs, logits))


def _outcomes(counts, trials, dtype):
    """k, n - k and n, all 0 where k is impossible; where it is possible; and where n is a number of trials."""
    # Integers are subtracted as integers: beyond 2^24 float32 does not hold them.
    kinds = [jnp.promote_types(x.dtype, jnp.int32) for x in (counts, trials)]
    kind = dtype if any(jnp.issubdtype(kind, jnp.floating) for kind in kinds) else jnp.promote_types(*kinds)
    k, n = counts.astype(kind), trials.astype(kind)
    possible = (k >= 0) & (k <= n) & is_whole(k)
    valid = (n >= 0) & is_whole(n)
    k, n = (jnp.where(possible, x, jnp.zeros_like(x)) for x in (k, n))
    return k.astype(dtype), (n - k).astype(dtype), n.astype(dtype), possible, valid


def _or_one(x):
    return jnp.where(x == 0, jnp.ones_like(x), x)


@binomial_log_prob.def_forward
def _binomial_forward(counts, trials, probs, logits):
    p, q, log_p, log_q = _chances(probs, logits)
    k, rest, n, possible, valid = _outcomes(counts, trials, p.dtype)
    certain = jnp.where(k == 0, jnp.zeros_like(k), k * log_p) + jnp.where(rest == 0, jnp.zeros_like(k), rest * log_q)
    some, others, of = _or_one(k), _or_one(rest), _or_one(n)
    mixed = stirling_error(of) - stirling_error(some) - stirling_error(others)
    mixed = mixed - _part(some, of, p, log_p) - _part(others, of, q, log_q)
    mixed = mixed + 0.5 * jnp.log(of / some / others) - HALF_LOG_2_PI
    y = jnp.where((k == 0) | (rest == 0), certain, mixed)
    y = or_nan(jnp.where(possible, y, jnp.full_like(y, -jnp.inf)), valid & (p == p))
    return y.astype((logits if probs is None else probs).dtype), (counts, trials, probs, logits)


def _part(k, n, p, log_p):
    """D(k, np)."""
    # Where p is so small, or 0 as of a very negative logit, that k / np might overflow, its logarithm has to do.
    tiny = p < 1e-20
    log_ratio = jnp.log(k / jnp.where(tiny, n, n * p)) - jnp.where(tiny, log_p, jnp.zeros_like(log_p))
    return deviance(k, n * p, log_ratio)


@binomial_log_prob.def_backward
def _binomial_backward(residuals, dy):
    counts, trials, probs, logits = residuals
    given = upcast(logits) if probs is None else _probability(probs)
    k, rest, _, possible, valid = _outcomes(counts, trials, given.dtype)
    if probs is None:
        score = k * sigmoid_value(-given) - rest * sigmoid_value(given)
    else:
        # 0 / 0 is 0: no successes say nothing about log p.
        one = jnp.ones_like(given)
        score = k / jnp.where(k == 0, one, given) - rest / jnp.where(rest == 0, one, 1 - given)
    score = jnp.where(possible, or_nan(score, valid & (given == given)), jnp.zeros_like(score))
    score = dy.astype(score.dtype) * score
    return (
        (None, None, None, cotangent(score, logits)) if probs is None else (None, None, cotangent(score, probs), None)
    )


@Op
def poisson_log_prob(counts, rate):
    r"""Log-probability of k events where :math:`\lambda` are expected,
    :math:`\log \lambda^k e^{-\lambda} / k! = k \log \lambda - \lambda - \log k!`.

    .. math::
        \frac{\partial \log P}{\partial \lambda} = \frac k\lambda - 1 = \frac{k - \lambda}{\lambda}.

    For large k the three terms cancel; computed is
    :math:`-\mu(k) - D(k, \lambda) - \tfrac12 \log 2\pi k`, as in :func:`binomial_log_prob`.

    Args:
        counts: :math:`k`, whole numbers; negative ones are impossible.
        rate: :math:`\lambda`, finite and 0 or more.

    Returns:
        One log-probability per count, in the shape that the arguments broadcast to.

    Raises:
        InputError: on an integer rate, shapes that do not broadcast, and known counts that are not whole or rates that
            are negative or infinite.

    Source: 004 distributions; Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*.

    >>> import jax, jax.numpy as jnp
    >>> print(poisson_log_prob(jnp.array([0, 1, 1000000]), jnp.array([0.0, 2.0, 1e6])))
    [-0.        -1.3068528 -7.826694 ]
    >>> print(jax.grad(poisson_log_prob, 1)(0, 0.0), jax.grad(poisson_log_prob, 1)(3, 2.0))
    -1.0 0.5
    """
    k = counts.astype(rate.dtype)
    return k * jnp.log(rate) - rate - jax.lax.lgamma(k + 1)


@poisson_log_prob.def_check
def _poisson_check(counts, rate):
    require_counts("poisson_log_prob", "counts", counts)
    require_float("poisson_log_prob", "rate", rate)
    require_values("poisson_log_prob", "rate", rate, lambda r: (r >= 0) & (r < jnp.inf), "finite and 0 or more")
    require_broadcast("poisson_log_prob", counts=counts, rate=rate)


def _events(counts, rate):
    r = upcast(rate)
    possible = (counts >= 0) & is_whole(counts)
    k = jnp.where(possible, counts, jnp.zeros_like(counts)).astype(r.dtype)
    return k, or_nan(r, (r >= 0) & (r < jnp.inf)), possible


@poisson_log_prob.def_forward
def _poisson_forward(counts, rate):
    k, r, possible = _events(counts, rate)
    some = _or_one(k)
    # k / r must not overflow.
    tiny = r < 2.0**-64
    log_ratio = jnp.log(some / jnp.where(tiny, r * 2.0**64, r))
    log_ratio = log_ratio + jnp.where(tiny, jnp.full_like(r, 64 * math.log(2)), jnp.zeros_like(r))
    y = -(stirling_error(some) + deviance(some, r, log_ratio)) - (0.5 * jnp.log(some) + HALF_LOG_2_PI)
    y = jnp.where(k == 0, -r, y)
    y = or_nan(jnp.where(possible, y, jnp.full_like(y, -jnp.inf)), r == r)
    return y.astype(rate.dtype), (counts, rate)


@poisson_log_prob.def_backward
def _poisson_backward(residuals, dy):
    counts, rate = residuals
    k, r, possible = _events(counts, rate)
    valid = r == r
    r = jnp.where(k == 0, jnp.ones_like(r), r)  # no events: -1 whatever the rate
    score = or_nan(jnp.where(possible, (k - r) / r, jnp.zeros_like(r)), valid)
    return None, cotangent(dy.astype(r.dtype) * score, rate)
