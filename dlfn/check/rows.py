"""The rows of a comparison: how far each opinion is from the reference, leaf by leaf, and whether that is too far."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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

__all__ = ["rows"]


def rows(names: Sequence[str], point: Sequence[jax.Array], found: Opinions, tolerance: float) -> Iterator[Row]:
    """A row for each leaf of the arguments."""
    scales = _scales(found.expected, point, found.value, tolerance)
    compared = found.hand if found.reference != "hand rule" else None
    nothing = found.hand is None or (compared is None and found.differences is None)
    for i, name in enumerate(names):
        opinions = {"hand rule": compared, "backprop": found.walked}
        ours = {label: gradient[i] for label, gradient in opinions.items() if gradient is not None}
        numeric = None if found.differences is None else found.differences[i]
        sides = None if found.sides is None else (found.sides[0][i], found.sides[1][i])
        row = _row(name, found.expected[i], ours, numeric, sides, scales[i], tolerance)
        if nothing:
            row = dataclasses.replace(row, ok=False)
        elif not row.ok and numeric is not None and compared is not None:
            row = _arbitrated(row, compared[i], found.expected[i], numeric, tolerance)
        yield row


def _arbitrated(row: Row, hand: np.ndarray, expected: np.ndarray, numeric: Any, tolerance: float) -> Row:
    """A row where hand rule and definition differ, judged by finite differences: whether they are with the hand rule,
    and not with the definition, at all coordinates that they tried, which are those where the two differ most."""
    chosen, found, rounding = numeric
    scale = norm(hand[np.isfinite(hand)]) or 1.0
    bound = FINITE_DIFFERENCE_TOLERANCE + norm(rounding) / scale
    ours = relative_error(found, hand.ravel()[chosen], scale)
    theirs = relative_error(found, expected.ravel()[chosen], scale)
    linear = row.linearity is not None and row.linearity <= tolerance
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
    name: str, expected: np.ndarray, ours: dict[str, Any], numeric: Any, sides: Any, scale: float, tolerance: float
) -> Row:
    """``numeric``: the coordinates that finite differences tried, what they found, and how much of it is rounding.
    ``sides``: what a mixture of two cotangents gives, and the mixture of what each gives."""
    errors = {label: relative_error(got, expected, scale) for label, got in ours.items()}
    bounds = dict.fromkeys([*errors, LINEARITY], tolerance)
    pairs = {label: (got, expected) for label, got in ours.items()}
    if sides is not None:
        hand = ours.get("hand rule", expected)
        sizes = [size for size in (scale, norm(hand), *map(norm, sides)) if math.isfinite(size)]
        errors[LINEARITY] = relative_error(*sides, scale=max(sizes, default=1.0))
        pairs[LINEARITY] = sides
    if numeric is not None:
        chosen, found, rounding = numeric
        errors[NUMERIC] = relative_error(found, expected.ravel()[chosen], scale)
        bounds[NUMERIC] = FINITE_DIFFERENCE_TOLERANCE + norm(rounding) / (scale or 1.0)
        everywhere = np.array(expected, np.float64)
        everywhere.flat[chosen] = found
        pairs[NUMERIC] = (everywhere, expected)
    share = {label: math.inf if error is None else error / bounds[label] for label, error in errors.items()}
    worst = max(share, key=share.__getitem__, default="")
    # Within their bounds these two would show nothing but rounding.
    if worst in (NUMERIC, LINEARITY) and share[worst] <= 1 and "hand rule" in ours:
        worst = "hand rule"
    return Row(
        path=name,
        shape=expected.shape,
        norm=norm(expected),
        scale=scale,
        hand=errors.get("hand rule"),
        backprop=errors.get("backprop"),
        finite_difference=errors.get(NUMERIC),
        linearity=errors.get(LINEARITY),
        worst=f"{worst} {worst_coordinate(*pairs[worst])}" if worst else "",
        ok=all(value <= 1 for value in share.values()),
        excess=max(share.values(), default=0.0),
    )
