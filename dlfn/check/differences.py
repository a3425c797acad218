"""Central finite differences: of single coordinates, of many at once along a random direction, and the search for the
coordinate where a gradient is wrong."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.measures import QUICK, norm

__all__ = ["Search", "Slopes", "agree", "finite_differences"]

# Pairs of steps, each a step and its half. A pair whose steps cross a kink, or leave the domain, does not agree.
_PAIRS = np.array([[20.0, 10.0], [1.0, 0.5], [0.05, 0.025], [0.0025, 0.00125]])
_FIRST = _PAIRS[2:3]  # what is tried before the others where that may do
_AT_ONCE = _FIRST.size * 2  # how many moves one call of the program makes
_TABLES = (1.0, 0.05, 0.0025)  # the steps of the tables of values that noise is measured by
# How far slopes along a direction may be from a gradient, relative to its products with the direction, before single
# coordinates are tried.
_AGREEMENT = 1e-8
_SURE = 1e-8  # how small an error is, relative to the gradient, that no other pair of steps need be tried
# How many numbers may be moved for one coordinate of each leaf.
_NUMBERS = 2_000_000
# How many coordinates in all are tried where the function must run outside jit.
_UNCOMPILED = 24
_NONE = np.zeros(0)


def finite_differences(
    loss: Callable[..., Any], point: list[jax.Array], chosen: Sequence[Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The slopes of a scalar function of a list of arrays at chosen flat coordinates of each, and their errors."""
    differences = _Differences(loss, point)
    return [differences.at(leaf, places) for leaf, places in enumerate(chosen)]


def agree(loss: Callable[..., Any], point: list[jax.Array], gradient: Sequence[Any], seed: int = 0) -> bool:
    """Whether a gradient agrees with differences along two directions of each leaf."""
    differences, rng = _Differences(loss, point), np.random.default_rng(seed)
    leaves = [(leaf, np.asarray(g)) for leaf, g in enumerate(gradient) if np.size(g)]
    return not any(differences.along_directions(leaf, g, rng)[1] for leaf, g in leaves)


@dataclasses.dataclass(frozen=True)
class Slopes:
    """What differences found for one leaf.

    Attributes:
        found, errors: slopes, and how far rounding and curvature may have moved them.
        at: the flat coordinates whose slopes they are, or None where they are along directions.
        products, sizes, lengths: for each direction w and the gradient g: their product, the root of the sum of its
            terms' squares, and the root of the mean of the squares of w.
    """

    found: np.ndarray
    errors: np.ndarray
    at: np.ndarray | None
    products: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
    sizes: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
    lengths: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)


@dataclasses.dataclass(frozen=True)
class Search:
    """How finite differences are spent.

    Two directions at random move all coordinates of a leaf at once. Single coordinates are tried where a gradient does
    not agree with that, or with another gradient by more than ``tolerance``: ``coordinates`` at random, and those where
    it is wrong. They are tried everywhere where there is no other gradient, for an error in entries that are small
    beside the rest does not show along a direction.
    """

    coordinates: int
    seed: int
    tolerance: float
    deadline: float

    def slopes(
        self, loss: Callable[..., Any], point: list[jax.Array], gradient: list[np.ndarray], other: Any
    ) -> tuple[list[Slopes], int]:
        """Those of every leaf, and of how many leaves there was no time for any."""
        try:
            return self._slopes(_Differences(loss, point), self.coordinates, gradient, other)
        except jax.errors.ConcretizationTypeError:
            few = min(self.coordinates, max(1, _UNCOMPILED // len(point)))
            return self._slopes(_Differences(loss, point, compiled=False), few, gradient, other)

    def _slopes(
        self, differences: "_Differences", coordinates: int, gradient: list[np.ndarray], other: Any
    ) -> tuple[list[Slopes], int]:
        rng = np.random.default_rng(self.seed)
        found, skipped, settled = [], 0, False
        # Each coordinate costs some runs of the function: where it is large, few decide between two gradients.
        few = int(np.clip(_NUMBERS / max(1, sum(g.size for g in gradient)), 2, max(2, coordinates)))
        for leaf, expected in enumerate(gradient):
            chosen = np.sort(rng.permutation(expected.size)[:coordinates])
            if time.monotonic() > self.deadline:
                found.append(Slopes(_NONE, _NONE, _NONE.astype(int)))
                skipped += 1
                continue
            apart = np.zeros(0, int) if other is None else self._apart(min(len(chosen), few), other[leaf], expected)
            tried = None
            if not len(apart) and expected.size > 1:
                tried, worst = differences.along_directions(leaf, expected, rng)
                apart = np.array(worst, int)
            if settled and len(apart):
                tried = Slopes(_NONE, _NONE, _NONE.astype(int))
            elif tried is None or len(apart) or other is None:
                whole = other is None or few >= coordinates
                places = np.union1d(chosen, apart) if whole or not len(apart) else apart
                tried = Slopes(*differences.at(leaf, places, norm(expected[np.isfinite(expected)])), places)
                # Where a function is large, one leaf of which differences do not side with the hand rule is enough.
                settled = (
                    not whole
                    and other is not None
                    and not np.allclose(tried.found, np.ravel(other[leaf])[places], 1e-6, 0.0)
                )
            found.append(tried)
        return found, skipped

    def _apart(self, n: int, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """At most n coordinates (but one, if n is 0) where two gradients differ most, and by more than the tolerance,
        of those where both are finite, and as many of the others."""
        with np.errstate(invalid="ignore"):
            gap = np.abs(ours - theirs).ravel()
        finite = np.isfinite(gap)
        worst = np.argsort(np.where(finite, -gap, 0.0), kind="stable")[: max(n, 1)]
        worst = worst[finite[worst] & (gap[worst] > self.tolerance * norm(ours[np.isfinite(ours)]))]
        return np.concatenate([worst, np.flatnonzero(~finite)[: max(n, 1)]])


class _Differences:
    """Differences of a scalar function of a list of arrays. What moves is a range of one leaf's flat coordinates, along
    a direction, so that one program serves for one coordinate and for all."""

    def __init__(self, loss: Callable[..., Any], point: list[jax.Array], *, compiled: bool = True):
        self.point, self.compiled = point, compiled
        self._loss = loss
        # A move of size one: the fifth root of the dtype's spacing, times the size of a coordinate or a hundredth of
        # the largest coordinate, whichever is larger.
        self.sizes = []
        for x in point:
            least = 1e-2 * norm(x) if norm(x) > 0 else 1.0
            self.sizes.append(float(jnp.finfo(x.dtype).eps) ** 0.2 * np.maximum(least, np.abs(np.asarray(x))))

    def at(self, leaf: int, places: Any, scale: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The slopes at flat coordinates of a leaf, and their errors; ``scale``: how large its gradient is."""
        places = np.asarray(places, int)
        direction = self._direction(self.sizes[leaf])
        sure = _SURE * scale * self.sizes[leaf].ravel()[places]
        found = [
            self._of_one(leaf, direction, place, error) for place, error in zip(places.tolist(), sure, strict=True)
        ]
        slopes, errors = np.array(found).reshape(-1, 2).T
        step = self.sizes[leaf].ravel()[places]
        return slopes / step, errors / step

    def _of_one(self, leaf: int, direction: Any, place: int, sure: float) -> tuple[float, float]:
        """The slope in one coordinate, by the first pair of steps alone where its error is small enough."""
        slope, error = self._along(leaf, direction, place, place + 1, _FIRST)
        if error <= sure:
            return slope, error
        return self._along(leaf, direction, place, place + 1, noise=self._noise(leaf, direction, place, place + 1))

    def along_directions(self, leaf: int, gradient: np.ndarray, rng: np.random.Generator) -> tuple[Slopes, list[int]]:
        """The slopes along two directions, and the coordinates to which those lead with which the gradient does not
        agree."""
        step, g = self.sizes[leaf].ravel(), gradient.ravel()
        rows, worst = [], []
        for _ in range(2):
            w = step * rng.choice([-1.0, 1.0], step.size) * rng.uniform(0.5, 1.5, step.size)
            direction, products = self._direction(w), w * g
            total, size = float(np.sum(products)), float(np.linalg.norm(products))
            for pairs, noisy in ((_FIRST, False), (_PAIRS, False), (_PAIRS, True)):
                noise = self._noise(leaf, direction, 0, step.size) if noisy else 0.0
                slope, error = self._along(leaf, direction, 0, step.size, pairs, noise)
                if abs(slope - total) <= _AGREEMENT * size + error:
                    break
            else:
                worst.append(self._worst(leaf, direction, products))
            rows.append((slope, error, total, size, np.sqrt(np.mean(w * w))))
        found, errors, *measures = np.array(rows).T
        return Slopes(found, errors, None, *measures), worst

    def _along(
        self, leaf: int, direction: Any, start: int, stop: int, pairs: np.ndarray = _PAIRS, noise: float = 0.0
    ) -> tuple[float, float]:
        """The slope along the part of a direction that is within a range of a leaf's flat coordinates, and its error.
        Of all pairs of steps it takes the one that agrees best, extrapolated to zero (Richardson); its error is by how
        much that pair disagrees, and the noise and the rounding of the function's value."""
        steps = pairs.ravel()
        found = self._losses(leaf, direction, start, stop, np.concatenate([steps, -steps]))
        with np.errstate(all="ignore"):  # a loss that is not finite is reported as such
            raw = (found[: len(steps)] - found[len(steps) :]) / (2 * steps)
            coarse, fine = raw[0::2], raw[1::2]
            gap = np.abs(coarse - fine) + 4 * noise / steps[1::2]
            best = int(np.argmin(np.where(np.isnan(gap), np.inf, gap)))
            size = np.max(np.abs(found.reshape(2, -1)[:, 2 * best : 2 * best + 2]))
            eps = float(jnp.finfo(self.point[leaf].dtype).eps)
            error = gap[best] + 4 * eps * size / steps[2 * best + 1]
            return float((4 * fine - coarse)[best] / 3), float(error)

    def _noise(self, leaf: int, direction: Any, start: int, stop: int) -> float:
        """How far the function's values scatter about a smooth curve. What iterates until a tolerance is met is a
        staircase, whose slope is 0 where steps are too small. Fourth differences of equidistant values on one side show
        that, as Moré and Wild have it; what one side alone shows may be a kink."""
        multiples, found = np.arange(1.0, 8.0), []
        for step in _TABLES:
            values = self._losses(leaf, direction, start, stop, step * np.concatenate([multiples, -multiples]))
            with np.errstate(all="ignore"):
                found.append(np.min(np.max(np.abs(np.diff(values.reshape(2, -1), 4)), -1)) / 70**0.5)
        return float(np.nan_to_num(max(found), nan=0.0, posinf=0.0))

    def _worst(self, leaf: int, direction: Any, products: np.ndarray) -> int:
        """The flat coordinate at which a gradient is most wrong, by halving the range that holds it. ``products``: of
        gradient and direction."""

        def gap(start: int, stop: int) -> float:
            off = abs(self._along(leaf, direction, start, stop, _FIRST)[0] - float(np.sum(products[start:stop])))
            return off if np.isfinite(off) else np.inf

        start, stop = 0, products.size
        while stop - start > 1:
            middle = (start + stop) // 2
            start, stop = (start, middle) if gap(start, middle) >= gap(middle, stop) else (middle, stop)
        return start

    def _direction(self, w: np.ndarray) -> jax.Array:
        """Flat, and padded to the length of the longest leaf, so that one program serves for all."""
        flat = np.zeros(max(x.size for x in self.point))
        flat[: w.size] = w.ravel()
        return jnp.asarray(flat)

    def _losses(self, leaf: int, direction: Any, start: int, stop: int, moves: np.ndarray) -> np.ndarray:
        if self.compiled:
            padded = np.resize(moves, -(-len(moves) // _AT_ONCE) * _AT_ONCE).reshape(-1, _AT_ONCE)
            found = [self._program(self.point, leaf, direction, start, stop, some) for some in padded]
            return np.concatenate(found).astype(np.float64)[: len(moves)]
        step = np.zeros(self.point[leaf].size)
        step[start:stop] = direction[start:stop]
        step = step.reshape(self.point[leaf].shape)
        before, x, after = self.point[:leaf], self.point[leaf], self.point[leaf + 1 :]
        return np.array([float(self._loss([*before, x + move * step, *after])) for move in moves])

    @functools.cached_property
    def _program(self) -> Callable[..., Any]:
        """One program with one copy of the function, because most of a comparison's time is compilation."""

        @functools.partial(jax.jit, compiler_options=QUICK)
        def losses(point: list[jax.Array], leaf: Any, direction: Any, start: Any, stop: Any, moves: Any) -> Any:
            def moved(move: Any) -> Any:
                def of_leaf(i: int, x: jax.Array) -> jax.Array:
                    place = jnp.arange(x.size)
                    here = (leaf == i) & (place >= start) & (place < stop)
                    return x + jnp.where(here, move * direction[: x.size], 0).reshape(x.shape).astype(x.dtype)

                return self._loss([of_leaf(i, x) for i, x in enumerate(point)])

            return jax.lax.map(moved, moves)

        return losses
