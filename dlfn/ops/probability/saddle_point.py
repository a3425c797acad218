r"""Factorials and their ratios without cancellation.

:math:`\log \binom n k p^k (1-p)^{n-k}` from three log-gammas is a difference of numbers as large as :math:`n \log n`.
Written as small corrections around the mode, as Loader does, it keeps its digits for any n:

.. math::
    \log k! = \tfrac12 \log 2 \pi k + k \log k - k + \mu(k), \qquad D(k, m) = k \log (k / m) + m - k.

Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*.
"""

import jax.numpy as jnp

from dlfn.ops.support.exponential import by_dtype, horner

__all__ = ["deviance", "stirling_error"]

# P and Q with mu(z) = P(z) / Q(z) for z >= 1, fitted in 1/z with mpmath. The errors are 3e-9 and 2e-15.
_STIRLING_32 = (
    (0.032733350651792795, 0.06767532388025434, 0.0833333590863059),
    (0.02874649199217991, 0.4258267809193619, 0.8121267880276513, 1.0),
)
_STIRLING_64 = (
    (0.014746123632882337, 0.22330533630084623, 0.7149317739453616, 1.0738250278267683, 0.8740981694698776,
     0.3898074737167206, 0.08333333333328928),
    (0.009435378499279064, 0.3816676519869451, 3.0697769112530375, 8.920414435673024, 13.041822905250665,
     10.52251138153866, 4.677689684390638, 1.0),
)  # fmt: skip

# In both functions a quotient is used once: one that is used several times, XLA on CPU writes to memory.


def stirling_error(z):
    """mu(z) for z >= 1, the error of Stirling's formula: log z! less what the formula gives."""
    p, q = by_dtype(z, _STIRLING_32, _STIRLING_64)
    z = jnp.minimum(z, 1e11)  # beyond this mu does not matter, and the powers would overflow
    return horner(p, z) / horner(q, z)


def deviance(k, mean, log_ratio):
    """D(k, mean) = k log(k/mean) + mean - k, which is not negative, to a few epsilon, given log(k/mean). At k = 0 it is
    the mean."""
    # With v = (mean - k) / (mean + k), log(k/mean) is -2 artanh v, and of its series all but the first term is left.
    more, both = mean - k, mean + k
    near = jnp.abs(more) < 0.1 * both
    v = jnp.where(near, more, jnp.zeros_like(both)) / jnp.where(both == 0, jnp.ones_like(both), both)
    w = v * v
    series = jnp.zeros_like(w)
    for j in reversed(range(by_dtype(w, 4, 8))):
        series = series * w + 1 / (2 * j + 3)
    beside = more * (more - 2 * k * w * series) / jnp.where(near, both, jnp.ones_like(both))
    return jnp.where(near, beside, jnp.where(k == 0, mean, k * log_ratio + more))
