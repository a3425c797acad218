"""What a gradient check measures: a scalar to differentiate, finite differences, errors."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "FINITE_DIFFERENCE_TOLERANCE", "finite_differences", "norm", "projected", "relative_error", "worst_coordinate",
]  # fmt: skip

FINITE_DIFFERENCE_TOLERANCE = 1e-6


def projected(f: Callable[..., Any], shapes: Any, seed: int) -> Callable[..., jax.Array]:
    """``f`` times a seeded random cotangent, summed: a scalar function whose gradient is a vjp of ``f``. The cotangent
    is rounded to the dtypes of ``shapes``, to be the same numbers when ``f`` is then called in a wider one."""
    rng = np.random.default_rng((seed, 1))  # not the numbers that arguments are made of from the same seed
    cotangents = [
        jnp.asarray(rng.normal(size=s.shape), s.dtype) if jnp.issubdtype(s.dtype, jnp.floating) else None
        for s in jax.tree.leaves(shapes)
    ]
    if [s.shape for s in jax.tree.leaves(shapes)] == [()]:
        cotangents = [jnp.ones((), s.dtype) for s in jax.tree.leaves(shapes)]

    def loss(*args: Any) -> jax.Array:
        outs = zip(jax.tree.leaves(f(*args)), cotangents, strict=True)
        terms = [jnp.sum(leaf * c.astype(leaf.dtype)) for leaf, c in outs if c is not None]
        return functools.reduce(jnp.add, terms)

    return loss


def finite_differences(
    loss: Callable[..., Any], point: list[jax.Array], chosen: Sequence[Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Central differences of a scalar function of a list of arrays, at chosen flat coordinates of each, and how much of
    them may be rounding of the function's value. Of four steps they take the pair that agrees best (a step across a
    kink, or out of the domain, does not), extrapolated to zero (Richardson)."""
    steps = np.array([20.0, 10.0, 1.0, 0.5, 0.05, 0.025, 0.0025, 0.00125])

    def along(leaf: int, at: Any) -> Any:
        eps = float(jnp.finfo(point[leaf].dtype).eps)

        def difference(h: Any) -> Any:
            def moved(sign: float) -> Any:
                flat = point[leaf].ravel()
                changed = flat.at[at].add(sign * h).reshape(point[leaf].shape)
                return loss([*point[:leaf], changed, *point[leaf + 1 :]])

            return (moved(1.0) - moved(-1.0)) / (2 * h)

        largest = jnp.max(jnp.abs(point[leaf]))
        least = jnp.where(largest > 0, 1e-2 * largest, 1)
        base = eps**0.2 * jnp.maximum(least, jnp.abs(point[leaf].ravel()[at]))
        raw = jax.lax.map(difference, base * jnp.asarray(steps, point[leaf].dtype))
        coarse, fine = raw[0::2], raw[1::2]
        gap = jnp.abs(coarse - fine)
        best = jnp.argmin(jnp.where(jnp.isnan(gap), jnp.inf, gap))
        rounding = 4 * eps * jnp.abs(loss(point)) / (base * jnp.asarray(steps[1::2], base.dtype)[best])
        return (4 * fine[best] - coarse[best]) / 3, rounding

    def of_leaf(leaf: int, at: Any) -> tuple[np.ndarray, np.ndarray]:
        if not len(at):
            return np.zeros(0), np.zeros(0)
        values, rounding = jax.jit(lambda at: jax.lax.map(functools.partial(along, leaf), at))(jnp.asarray(at))
        return np.asarray(values), np.asarray(rounding)

    return [of_leaf(leaf, at) for leaf, at in enumerate(chosen)]


def norm(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def relative_error(got: Any, expected: Any, scale: float | None = None) -> float | None:
    """‖got − expected‖∞ / ‖expected‖∞, absolute where the latter is zero; None if not finite."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return None
    scale = norm(expected) if scale is None else scale
    return norm(got - expected) / (scale or 1.0)


def worst_coordinate(got: Any, expected: Any) -> str:
    """``[2, 0]: 1.5 instead of 1.2`` where they differ most; what is not finite differs most. ``[2, 0]: 1.5, off by
    2e-16`` where no digit shown differs."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.size == 0:
        return "none"
    with np.errstate(invalid="ignore"):
        gap = np.abs(got - expected)
    at = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    where, ours, theirs = [int(i) for i in at], f"{got[at]:.6g}", f"{expected[at]:.6g}"
    return f"{where}: {ours} instead of {theirs}" if ours != theirs else f"{where}: {ours}, off by {gap[at]:.1g}"
