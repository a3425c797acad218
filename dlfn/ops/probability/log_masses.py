r"""Log-probabilities of the Bernoulli and binomial distributions, with the score in their parameters.

Counts are integers, or floating point that holds whole numbers, and have no gradient. All arguments broadcast as in
NumPy, and half types are computed and summed in float32. Outside of the support the log-probability is -inf and its
gradients are 0. Parameters that belong to no distribution, such as a probability of 1.2, are refused where their values
are known; under jit value and gradients are nan, and so they are of observations that are nan.

:math:`0 \log 0 = 0`: with a probability of 0 or 1, a sure observation has the log-probability 0, an excluded one -inf.
There the gradient is the limit from inside of the interval, which for an excluded observation is infinite. In logits
all gradients are finite.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from dlfn.ops.activations.kernels import log_sigmoid_value, sigmoid_value
from dlfn.ops.probability.densities import (
    HALF_LOG_2_PI,
    cotangent,
    is_whole,
    or_nan,
    require_chances,
    require_counts,
    require_trials,
)
from dlfn.ops.probability.saddle_point import deviance, stirling_error
from dlfn.ops.support.arguments import require_broadcast
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.exponential import pick
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import or_one

__all__ = ["bernoulli_log_prob", "binomial_log_prob"]


@Op
def bernoulli_log_prob(
    x: Real[ArrayLike, "*#shape"] | Bool[ArrayLike, "*#shape"],
    probs: Float[ArrayLike, "*#shape"] | None = None,
    logits: Float[ArrayLike, "*#shape"] | None = None,
) -> Float[Array, "*shape"]:
    r"""Log-probability of an event that happened, x = 1, or did not, x = 0:
    :math:`\log p^x (1 - p)^{1 - x} = x \log p + (1 - x) \log(1 - p)`, with :math:`p = \sigma(z)` from logits.

    .. math::
        \frac{\partial \log P}{\partial p} = \frac xp - \frac{1 - x}{1 - p}, \qquad
        \frac{\partial \log P}{\partial z} = x\, \sigma(-z) - (1 - x)\, \sigma(z) = x - \sigma(z),

    as :math:`\partial p / \partial z = p (1 - p)`. If x are probabilities themselves, take
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
    >>> print(bernoulli_log_prob(x, 0.25).round(5), bernoulli_log_prob(x, logits=-90.0))
    [-1.38629 -0.28768 -0.28768] [-90.  -0.  -0.]
    >>> print(jax.grad(bernoulli_log_prob, 1)(1, 0.25), jax.grad(bernoulli_log_prob, 1)(0, 0.0))
    4.0 -1.0
    """
    x, p = jnp.asarray(x), _chance(probs, logits)
    return jnp.where((x == 0) | (x == 1), jnp.where(x == 1, jnp.log(p), jnp.log(1 - p)), -jnp.inf)


@bernoulli_log_prob.def_forward
def _bernoulli_log_prob_forward(x, probs, logits):
    given = upcast(logits) if probs is None else _probability(probs)
    happened = x == 1
    y = log_sigmoid_value(jnp.where(happened, given, -given)) if probs is None else _log_chance(happened, given)
    y = jnp.where((x == 0) | (x == 1), y, jnp.full_like(y, -jnp.inf))
    y = or_nan(y, (x == x) & (given == given))
    return y.astype((logits if probs is None else probs).dtype), (x, probs, logits)


@bernoulli_log_prob.def_backward
def _bernoulli_log_prob_backward(residuals, dy):
    x, probs, logits = residuals
    happened, possible = x == 1, (x == 0) | (x == 1)
    given = upcast(logits) if probs is None else _probability(probs)
    if probs is None:
        size = sigmoid_value(jnp.where(happened, -given, given))
        score = jnp.where(happened, size, -size)
    else:
        score = -1 / (pick(happened, -0.0, 1.0, given) - given)
    score = jnp.where(possible, score, jnp.zeros_like(score))
    score = dy.astype(score.dtype) * or_nan(score, (x == x) & (given == given))
    return (None, None, cotangent(score, logits)) if probs is None else (None, cotangent(score, probs), None)


@bernoulli_log_prob.def_check
def _bernoulli_log_prob_check(x, probs, logits):
    require_counts("bernoulli_log_prob", "x", x)
    require_chances("bernoulli_log_prob", probs, logits)
    require_broadcast("bernoulli_log_prob", x=x, **_given(probs, logits))


@Op
def binomial_log_prob(
    counts: Real[ArrayLike, "*#shape"] | Bool[ArrayLike, "*#shape"],
    trials: Real[ArrayLike, "*#shape"],
    probs: Float[ArrayLike, "*#shape"] | None = None,
    logits: Float[ArrayLike, "*#shape"] | None = None,
) -> Float[Array, "*shape"]:
    r"""Log-probability of k successes in n independent trials, :math:`\log \binom nk p^k (1 - p)^{n - k}`.

    .. math::
        \frac{\partial \log P}{\partial p} = \frac kp - \frac{n - k}{1 - p}, \qquad
        \frac{\partial \log P}{\partial z} = k\, \sigma(-z) - (n - k)\, \sigma(z) = k - n\, \sigma(z),

    with :math:`p = \sigma(z)` from logits. The logarithms of the factorials are of the order of :math:`n \log n`, the
    result of that of :math:`\log n`. So that no digits cancel, it is computed as Loader does,

    .. math::
        \log P = \mu(n) - \mu(k) - \mu(n - k) - D(k, np) - D(n - k, n(1 - p)) + \tfrac12 \log \frac{n}{2\pi k (n - k)},

    with :math:`\mu` the error of Stirling's formula and :math:`D(k, m) = k \log(k/m) + m - k`.

    Args:
        counts: :math:`k`, whole numbers, of which booleans are 0 and 1, as in SciPy; impossible outside of 0 to n.
        trials: :math:`n`, whole numbers, 0 or more.
        probs: :math:`p`, in [0, 1]; or
        logits: :math:`z`, any log-odds.

    Returns:
        One log-probability per count, in the shape that the arguments broadcast to.

    Raises:
        InputError: on both or neither of probs and logits, on integer ones, shapes that do not broadcast, and known
            counts that are not whole, trials that are negative, or probabilities that are none.

    Source: Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*; 004 distributions.

    >>> import jax, jax.numpy as jnp
    >>> counts = jnp.array([0, 2, 4, 5])
    >>> print(jnp.exp(binomial_log_prob(counts, 4, 0.5)))
    [0.0625 0.375  0.0625 0.    ]
    >>> print(jax.grad(lambda p: binomial_log_prob(2, 4, p))(0.25), jax.grad(lambda p: binomial_log_prob(0, 4, p))(0.0))
    5.333333 -4.0
    """
    p = _chance(probs, logits)
    k, n = (jnp.asarray(x).astype(jnp.result_type(p)) for x in (counts, trials))
    ways = jax.lax.lgamma(n + 1) - jax.lax.lgamma(k + 1) - jax.lax.lgamma(n - k + 1)
    return ways + k * jnp.log(p) + (n - k) * jnp.log(1 - p)


@binomial_log_prob.def_forward
def _binomial_log_prob_forward(counts, trials, probs, logits):
    given = upcast(logits) if probs is None else _probability(probs)
    k, rest, n, possible, valid = _outcomes(counts, trials, given.dtype)
    if probs is None:
        parts = _part(k, n, sigmoid_value(given), given) + _part(rest, n, sigmoid_value(-given), -given)
    else:
        parts = _part(k, n, given) + _part(rest, n, 1 - given)
    # Where all trials ended alike, the two parts are all there is: D(n, np) + n (1 - p) is -n log p.
    some, others, of = or_one(k), or_one(rest), or_one(n)
    ways = stirling_error(of) - stirling_error(some) - stirling_error(others)
    ways = ways + (0.5 * jnp.log(of / some / others) - HALF_LOG_2_PI)
    y = jnp.where((k == 0) | (rest == 0), -parts, ways - parts)
    y = or_nan(jnp.where(possible, y, jnp.full_like(y, -jnp.inf)), valid & (given == given))
    return y.astype((logits if probs is None else probs).dtype), (counts, trials, probs, logits)


@binomial_log_prob.def_backward
def _binomial_log_prob_backward(residuals, dy):
    counts, trials, probs, logits = residuals
    given = upcast(logits) if probs is None else _probability(probs)
    k, rest, _, possible, valid = _outcomes(counts, trials, given.dtype)
    if probs is None:
        score = k * sigmoid_value(-given) - rest * sigmoid_value(given)
    else:
        # 0 / 0 counts as 0: a number of 0 successes has no part in the derivative, nor has one of 0 failures.
        one = jnp.ones_like(given)
        score = k / jnp.where(k == 0, one, given) - rest / jnp.where(rest == 0, one, 1 - given)
    score = jnp.where(possible, score, jnp.zeros_like(score))
    score = dy.astype(score.dtype) * or_nan(score, valid & (given == given))
    return (
        (None, None, None, cotangent(score, logits)) if probs is None else (None, None, cotangent(score, probs), None)
    )


@binomial_log_prob.def_check
def _binomial_log_prob_check(counts, trials, probs, logits):
    require_counts("binomial_log_prob", "counts", counts)
    require_trials("binomial_log_prob", trials)
    require_chances("binomial_log_prob", probs, logits)
    require_broadcast("binomial_log_prob", counts=counts, trials=trials, **_given(probs, logits))


def _log_chance(happened, p):
    """log p or log(1 - p), by one logarithm: log1p costs XLA on CPU as much as two."""
    whole = pick(happened, 0.0, 1.0, p)
    rest = whole - p
    lost = (whole - rest) - p
    chance = jnp.abs(rest)
    # log(chance + lost), to first order in lost, which is not 0 for 1 - p alone; that is eps / 2 at least, or 0.
    return jnp.log(chance) + lost / jnp.maximum(chance, jnp.finfo(p.dtype).eps / 2)


def _outcomes(counts, trials, dtype):
    """k, n - k and n, each with a possible number in place of an impossible one; where k is possible; and where n is a
    number of trials and k is not nan."""
    # Integers are subtracted as integers: beyond 2^24 float32 does not hold them.
    kind = dtype
    if not any(jnp.issubdtype(x.dtype, jnp.floating) for x in (counts, trials)):
        kind = jax.dtypes.canonicalize_dtype(np.result_type(counts.dtype, trials.dtype, np.int32))
    k, n = counts.astype(kind), trials.astype(kind)
    possible = (k >= 0) & (k <= n) & is_whole(k)
    valid = (n >= 0) & is_whole(n) & (k == k)
    n = jnp.maximum(n, 0)
    k = jnp.clip(k, 0, n)
    return k.astype(dtype), (n - k).astype(dtype), n.astype(dtype), possible, valid


def _part(k, n, p, z=None):
    """D(k, np); z is the logit of p, if that is what was given."""
    # k / np must not overflow. Where a sigmoid is below 1e-20, its logarithm is its logit.
    some, mean = or_one(k), n * p
    if z is None:
        tiny = p < 2.0**-64
        inside, shift = mean * 2.0**64, jnp.full_like(mean, 64 * math.log(2))
    else:
        tiny = z < -46.0
        inside, shift = or_one(n), -z
    log_ratio = jnp.log(some / jnp.where(tiny, inside, mean)) + jnp.where(tiny, shift, jnp.zeros_like(shift))
    return deviance(k, mean, log_ratio)


def _probability(probs):
    p = upcast(probs)
    return or_nan(p, (p >= 0) & (p <= 1))


def _chance(probs, logits) -> jax.Array:
    """p, as a textbook has it."""
    return probs if logits is None else 1 / (1 + jnp.exp(-logits))


def _given(probs, logits):
    return {"probs": probs} if logits is None else {"logits": logits}
