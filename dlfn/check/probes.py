"""Inputs that find what ordinary ones miss.

A wrong rule that shipped was right at the inputs of its own tests: random numbers of an ordinary shape, a random
cotangent, every argument differentiated. It was wrong at ties, behind an empty group, in a row that a mask has emptied,
at another rank, in the last block. What is here makes such inputs out of ordinary ones. It knows nothing of what it
varies: it changes floating-point numbers, copies and permutes within an array, moves integers to where there was one
already, draws from other keys, and leaves it to its caller to see whether a definition has a finite gradient there.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Probe", "cotangent_kinds", "is_a", "scaled", "size", "subsets", "vary"]


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
    floats = [i for i, x in enumerate(given) if is_a(x, jnp.floating) and np.size(x)]
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
    keys = [i for i, x in enumerate(given) if is_a(x, jax.dtypes.prng_key)]
    for i in keys:
        yield Probe("another key", [_next_key(x) if k == i else x for k, x in enumerate(given)], (i,))


def _next_key(key: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(jax.random.key_data(key) ^ 1, impl=jax.random.key_impl(key))


def _changed(name: str, given: list[Any], new: dict[int, np.ndarray]) -> Iterator[Probe]:
    """A probe with new arrays in some places, unless they are what was there."""
    places = tuple(i for i, x in new.items() if np.asarray(given[i]).tobytes() != x.tobytes())
    if places:
        yield Probe(name, [new.get(i, x) for i, x in enumerate(given)], places)


_ALONE = 8  # as many arrays as are varied one by one


def is_a(x: Any, kind: Any) -> bool:
    """Whether something is an array of a kind of numbers."""
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


def size(x: np.ndarray) -> float:
    """The size of the largest finite entry, or 1 if there is none but 0."""
    return float(np.max(np.abs(np.where(np.isfinite(x), x, 0)), initial=0.0)) or 1.0


def scaled(factor: float, x: np.ndarray) -> np.ndarray:
    """The array times a factor, in its own type, where it may overflow."""
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
    "large": functools.partial(scaled, 30.0),
    "very large": functools.partial(scaled, 1000.0),
    "a large mean": lambda x: (x + np.asarray(1e4 * size(x), x.dtype)).astype(x.dtype),
    "small": lambda x: scaled(float(jnp.finfo(x.dtype).eps) ** 0.5 / size(x), x),
    "below the last digit of 1": lambda x: scaled(float(jnp.finfo(x.dtype).eps) * 4 / size(x), x),
    "subnormal": lambda x: scaled(float(jnp.finfo(x.dtype).tiny) / 4 / size(x), x),
}


def _integers(given: list[Any], seed: int) -> Iterator[Probe]:
    """Sizes of groups, ids, lengths and masks. A vector is one of sizes where its sum is that of an axis."""
    rng = np.random.default_rng([seed, 2])
    for i, x in enumerate(given):
        if is_a(x, jnp.bool_) and np.ndim(x):
            y = np.array(x)
            y[(0,) * (y.ndim - 1)] = False
            yield from _changed("a row all masked", given, {i: y})
        if not is_a(x, jnp.integer) or np.size(x) < 2:
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
    """Whether integers are the sizes of groups of rows, and no ids: their sum is the length of an axis of an array that
    has not one row for each of them, or there is no array."""
    arrays = [np.shape(a) for a in given if is_a(a, jnp.floating)]
    return (
        np.ndim(x) == 1
        and np.min(x) >= 0
        and (not arrays or any(int(np.sum(x)) in shape and shape[0] != len(x) for shape in arrays))
    )


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
        drawn = [np.asarray(draw(y.shape), y.dtype) if is_a(y, jnp.floating) else None for y in outputs]
        yield name, drawn


def subsets(inputs: int, outputs: int) -> Iterator[tuple[str, list[int], list[int]]]:
    """Which inputs to differentiate in and which outputs to use, each with its name: what is left out has a tangent or
    cotangent that is zero symbolically. Of each there are up to four."""
    for i in range(min(inputs, 4) if inputs > 1 else 0):
        yield f"differentiated in argument {i} alone", [i], list(range(outputs))
    for j in range(min(outputs, 4) if outputs > 1 else 0):
        yield f"of output {j} alone", list(range(inputs)), [j]
