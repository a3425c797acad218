r"""Tests of a hypothesis :math:`H_0` by their closed-form distributions.

The p-value is the probability, if :math:`H_0` is true, of data at least as extreme as those observed. Reject
:math:`H_0` where it is below a level :math:`\alpha` that was chosen before. "two-sided" takes deviations in both
directions for extreme, "greater" and "less" only those in one.

All work under ``jit`` and ``vmap``. There values are not known, and a std that is not positive, negative counts, a row
of zeros and expected counts of another sum give nan. p-values are exact to about 1e-12 in float64 and 3e-5 in float32
(relative), far into the tails.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.probability.densities import require_counts
from dlfn.ops.support.arguments import describe, require_positive, require_values
from dlfn.ops.support.scaled import finite, largest, unit_factor
from dlfn.statistics._samples import check_alternative, numbers, welch
from dlfn.statistics._tails import chi_squared_tail, normal_tail, t_tail

__all__ = ["Result", "chi_squared_test", "welch_t_test", "z_test"]


class Result(NamedTuple):
    """What a test found. ``df`` are the degrees of freedom, None where the test has none."""

    statistic: jax.Array
    p_value: jax.Array
    df: jax.Array | None = None


def _p_value(tail: Any, statistic: jax.Array, alternative: str) -> jax.Array:
    """Of a symmetric distribution."""
    if alternative == "two-sided":
        return jnp.minimum(2 * tail(jnp.abs(statistic)), 1.0)
    return tail(statistic if alternative == "greater" else -statistic)


def z_test(x: Any, mean: Any, std: Any, *, alternative: str = "two-sided") -> Result:
    r"""Whether observations of known spread have a given mean: :math:`z = (\bar x - \mu_0) \sqrt n / \sigma`.

    Args:
        x: (..., n) independent observations; normal, or many.
        mean: :math:`\mu_0`, that of :math:`H_0`.
        std: :math:`\sigma`, known beforehand and positive. Where it comes from x, take a t-test.
        alternative: "two-sided", or that the mean is "greater" or "less" than :math:`\mu_0`.

    Returns:
        z and p, of the leading shape.

    Raises:
        InputError: on no observations, a known std that is not positive, an unknown alternative.

    Source: 004 hypothesis testing.

    >>> z, p, _ = z_test(jnp.array([1.2, 0.8, 1.9, 1.5]), 1.0, 0.5)
    >>> print(f"z = {z:.3f}, p = {p:.4f}")
    z = 1.400, p = 0.1615
    """
    check_alternative("z_test", alternative)
    x = numbers("z_test", "x", x)
    mean, std = jnp.asarray(mean, x.dtype), jnp.asarray(std, x.dtype)
    require_positive("z_test", "std", std)
    std = jnp.where((std > 0) & (std < jnp.inf), std, jnp.nan)
    unit = unit_factor(std)  # in about this unit no sum overflows, and halves do not before
    deviations = (x / 2 - mean[..., None] / 2) * unit[..., None]
    z = jnp.mean(deviations, axis=-1) * (2 * x.shape[-1] ** 0.5) / (std * unit)
    return Result(z, _p_value(normal_tail, z, alternative))


def welch_t_test(a: Any, b: Any, *, alternative: str = "two-sided") -> Result:
    r"""Whether two samples have the same mean, their variances being unknown and perhaps different.

    .. math::
        t = \frac{\bar a - \bar b}{\sqrt{v_a + v_b}}, \qquad v = \frac{s^2}{n}, \qquad
        \nu = \frac{(v_a + v_b)^2}{v_a^2 / (n_a - 1) + v_b^2 / (n_b - 1)}

    with :math:`s^2` the unbiased variances and :math:`\nu` the degrees of freedom of Student's t distribution.

    Args:
        a: (..., n_a) independent observations, two or more.
        b: (..., n_b) likewise.
        alternative: "two-sided", or that the mean of a is "greater" or "less" than that of b.

    Returns:
        t, p and ν, of the leading shape. Two samples without any spread have infinite t and p = 0 or, one-sided, 1;
        where they are equal too t and p are nan, 0/0.

    Raises:
        InputError: on fewer than two observations, whose variance is not known, and an unknown alternative.

    Source: 004 hypothesis testing; Welch 1947, *The Generalization of "Student's" Problem when Several Different
    Population Variances are Involved*.

    >>> t, p, df = welch_t_test(jnp.array([3.1, 2.9, 3.3, 3.0]), jnp.array([2.5, 2.8, 2.2]))
    >>> print(f"t = {t:.3f}, p = {p:.4f}, df = {df:.2f}")
    t = 2.978, p = 0.0594, df = 2.97
    """
    check_alternative("welch_t_test", alternative)
    a, b = numbers("welch_t_test", "a", a, 2), numbers("welch_t_test", "b", b, 2)
    t, df = _welch_statistic(a, b)
    return Result(t, _p_value(lambda t: t_tail(t, df), t, alternative), df)


@jax.jit
def _welch_statistic(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    unit = unit_factor(finite(jnp.maximum(largest(a, -1), largest(b, -1))))  # t has none, and no sum in it overflows
    difference, error, df = welch(a * unit, b * unit)
    return difference / error, df


def chi_squared_test(observed: Any, expected: Any = None, *, ddof: int = 0) -> Result:
    r"""Pearson's test of counts, :math:`\chi^2 = \sum_i (O_i - E_i)^2 / E_i`.

    Args:
        observed: counts. (k,), to be tested against ``expected``; or a table (r, c), to be tested for independence of
            its rows and columns, where :math:`E_{ij}` is the product of the row's and the column's sum, divided by the
            total, and :math:`\nu = (r - 1)(c - 1)`; without a continuity correction.
        expected: (k,), positive, with the sum of ``observed``; None for the same in each category.
        ddof: how many parameters of ``expected`` were estimated from the counts: :math:`\nu = k - 1 -` ddof.

    Returns:
        χ², p and ν. Large deviations are extreme, in whatever direction.

    Raises:
        InputError: on fewer than two categories, no degrees of freedom, shapes that do not fit, and known counts that
            are negative or not whole, that are all 0 in a row or column, or whose sum is not the expected.

    Source: 004 hypothesis testing; Pearson 1900.

    >>> chi, p, df = chi_squared_test([18, 22, 16, 25, 24, 15])  # throws of a die
    >>> print(f"chi² = {chi:.1f}, p = {p:.3f}, df = {df:.0f}")
    chi² = 4.5, p = 0.480, df = 5
    """
    op = "chi_squared_test"
    counts = jnp.asarray(observed)
    require_counts(op, "observed", counts)
    counts = numbers(op, "observed", counts, 1)
    require_values(op, "observed", counts, counts >= 0, "0 or more, as counts are")
    if counts.ndim > 2 or min(counts.shape) < 2:
        raise InputError(
            f"{op}: observed is {describe(counts)}, and must be (k,), or a table (r, c), with two categories at least"
        )
    if counts.ndim == 1:
        df = counts.shape[0] - 1 - ddof
        means = _expected(op, counts, expected)
    elif expected is None and ddof == 0:
        df = (counts.shape[0] - 1) * (counts.shape[1] - 1)
        rows, columns = (jnp.sum(counts, axis, keepdims=True) for axis in (1, 0))
        for axis, sums in (("row", rows), ("column", columns)):
            require_values(
                op, f"the sum of each {axis} of observed", sums, sums > 0, "positive: leave out what was never observed"
            )
        means = rows * (columns / jnp.sum(counts))
    else:
        raise InputError(f"{op}: a table is tested for independence, without expected and ddof; flatten it to (k,)")
    if df < 1:
        raise InputError(f"{op}: ddof is {ddof}, which leaves {df} degrees of freedom of {describe(counts)}")
    statistic = jnp.sum((counts - means) * ((counts - means) / means))
    statistic = jnp.where(jnp.all(counts >= 0), statistic, jnp.nan)
    df = jnp.asarray(df, counts.dtype)
    return Result(statistic, chi_squared_tail(statistic, df), df)


def _expected(op: str, counts: jax.Array, expected: Any) -> jax.Array:
    total = jnp.sum(counts)
    require_values(op, "the sum of observed", total, total > 0, "positive")
    if expected is None:
        return jnp.broadcast_to(total / counts.size, counts.shape)
    expected = numbers(op, "expected", expected).astype(counts.dtype)
    if expected.shape != counts.shape:
        raise InputError(f"{op}: expected is {describe(expected)}, and must be like observed, {describe(counts)}")
    require_positive(op, "expected", expected)
    gap = jnp.sum(expected) - total
    close = jnp.abs(gap) <= float(jnp.finfo(counts.dtype).eps) ** 0.5 * total
    require_values(op, "the sum of expected", gap + total, close, "that of observed; multiply probabilities by it")
    return jnp.where(close & jnp.all(expected > 0), expected, jnp.nan)
