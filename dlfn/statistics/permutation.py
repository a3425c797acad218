"""The permutation test, which assumes no distribution."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe
from dlfn.statistics._samples import check_alternative, numbers
from dlfn.statistics.hypothesis import Result

__all__ = ["permutation_test"]

_AT_ONCE = 1024


def permutation_test(
    a: Any,
    b: Any,
    *,
    key: jax.Array | None = None,
    permutations: int = 9999,
    alternative: str = "two-sided",
    statistic: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Result:
    r"""Whether two samples come from the same distribution, by how they might have been shuffled.

    If they do, every way to divide the pooled observations is as likely as the one observed. With up to
    ``permutations`` ways all are tried, and p is the share of those that are at least as extreme. With more, so many
    are drawn, and with m extreme ones among N

    .. math::
        p = \frac{m + 1}{N + 1},

    as the observed one counts too: p is never 0. Two-sided, p is twice the smaller of the one-sided.

    What is equal but for rounding is as extreme. For the means the tolerance is that of the observations that change
    sides, :math:`2 \varepsilon \sum |x_i|` over them, so that an outlier that stays where it is hides nothing. For
    another statistic it is 16 ε times the observed one, which is too little for one that cancels to nearly 0: round
    such a statistic yourself.

    Args:
        a: (n,) observations.
        b: (m,) observations.
        key: of the draws; not needed where all ways are tried.
        permutations: how many ways to try.
        alternative: "two-sided", or that the statistic is "greater" or "less" than chance.
        statistic: of two samples; the difference of their means, a - b, unless given.

    Returns:
        The statistic and p. p is nan where it cannot be known: where an observation is nan, whatever ``statistic``
        makes of it, and where the statistic of any way tried is nan. (SciPy takes such ways for not extreme, so that
        its p is 0 where the observed one is nan.) An infinite statistic is as extreme as another of its sign.

    Raises:
        InputError: on empty samples, fewer than three observations together, no key where one is needed, fewer than
            one permutation, an unknown alternative, and a statistic that is no scalar.

    Source: 004 hypothesis testing; Phipson & Smyth 2010, *Permutation P-values Should Never Be Zero: Calculating
    Exact P-values When Permutations Are Randomly Drawn*.

    >>> difference, p, _ = permutation_test(jnp.array([3.1, 2.9, 3.3]), jnp.array([2.5, 2.8, 2.2]))
    >>> print(f"{difference:.2f}, p = {p:.2f}")  # 1 of 20 ways on either side
    0.60, p = 0.10
    """
    op = "permutation_test"
    check_alternative(op, alternative)
    if permutations < 1:
        raise InputError(f"{op}: permutations is {permutations}, and must be 1 or more")
    a, b = numbers(op, "a", a), numbers(op, "b", b)
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 1:
            raise InputError(f"{op}: {name} is {describe(x)}, and must have one axis; use jax.vmap for several tests")
    n, total = a.shape[0], a.shape[0] + b.shape[0]
    if total < 3:
        raise InputError(f"{op}: a and b have one observation each, and can only be shuffled to p = 1; collect more")
    pool = jnp.concatenate([a, b])
    if statistic is None:
        statistic = _difference
    observed = jnp.asarray(statistic(a, b))
    if observed.shape != ():
        raise InputError(f"{op}: statistic returns the shape {observed.shape}, and must return a scalar")

    ways = math.comb(total, n)
    if ways <= permutations:
        orders, extra = jnp.asarray(_divisions(total, n)), 0
        tried = _of_orders(pool, orders, observed, n, statistic)
    else:
        if key is None:
            raise InputError(
                f"{op}: {describe(a)} and {describe(b)} can be divided in {ways} ways, more than permutations, "
                f"{permutations}; pass a key to draw some at random"
            )
        tried = _of_draws(pool, key, permutations, observed, n, statistic)
        ways, extra = permutations, 1
    unknown = jnp.any(jnp.isnan(pool)) | jnp.any(tried.unknown) | jnp.isnan(observed)
    greater, less = (
        jnp.where(unknown, jnp.nan, (jnp.sum(side, dtype=pool.dtype) + extra) / (ways + extra))
        for side in (tried.greater, tried.less)
    )
    both = jnp.minimum(2 * jnp.minimum(greater, less), 1.0)
    return Result(observed, {"two-sided": both, "greater": greater, "less": less}[alternative])


class _Tried(NamedTuple):
    """Whether the statistic of a way is at least the observed one, whether at most, and whether that is unknown."""

    greater: jax.Array
    less: jax.Array
    unknown: jax.Array


def _compared(pool: jax.Array, order: jax.Array, observed: jax.Array, n: int, statistic: Any) -> _Tried:
    value = statistic(pool[order[:n]], pool[order[n:]])
    if not jnp.issubdtype(observed.dtype, jnp.floating):  # a count, which nothing has rounded
        return _Tried(value >= observed, value <= observed, jnp.zeros((), bool))
    if statistic is _difference:
        # Scaled by a power of two where sums of the observations might overflow.
        pool = jnp.where(jnp.max(jnp.abs(pool)) > 1e30, pool * 2.0**-64, pool)
        gap, slack = _exchange(pool[:n], pool[order[:n]])
    else:
        gap, slack = value - observed, 16 * jnp.finfo(observed.dtype).eps * jnp.abs(observed)
    far = jnp.isinf(observed)  # where differences say nothing
    return _Tried(
        jnp.where(far, value >= observed, gap >= -slack),
        jnp.where(far, value <= observed, gap <= slack),
        jnp.isnan(value),
    )


@functools.partial(jax.jit, static_argnames=("n", "statistic"))
def _of_orders(pool: jax.Array, orders: jax.Array, observed: jax.Array, n: int, statistic: Any) -> _Tried:
    return jax.lax.map(lambda order: _compared(pool, order, observed, n, statistic), orders, batch_size=_AT_ONCE)


@functools.partial(jax.jit, static_argnames=("permutations", "n", "statistic"))
def _of_draws(
    pool: jax.Array, key: jax.Array, permutations: int, observed: jax.Array, n: int, statistic: Any
) -> _Tried:
    def of_draw(key: jax.Array) -> _Tried:
        return _compared(pool, jax.random.permutation(key, pool.shape[0]), observed, n, statistic)

    return jax.lax.map(of_draw, jax.random.split(key, permutations), batch_size=_AT_ONCE)


def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    # The difference is that of what is left, which has less rounding.
    start = jnp.where(jnp.isfinite(a[0]), a[0], 0)
    return jnp.mean(a - start) - jnp.mean(b - start)


def _exchange(before: jax.Array, after: jax.Array) -> tuple[jax.Array, jax.Array]:
    """By how much the sum of a sample rises with other observations in it, and how much of that may be rounding.

    Sorted, what both have in common is left out, or as much as it weighs beside what has moved past it.
    """
    before, after = jnp.sort(before), jnp.sort(after)
    moved = jnp.where(before == after, 0, jnp.abs(before) + jnp.abs(after))
    return jnp.sum(after - before), 2 * jnp.finfo(before.dtype).eps * jnp.sum(moved)


def _divisions(total: int, n: int) -> np.ndarray:
    """Every choice of n of the places, followed by the other places."""
    chosen = np.array(list(itertools.combinations(range(total), n)))
    rest = np.ones((len(chosen), total), bool)
    np.put_along_axis(rest, chosen, False, axis=1)
    return np.concatenate([chosen, np.nonzero(rest)[1].reshape(len(chosen), total - n)], axis=1)
