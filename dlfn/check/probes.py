"""Inputs that find what ordinary ones miss.

A wrong rule that shipped was right at the inputs of its own tests: random numbers of an ordinary shape, a random
cotangent, every argument differentiated. It was wrong at ties, behind an empty group, in a row that a mask has emptied,
at another rank, in the last block. What is here makes such inputs out of ordinary ones. It knows nothing of what it
varies: it changes floating-point numbers, copies and permutes within an array, moves integers to where there was one
already, and leaves it to its caller to see whether a definition has a finite gradient there.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Probe", "cotangent_kinds", "is_convention", "reshaped", "subsets", "vary"]


@dataclasses.dataclass(frozen=True)
class Probe:
    """Values to try instead of ordinary ones: what is special about them, and which of them were changed."""

    name: str
    values: list[Any]
    changed: tuple[int, ...]


# Values of the same shape


def vary(values: Sequence[Any], seed: int = 0) -> Iterator[Probe]:
    """Values of the same shapes and dtypes at which rules have been wrong.

    Each kind is tried in every floating-point array alone, then in all at once; where there are more than eight, only
    at once.

    Args:
        values: arrays, and whatever else, which stays.
        seed: that of the permutations of integers.

    Returns:
        The probes, of which each differs from ``values``; arrays that were changed are NumPy's.

    >>> import numpy as np
    >>> [probe.values for probe in vary([np.array([2, 3])]) if probe.name == "an empty group"]
    [[array([0, 5])], [array([5, 0])]]
    """
    given = list(values)
    floats = [i for i, x in enumerate(given) if _is(x, jnp.floating) and np.size(x)]
    alone = [(i,) for i in floats] if 1 < len(floats) <= _ALONE else []
    if len(floats) <= _ALONE:
        for i in floats:
            for j in floats:
                if i < j and np.shape(given[i]) == np.shape(given[j]) and given[i].dtype == given[j].dtype:
                    yield from _changed("two arguments alike", given, {j: np.asarray(given[i])})
    for name, change in _FLOATS.items():
        for at in [*alone, tuple(floats)]:
            yield from _changed(name, given, {i: change(np.asarray(given[i])) for i in at})
    yield from _integers(given, seed)


def _changed(name: str, given: list[Any], new: dict[int, np.ndarray]) -> Iterator[Probe]:
    """A probe with new arrays in some places, unless they are what was there."""
    places = tuple(i for i, x in new.items() if np.asarray(given[i]).tobytes() != x.tobytes())
    if places:
        yield Probe(name, [new.get(i, x) for i, x in enumerate(given)], places)


_ALONE = 8  # as many arrays as are varied one by one


def _is(x: Any, kind: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, kind)


def _ties(x: np.ndarray, axis: int) -> np.ndarray:
    """The largest entry along an axis is also that of its neighbour."""
    if x.ndim < -axis or x.shape[axis] < 2:
        return x
    top = np.argmax(x, axis, keepdims=True)
    y = x.copy()
    np.put_along_axis(y, (top + 1) % x.shape[axis], np.take_along_axis(x, top, axis), axis)
    return y


def _put(value: float, x: np.ndarray, *, row: bool = False) -> np.ndarray:
    """``value`` as the first entry of every row, or in the whole first row."""
    y = x.copy()
    if row and x.ndim > 1:
        y[(0,) * (x.ndim - 1)] = value
    elif x.ndim and not row:
        y[..., 0] = value
    return y


def _size(x: np.ndarray) -> float:
    """The largest finite entry, or 1 if there is none but 0."""
    return float(np.max(np.abs(np.where(np.isfinite(x), x, 0)), initial=0.0)) or 1.0


def _scaled(factor: float, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return (x * np.asarray(factor, x.dtype)).astype(x.dtype)


_FLOATS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ties": functools.partial(_ties, axis=-1),
    "ties in columns": functools.partial(_ties, axis=-2),
    "zeros": np.zeros_like,
    "a zero": functools.partial(_put, 0.0),
    "a negative zero": functools.partial(_put, -0.0),
    "a row of -inf": functools.partial(_put, -np.inf, row=True),
    "an entry of -inf": functools.partial(_put, -np.inf),
    "ones": np.ones_like,
    "just below 1": lambda x: np.full_like(x, 1 - 1e-6),
    "halves": lambda x: (np.round(2 * x) / 2).astype(x.dtype),
    "the other sign": lambda x: -x,
    "large": functools.partial(_scaled, 30.0),
    "very large": functools.partial(_scaled, 1000.0),
    "a large mean": lambda x: (x + np.asarray(1e4 * _size(x), x.dtype)).astype(x.dtype),
    "small": lambda x: _scaled(float(jnp.finfo(x.dtype).eps) ** 0.5 / _size(x), x),
    "below the last digit of 1": lambda x: _scaled(float(jnp.finfo(x.dtype).eps) * 4 / _size(x), x),
    "subnormal": lambda x: _scaled(float(jnp.finfo(x.dtype).tiny) / 4 / _size(x), x),
}


def _integers(given: list[Any], seed: int) -> Iterator[Probe]:
    """Sizes of groups, ids, lengths and masks. A vector is one of sizes where its sum is that of an axis."""
    rng = np.random.default_rng([seed, 2])
    for i, x in enumerate(given):
        if _is(x, jnp.bool_) and np.ndim(x):
            y = np.array(x)
            y[(0,) * (y.ndim - 1)] = False
            yield from _changed("a row all masked", given, {i: y})
        if not _is(x, jnp.integer) or np.size(x) < 2:
            continue
        y = np.asarray(x)
        if _are_sizes(y, given):
            for j in dict.fromkeys((0, y.size // 2, y.size - 1)):
                moved = y.copy()
                moved[j - 1 if j == y.size - 1 else j + 1] += moved[j]
                moved[j] = 0
                yield from _changed("an empty group", given, {i: moved})
        else:
            repeated, first = y.copy(), y.copy()
            repeated.flat[1] = y.flat[0]
            yield from _changed("a repeated integer", given, {i: repeated})
            if y.min() >= 0:
                first.flat[0] = 0
                yield from _changed("a first integer of 0", given, {i: first})
        yield from _changed("integers in another order", given, {i: rng.permutation(y)})


def _are_sizes(x: Any, given: Sequence[Any]) -> bool:
    """Whether integers are the sizes of groups of rows: their sum is the length of an axis, or there is no array."""
    arrays = [np.shape(a) for a in given if _is(a, jnp.floating)]
    return np.ndim(x) == 1 and np.min(x) >= 0 and (not arrays or any(int(np.sum(x)) in shape for shape in arrays))


# Cotangents, and what is differentiated


def cotangent_kinds(outputs: Sequence[Any], seed: int = 0) -> Iterator[tuple[str, list[np.ndarray | None]]]:
    """Cotangents of several kinds, each with its name: a rule that is right for one may be wrong for another.

    Args:
        outputs: arrays or ``jax.ShapeDtypeStruct``; what is not floating point gets None.
        seed: that of the random numbers.
    """
    rng = np.random.default_rng([seed, 1])
    kinds: dict[str, Callable[[Any], np.ndarray]] = {
        "a normal cotangent": lambda shape: rng.normal(size=shape),
        "a constant cotangent": np.ones,
        "a one-hot cotangent": lambda shape: np.arange(np.prod(shape)).reshape(shape) == np.prod(shape) // 2,
        "a cotangent of many sizes": lambda shape: rng.normal(size=shape) * 10.0 ** rng.uniform(-6, 6, shape),
        "a cotangent with zeros": lambda shape: rng.normal(size=shape) * (rng.uniform(size=shape) < 0.5),
    }
    for name, draw in kinds.items():
        drawn = [np.asarray(draw(y.shape), y.dtype) if _is(y, jnp.floating) else None for y in outputs]
        yield name, drawn


def subsets(inputs: int, outputs: int) -> Iterator[tuple[str, list[int], list[int]]]:
    """Which inputs to differentiate in and which outputs to use, each with its name: what is left out has a tangent or
    cotangent that is zero symbolically. Of each there are up to four."""
    for i in range(min(inputs, 4) if inputs > 1 else 0):
        yield f"differentiated in argument {i} alone", [i], list(range(outputs))
    for j in range(min(outputs, 4) if outputs > 1 else 0):
        yield f"of output {j} alone", list(range(inputs)), [j]


# Other shapes


def reshaped(f: Callable[..., Any], values: Sequence[Any]) -> Iterator[Probe]:
    """Values of other shapes that a function takes as well.

    These are one more axis, in front and at the end; for each of four lengths of axes an odd one of twice the length
    and more, which is no multiple of a block; for two of them 1, and for one 0. All axes of one length change together,
    those of integers too, and where an array has several, also the last one alone. A shape is tried where ``f`` can be
    traced with it, and its outputs change as the values do.

    Args:
        f: a function of ``*values``.
        values: arrays, and whatever else, which stays.

    >>> import numpy as np
    >>> [probe.values[0].shape for probe in reshaped(lambda x: x[..., ::-1], [np.ones((4, 2))])]
    [(2, 4, 2), (4, 2, 2), (9, 2), (4, 5), (1, 2), (4, 1), (0, 2)]
    """
    given = list(values)
    arrays = {i: np.shape(x) for i, x in enumerate(given) if _is(x, jnp.number) or _is(x, jnp.bool_)}
    floats = {i: shape for i, shape in arrays.items() if _is(given[i], jnp.floating) and shape}
    before = _outputs(f, given)
    if not floats or before is None:
        return
    rank = max(map(len, floats.values()))
    choices = [
        [i for i, shape in arrays.items() if shape],
        [i for i, shape in floats.items() if len(shape) == rank],
        [next(iter(floats))],
    ]
    for name, axis in (("one more axis in front", 0), ("one more axis at the end", -1)):
        for chosen in choices:
            new = {i: _stacked(np.asarray(given[i]), axis) for i in chosen}
            after = _outputs(f, [new.get(i, x) for i, x in enumerate(given)])
            grown = [shape and (2, *shape) if axis == 0 else shape and (*shape, 2) for shape in before]
            if after == grown:
                yield Probe(name, [new.get(i, x) for i, x in enumerate(given)], tuple(chosen))
                break
    sums = {int(np.sum(x)) for x in given if _is(x, jnp.integer) and np.ndim(x) == 1}
    indexed = any(_is(x, jnp.integer) for x in given)
    lengths = [n for n in dict.fromkeys(n for shape in floats.values() for n in shape) if n > 1 and n not in sums]
    longer, shorter = [(n, 2 * n + 1) for n in lengths[:4]], [(n, 1) for n in lengths[:2]]
    # An index into an axis that shrinks would be out of bounds.
    changes = longer if indexed else [*longer, *shorter, *[(n, 0) for n in lengths[:1]]]
    for n, m in changes:
        for last in (False, True):
            if last and all(shape.count(n) < 2 for shape in arrays.values()):
                continue
            new = {i: _resized(np.asarray(given[i]), n, m, last=last) for i, shape in arrays.items() if n in shape}
            after = _outputs(f, [new.get(i, x) for i, x in enumerate(given)])
            if after is not None and list(map(len, after)) == list(map(len, before)):
                name = f"size {m} for {n}{' at the end' * last}"
                yield Probe(name, [new.get(i, x) for i, x in enumerate(given)], tuple(new))


def _outputs(f: Callable[..., Any], values: list[Any]) -> list[tuple[int, ...]] | None:
    """The shapes of what ``f`` returns, or None where it does not take the values."""
    arrays = {i: x for i, x in enumerate(values) if hasattr(x, "dtype")}

    def of_arrays(arrays: dict[int, Any]) -> Any:
        return f(*[arrays.get(i, x) for i, x in enumerate(values)])

    try:
        return [y.shape for y in jax.tree.leaves(jax.eval_shape(of_arrays, arrays))]
    except Exception:
        return None


def _stacked(x: np.ndarray, axis: int) -> np.ndarray:
    """Two slices for one, of which the second is the first in reverse and, if floating point, a little smaller."""
    other = x[..., ::-1]
    return np.stack([x, _scaled(0.9, other) if _is(x, jnp.floating) else other], axis)


def _resized(x: np.ndarray, n: int, m: int, *, last: bool) -> np.ndarray:
    """Every axis of length n, or the last of them, has length m: it is cut, or repeated, and each time a little smaller
    if floating point."""
    for axis in [axis for axis, length in enumerate(x.shape) if length == n][-1 if last else 0 :]:
        index = np.arange(m)
        x = np.take(x, index % n, axis)
        if _is(x, jnp.floating):
            shrinking = (0.9 ** (index // n)).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = (x * shrinking).astype(x.dtype)
    return x


# Kinks


def is_convention(
    loss: Callable[[list[Any]], Any],
    point: Sequence[Any],
    gradients: Sequence[Any],
    *,
    kinks: bool = True,
    seed: int = 0,
) -> bool:
    r"""Whether numbers can be called the gradient of a function at a point, by the values of the function alone.

    Where the function has a kink, many numbers can: any for which :math:`u \cdot g` lies between the two one-sided
    slopes along :math:`u`, in six random directions. An even split among ties and all to the first of them do so; all
    to each of them does not. Where there is no kink the two slopes are one, and the numbers have to be that.

    Slopes are taken at steps of 1e-4 of each array's largest entry, and of 1e-4, and extrapolated to 0. Steps that
    leave the domain or cross another kink are left out, and if all do, the answer is no.

    Args:
        loss: a function of the list of arrays; one number. Kinks whose signs differ in a sum hide each other, so that a
            function of many numbers should be asked about number by number.
        point: arrays in float64.
        gradients: what is to be judged, one for each of the arrays.
        kinks: False to accept no convention, but only what is the slope where there is no kink.
        seed: that of the directions.

    >>> import numpy as np
    >>> ties = [np.array([1.0, 1.0, 0.0])]
    >>> largest = lambda point: np.max(point[0])
    >>> [is_convention(largest, ties, [np.array(g)]) for g in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])]
    [True, False]
    """
    rng = np.random.default_rng([seed, 3])
    point = [np.asarray(x, np.float64) for x in point]
    here, judged = float(loss(point)), False
    for scales in ([_size(x) for x in point], [1.0] * len(point)):
        for _ in range(6):
            u = [scale * rng.normal(size=x.shape) for scale, x in zip(scales, point, strict=True)]
            slope = sum(float(np.sum(np.where(np.isfinite(x), g * v, 0))) for x, g, v in zip(point, gradients, u))
            low, high, error = _slopes(loss, point, u, here)
            if not error < 1e-3 * max(abs(low), abs(high), abs(slope), abs(here)):
                continue
            judged = True
            if not low - error <= slope <= high + error or (not kinks and high - low > 2 * error):
                return False
    return judged


_STEP, _FLOAT64 = 1e-4, np.finfo(np.float64)


def _slopes(loss: Callable[[list[Any]], Any], point: Any, u: Any, here: float) -> tuple[float, float, float]:
    """The smaller and the larger one-sided slope along u, and a bound on their errors, which may not be finite."""

    def at(step: float) -> float:
        return float(loss([np.where(np.isfinite(x), x + step * v, x) for x, v in zip(point, u, strict=True)]))

    found, error = [], 0.0
    with np.errstate(all="ignore"):
        for h in (-_STEP, _STEP):
            ends = [at(h), at(h / 2), at(h / 4)]
            coarse, middle, fine = (2**i * (end - here) / h for i, end in enumerate(ends))
            # The errors of one-sided slopes are of first order in the step: two of them leave one of second order.
            far, near = 2 * middle - coarse, 2 * fine - middle
            rounding = (64 * _FLOAT64.eps * max(map(abs, [*ends, here])) + _FLOAT64.tiny) / _STEP
            found.append((4 * near - far) / 3)
            error = max(error, abs(near - far) + 1e-7 * abs(near) + rounding)
    return min(found), max(found), error if np.isfinite([*found, error]).all() else np.inf
