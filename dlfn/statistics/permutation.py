"""The permutation test, which assumes no distribution."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError
from dlfn.ops._common import describe
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

    Args:
        a: (n,) observations.
        b: (m,) observations.
        key: of the draws; not needed where all ways are tried.
        permutations: how many ways to try.
        alternative: "two-sided", or that the statistic is "greater" or "less" than chance.
        statistic: of two samples; the difference of their means, a - b, unless given.

    Returns:
        The statistic and p.

    Raises:
        InputError: on empty samples, fewer than three observations together, no key where one is needed, fewer than
            one permutation, an unknown alternative, and a statistic that is no scalar.

    Source: 004 hypothesis testing; Phipson & Smyth 2010, *Permutation P-values Should Never Be Zero*.

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
        # The difference is that of what is left, which has less rounding.
        pool, statistic = pool - pool[0], _difference
    observed = statistic(pool[:n], pool[n:])
    if jnp.shape(observed) != ():
        raise InputError(f"{op}: statistic returns the shape {jnp.shape(observed)}, and must return a scalar")

    ways = math.comb(total, n)
    if ways <= permutations:
        values, extra = _of_orders(pool, jnp.asarray(_divisions(total, n)), n, statistic), 0
    else:
        if key is None:
            raise InputError(
                f"{op}: {describe(a)} and {describe(b)} can be divided in {ways} ways, more than permutations, "
                f"{permutations}; pass a key to draw some at random"
            )
        values = _of_draws(pool, key, permutations, n, statistic)
        ways, extra = permutations, 1
    # What is equal but for rounding is as extreme.
    slack = 100 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    greater, less = (
        (jnp.sum(side, dtype=values.dtype) + extra) / (ways + extra)
        for side in (values >= observed - slack, values <= observed + slack)
    )
    both = jnp.minimum(2 * jnp.minimum(greater, less), 1.0)
    return Result(observed, {"two-sided": both, "greater": greater, "less": less}[alternative])


@functools.partial(jax.jit, static_argnames=("n", "statistic"))
def _of_orders(pool: jax.Array, orders: jax.Array, n: int, statistic: Any) -> jax.Array:
    return jax.lax.map(lambda order: statistic(pool[order[:n]], pool[order[n:]]), orders, batch_size=_AT_ONCE)


@functools.partial(jax.jit, static_argnames=("permutations", "n", "statistic"))
def _of_draws(pool: jax.Array, key: jax.Array, permutations: int, n: int, statistic: Any) -> jax.Array:
    def of_draw(key: jax.Array) -> jax.Array:
        shuffled = jax.random.permutation(key, pool)
        return statistic(shuffled[:n], shuffled[n:])

    return jax.lax.map(of_draw, jax.random.split(key, permutations), batch_size=_AT_ONCE)


def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.mean(a) - jnp.mean(b)


def _divisions(total: int, n: int) -> np.ndarray:
    """Every choice of n of the places, followed by the other places."""
    chosen = np.array(list(itertools.combinations(range(total), n)))
    rest = np.ones((len(chosen), total), bool)
    np.put_along_axis(rest, chosen, False, axis=1)
    return np.concatenate([chosen, np.nonzero(rest)[1].reshape(len(chosen), total - n)], axis=1)
