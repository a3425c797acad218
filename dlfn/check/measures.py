"""What a gradient check measures: a scalar to differentiate, finite differences, errors."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "FINITE_DIFFERENCE_TOLERANCE",
    "LINEARITY",
    "MIXTURE",
    "NUMERIC",
    "cotangents",
    "finite_differences",
    "hand_gradients",
    "norm",
    "projected",
    "relative_error",
    "worst_coordinate",
]  # fmt: skip

NUMERIC, LINEARITY = "finite diff.", "linearity"  # how tables call these two checks
FINITE_DIFFERENCE_TOLERANCE = 1e-6


def cotangents(shapes: Any, seed: Any) -> list[jax.Array | None]:
    """A seeded random cotangent for every output, ``None`` for those that are not floating point, in the dtypes of
    ``shapes``. That of a single number is below -2: at 1 a rule that drops its cotangent, squares it or takes its
    absolute value would look right."""
    rng = np.random.default_rng(
        [*np.atleast_1d(seed), 1]
    )  # not the numbers that arguments are made of from the same seed

    def drawn(s: Any) -> jax.Array | None:
        numbers = rng.normal(size=s.shape)
        if not jnp.issubdtype(s.dtype, jnp.floating):
            return None
        return jnp.asarray(numbers if numbers.size != 1 else -2 - np.abs(numbers), s.dtype)

    return [drawn(s) for s in jax.tree.leaves(shapes)]


def projected(f: Callable[..., Any], cotangents: Sequence[jax.Array | None]) -> Callable[..., jax.Array]:
    """``f`` times the cotangents, summed: a scalar function whose gradient is a vjp of ``f``. They are the same numbers
    when ``f`` is then called in a wider dtype than they were made for."""

    def loss(*args: Any) -> jax.Array:
        outs = zip(jax.tree.leaves(f(*args)), cotangents, strict=True)
        terms = [jnp.sum(leaf * c.astype(leaf.dtype)) for leaf, c in outs if c is not None]
        return functools.reduce(jnp.add, terms)

    return loss


# The factors a and b of the mixture of two cotangents: one of each sign, and both exact in every dtype. The mixture is
# made in a unit far from 1, so that a rule that clips its cotangent clips it; but not in float16, where gradients might
# then overflow.
MIXTURE, _UNIT = (-0.75, 1.25), 1024.0


def hand_gradients(
    f: Callable[..., Any],
    point: Any,
    first: Sequence[jax.Array | None],
    second: Sequence[jax.Array | None],
    *,
    compiled: bool = True,
) -> tuple[Any, Any, Any, Any]:
    r"""``(value, gradient, mixed, sum)``: the projection of ``f`` on the first cotangents and its gradient, by whatever
    rules ``f`` has; and the two sides of :math:`vjp(a u + b v) = a\, vjp(u) + b\, vjp(v)` for its two cotangents."""

    def outputs(point: Any) -> list[jax.Array]:
        return [y for y, c in zip(jax.tree.leaves(f(point)), first, strict=True) if c is not None]

    pairs = [(u, v) for u, v in zip(first, second, strict=True) if u is not None and v is not None]
    unit = _UNIT if all(float(jnp.finfo(u.dtype).max) > 1e30 for u, _ in pairs) else 1.0
    a, b = MIXTURE
    stacked = [jnp.stack([u, v, unit * (a * u + b * v)]) for u, v in pairs]
    ys, back = jax.vjp(outputs, point)
    if compiled:  # a loop over the three cotangents, so that the backward pass is compiled once
        found = jax.lax.map(lambda c: back(c)[0], stacked)
    else:
        each = [back([c[i] for c in stacked])[0] for i in range(3)]
        found = jax.tree.map(lambda *gradients: jnp.stack(gradients), *each)
    value = functools.reduce(jnp.add, [jnp.sum(y * c[0]) for y, c in zip(ys, stacked, strict=True)])
    gradient, other, mixed = (jax.tree.map(lambda g, i=i: g[i], found) for i in range(3))
    mixed = jax.tree.map(lambda g: g / unit, mixed)
    return value, gradient, mixed, jax.tree.map(lambda u, v: a * u + b * v, gradient, other)


def finite_differences(
    loss: Callable[..., Any], point: list[jax.Array], chosen: Sequence[Any], *, compiled: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Central differences of a scalar function of a list of arrays, at chosen flat coordinates of each, and how much of
    them may be rounding of the function's value. Of four steps they take the pair that agrees best (a step across a
    kink, or out of the domain, does not), extrapolated to zero (Richardson). ``compiled``: in one program; otherwise
    call by call, for functions that jit refuses."""
    steps = np.array([20.0, 10.0, 1.0, 0.5, 0.05, 0.025, 0.0025, 0.00125])
    counts = [len(at) for at in chosen]
    bases = [_steps_of_size_one(np.asarray(x), at) for x, at in zip(point, chosen, strict=True)]
    base, place = np.concatenate([[0.0], *bases]), np.concatenate([[0], *chosen]).astype(int)
    leaf = np.concatenate([[0], np.repeat(np.arange(len(point)), counts)])

    @jax.jit  # one program with one copy of the function, because most of a comparison's time is compilation
    def losses(point: list[jax.Array], leaf: Any, place: Any, moves: Any) -> Any:
        def along(coordinate: Any) -> Any:
            leaf, place, moves = coordinate

            def moved(move: Any) -> Any:
                def of_leaf(i: int, x: jax.Array) -> jax.Array:
                    here = (leaf == i) & (jnp.arange(x.size).reshape(x.shape) == place)
                    return jnp.where(here, x + move.astype(x.dtype), x)

                return loss([of_leaf(i, x) for i, x in enumerate(point)])

            return jax.lax.map(moved, moves)

        return jax.lax.map(along, (leaf, place, moves))

    h = base[:, None] * steps
    moves = np.concatenate([h, -h], axis=1)
    found = np.asarray(losses(point, leaf, place, moves)) if compiled else _one_by_one(loss, point, leaf, place, moves)
    with np.errstate(all="ignore"):  # a loss that is not finite is reported as such
        raw = (found[1:, : len(steps)] - found[1:, len(steps) :]) / (2 * h[1:])
        coarse, fine = raw[:, 0::2], raw[:, 1::2]
        gap = np.abs(coarse - fine)
        best = np.argmin(np.where(np.isnan(gap), np.inf, gap), axis=1)[:, None]
        coarse, fine, width = (np.take_along_axis(a, best, 1)[:, 0] for a in (coarse, fine, h[1:, 1::2]))
        eps = np.repeat([float(jnp.finfo(x.dtype).eps) for x in point], counts)
        values, rounding = (4 * fine - coarse) / 3, 4 * eps * np.abs(found[0, 0]) / width
    ends = np.cumsum(counts)[:-1]
    return list(zip(np.split(values, ends), np.split(rounding, ends), strict=True))


def _one_by_one(loss: Callable[..., Any], point: list[jax.Array], leaf: Any, place: Any, moves: Any) -> np.ndarray:
    """The loss at each coordinate and each of its moves."""

    def moved(leaf: int, place: int, move: float) -> float:
        values = [np.array(x) for x in point]
        if move:  # the first is of size 0, where a leaf may have no coordinate
            values[leaf].flat[place] += move
        return float(loss([jnp.asarray(x) for x in values]))

    return np.array([[moved(i, at, move) for move in row] for i, at, row in zip(leaf, place, moves, strict=True)])


def _steps_of_size_one(x: np.ndarray, at: Any) -> np.ndarray:
    """The fifth root of the dtype's spacing, times the size of a coordinate or a hundredth of the largest coordinate,
    whichever is larger."""
    largest = norm(x)
    least = 1e-2 * largest if largest > 0 else 1.0
    return float(jnp.finfo(x.dtype).eps) ** 0.2 * np.maximum(least, np.abs(x.ravel()[np.asarray(at, int)]))


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
    """Where the two differ most, and by how much: ``[2, 0]: 1.5 instead of 1.2``, or ``[2, 0]: 1.5, off by 2e-16``
    where the digits shown do not differ. A nan counts as the largest difference."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.size == 0:
        return "none"
    with np.errstate(invalid="ignore"):
        gap = np.abs(got - expected)
    at = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    where, ours, theirs = [int(i) for i in at], f"{got[at]:.6g}", f"{expected[at]:.6g}"
    return f"{where}: {ours} instead of {theirs}" if ours != theirs else f"{where}: {ours}, off by {gap[at]:.1g}"
