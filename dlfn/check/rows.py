"""The rows of a comparison: how far each opinion is from the reference, leaf by leaf, and whether that is too far."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.differences import Slopes
from dlfn.check.measures import (
    FINITE_DIFFERENCE_TOLERANCE,
    LINEARITY,
    NUMERIC,
    norm,
    relative_error,
    worst_coordinate,
)
from dlfn.check.opinions import Opinions
from dlfn.check.result import Row

__all__ = ["rows", "value_bound"]


def rows(names: Sequence[str], point: Sequence[jax.Array], found: Opinions, tolerance: float | None) -> Iterator[Row]:
    """A row for each leaf of the arguments. ``tolerance``: None where rounding sets the bounds."""
    usual = _usual(point, tolerance)
    scales = _scales(found.expected, point, found.value, usual)
    compared = found.hand if found.reference != "hand rule" else None
    nothing = found.hand is None or (compared is None and found.differences is None)
    for i, name in enumerate(names):
        opinions = {"hand rule": compared, "backprop": found.walked}
        ours = {label: gradient[i] for label, gradient in opinions.items() if gradient is not None}
        numeric = None if found.differences is None else found.differences[i]
        sides = None if found.sides is None else (found.sides[0][i], found.sides[1][i])
        expected, scale = found.expected[i], scales[i]
        bounds = dict.fromkeys(["hand rule", "backprop", LINEARITY], usual)
        rounding = _nothing_more
        if tolerance is None and found.rounding is not None:
            allowed = found.rounding.bound(i + 1) / (scale or 1.0)
            rounding = functools.partial(found.rounding.tests, i + 1)
            # The two sides that linearity compares are of three gradients, times 1 and the factors of the mixture.
            bounds = {"hand rule": allowed, "backprop": allowed, LINEARITY: usual + 3 * allowed}
        row = _row(name, expected, ours, numeric, sides, scale, bounds, rounding)
        if nothing or found.types:
            row = dataclasses.replace(row, ok=False)
        elif not row.ok and numeric is not None and numeric.at is not None and compared is not None:
            row = _arbitrated(row, compared[i], expected, numeric)
        yield row


def _nothing_more(got: np.ndarray) -> dict[str, tuple[float, float]]:
    return {}


def value_bound(point: Sequence[jax.Array], found: Opinions, tolerance: float | None) -> float:
    """The largest relative error of the value that passes."""
    if tolerance is None and found.rounding is not None:
        return found.rounding.bound(0) / (abs(found.value) or 1.0)
    return _usual(point, tolerance)


def _usual(point: Sequence[jax.Array], tolerance: float | None) -> float:
    """The tolerance where there is nothing to measure rounding by: half of a narrow dtype's digits."""
    return float(jnp.finfo(jnp.result_type(*point)).eps) ** 0.5 if tolerance is None else tolerance


def _arbitrated(row: Row, hand: np.ndarray, expected: np.ndarray, numeric: Slopes) -> Row:
    """A row where hand rule and definition differ, judged by finite differences: whether they are with the hand rule,
    and not with the definition, at all coordinates that they tried, which are those where the two differ most."""
    chosen, found = numeric.at, numeric.found
    scale = norm(hand[np.isfinite(hand)]) or 1.0
    bound = FINITE_DIFFERENCE_TOLERANCE + norm(numeric.errors) / scale
    ours = relative_error(found, hand.ravel()[chosen], scale)
    theirs = relative_error(found, expected.ravel()[chosen], scale)
    linear = row.linearity is not None and row.linearity <= row.bound
    if ours is None or ours > bound or not linear or (theirs is not None and theirs <= bound):
        return row
    with np.errstate(invalid="ignore"):
        gap = np.abs(hand - expected)
    at = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    return dataclasses.replace(row, ok=True, culprit=str([int(i) for i in at]))


def _scales(reference: Sequence[Any], point: Sequence[jax.Array], value: float, tolerance: float) -> list[float]:
    """What the error of each leaf is relative to: the largest entry of its gradient, or the larger of the two rounding
    terms in the bound of :func:`compare`, divided by the tolerance, where that is more."""
    sizes, lengths = np.array([norm(leaf) for leaf in reference]), np.array([norm(x) or 1.0 for x in point])
    eps = float(jnp.finfo(jnp.result_type(*point)).eps)
    if eps > 1e-15 or not np.isfinite([*sizes, *lengths, value]).all():
        return sizes.tolist()
    # The products with the lengths of leaves keep a short leaf with a steep gradient, such as a variance near 0, from
    # loosening the bounds of the others.
    of_leaves = 32 * eps * np.minimum(np.max(sizes), np.max(sizes * lengths) / lengths)
    of_value = 4 * eps * abs(value) / np.maximum(lengths, 1.0)
    return np.maximum(sizes, np.maximum(of_leaves, of_value) / tolerance).tolist()


def _row(
    name: str,
    expected: np.ndarray,
    ours: dict[str, np.ndarray],
    numeric: Slopes | None,
    sides: Any,
    scale: float,
    bounds: dict[str, float],
    rounding: Callable[[np.ndarray], dict[str, tuple[float, float]]],
) -> Row:
    """``sides``: what a mixture of two cotangents gives, and the mixture of what each gives. ``rounding``: what else is
    measured of a rounded gradient."""
    errors = {label: relative_error(got, expected, scale) for label, got in ours.items()}
    pairs = {label: (got, expected) for label, got in ours.items()}
    more = {f"{label} {test}": pair for label, got in ours.items() for test, pair in rounding(got).items()}
    if sides is not None:
        hand = ours.get("hand rule", expected)
        sizes = [size for size in (scale, norm(hand), *map(norm, sides)) if math.isfinite(size)]
        errors[LINEARITY] = relative_error(*sides, scale=max(sizes, default=1.0))
        pairs[LINEARITY] = sides
    if numeric is not None:
        errors[NUMERIC], bounds[NUMERIC] = _numeric_error(numeric, expected, scale)
        everywhere = np.array(expected, np.float64)
        if numeric.at is not None:
            everywhere.flat[numeric.at] = numeric.found
        pairs[NUMERIC] = (everywhere, expected)
    share = {label: math.inf if error is None else error / bounds[label] for label, error in errors.items()}
    worst = max(share, key=share.__getitem__, default="")
    # Within their bounds these two would show nothing but rounding.
    if worst in (NUMERIC, LINEARITY) and share[worst] <= 1 and "hand rule" in ours:
        worst = "hand rule"
    words = f"{worst} {worst_coordinate(*pairs[worst])}" if worst else ""
    off = max(more, key=lambda test: more[test][0] / more[test][1], default="")
    if off and more[off][0] > more[off][1] * max(1.0, share[worst]):
        words = f"{off}: {more[off][0]:.1e}, where rounding explains {more[off][1]:.1e}"
    by_hand, whole = errors.get("hand rule"), more.get("hand rule as a whole", (math.inf, math.inf))
    hidden = None if by_hand is None else min(by_hand + bounds["hand rule"], sum(whole))
    return Row(
        path=name,
        shape=expected.shape,
        norm=norm(expected),
        scale=scale,
        hand=by_hand,
        backprop=errors.get("backprop"),
        finite_difference=errors.get(NUMERIC),
        linearity=errors.get(LINEARITY),
        worst=words,
        ok=all(value <= 1 for value in share.values()) and all(error <= bound for error, bound in more.values()),
        excess=max([*share.values(), *(error / bound for error, bound in more.values())], default=0.0),
        bound=bounds["hand rule"],
        hidden=hidden,
    )


def _numeric_error(numeric: Slopes, expected: np.ndarray, scale: float) -> tuple[float | None, float]:
    """The relative error of finite differences, and its bound."""
    if numeric.at is not None:
        error = relative_error(numeric.found, expected.ravel()[numeric.at], scale)
        return error, FINITE_DIFFERENCE_TOLERANCE + norm(numeric.errors) / (scale or 1.0)
    sizes = np.maximum(numeric.sizes, scale * numeric.lengths)
    sizes = np.where(sizes > 0, sizes, 1.0)
    error = relative_error(numeric.found / sizes, numeric.products / sizes, 1.0)
    return error, FINITE_DIFFERENCE_TOLERANCE + norm(numeric.errors / sizes)
