"""Values of other shapes that a function takes as well: where rules are wrong that are right at the shapes of their
tests."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.probes import Probe, is_a, scaled

__all__ = ["reshaped"]


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
    arrays = {i: np.shape(x) for i, x in enumerate(given) if is_a(x, jnp.number) or is_a(x, jnp.bool_)}
    floats = {i: shape for i, shape in arrays.items() if is_a(given[i], jnp.floating) and shape}
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
    sums = {int(np.sum(x)) for x in given if is_a(x, jnp.integer) and np.ndim(x) == 1}
    indexed = any(is_a(x, jnp.integer) for x in given)
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
    return np.stack([x, scaled(0.9, other) if is_a(x, jnp.floating) else other], axis)


def _resized(x: np.ndarray, n: int, m: int, *, last: bool) -> np.ndarray:
    """Every axis of length n, or the last of them, has length m: it is cut, or repeated, and each time a little smaller
    if floating point."""
    for axis in [axis for axis, length in enumerate(x.shape) if length == n][-1 if last else 0 :]:
        index = np.arange(m)
        x = np.take(x, index % n, axis)
        if is_a(x, jnp.floating):
            shrinking = (0.9 ** (index // n)).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = (x * shrinking).astype(x.dtype)
    return x
