r"""Factorials and their ratios without cancellation.

:math:`\log \binom n k p^k (1-p)^{n-k}` from three log-gammas is a difference of numbers as large as :math:`n \log n`.
Written as small corrections around the mode, as Loader does, it keeps its digits for any n:

.. math::
    \log k! = \tfrac12 \log 2 \pi k + k \log k - k + \mu(k), \qquad D(k, m) = k \log (k / m) + m - k.

Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*.
"""

import jax.numpy as jnp

from dlfn.ops._exponential import by_dtype, horner

__all__ = ["deviance", "stirling_error"]

# P and Q with z mu(z) = P(1/z) / Q(1/z) for z >= 1, fitted with mpmath. The errors of mu are 3e-9 and 2e-15.
_STIRLING_32 = (
    (0.0833333590863059, 0.06767532388025434, 0.032733350651792795),
    (1.0, 0.8121267880276513, 0.4258267809193619, 0.02874649199217991),
)
_STIRLING_64 = (
    (0.08333333333328928, 0.3898074737167206, 0.8740981694698776, 1.0738250278267683, 0.7149317739453616,
     0.22330533630084623, 0.014746123632882337),
    (1.0, 4.677689684390638, 10.52251138153866, 13.041822905250665, 8.920414435673024, 3.0697769112530375,
     0.3816676519869451, 0.009435378499279064),
)  # fmt: skip


def stirling_error(z):
    """mu(z) for z >= 1: log z! without Stirling's formula."""
    p, q = by_dtype(z, _STIRLING_32, _STIRLING_64)
    s = 1 / z
    return s * horner(p, s) / horner(q, s)


def deviance(k, mean, log_ratio):
    """k log(k/mean) + mean - k, 0 or more, for k > 0, given log(k/mean) good to an absolute error of a few epsilon."""
    # With v = (mean - k) / (mean + k), log(k/mean) is -2 artanh v, and of its series all but the first term is left.
    v = (mean - k) / (mean + k)
    near = jnp.abs(v) < 0.1
    v = jnp.where(near, v, jnp.zeros_like(v))
    w = v * v
    series = jnp.zeros_like(v)
    for j in reversed(range(by_dtype(k, 4, 8))):
        series = series * w + 1 / (2 * j + 3)
    return jnp.where(near, v * ((mean - k) - 2 * k * w * series), k * log_ratio + (mean - k))
