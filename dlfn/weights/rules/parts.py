"""One array to several leaves, and several arrays to one."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlfn.weights.rules.layout import identity
from dlfn.weights.rules.rule import Composed, Rule, require_single

__all__ = ["Equal", "Joined", "Split", "Tied"]

Parts = int | tuple[int, ...]


@dataclass(frozen=True)
class Split(Composed):
    """Several leaves that are one array in the file, such as queries, keys and values; each by the rule ``then``.

    Args:
        parts: how many, of one length, or the length of each.
        axis: of the array, along which they stand.
        then: a rule of one array and one leaf.

    >>> from dlfn.weights import transpose
    >>> [leaf.shape for leaf in Split((4, 2, 2), then=transpose).load(np.zeros((8, 3)))]
    [(3, 4), (3, 2), (3, 2)]
    """

    parts: Parts
    axis: int = 0
    then: Rule = identity

    @property
    def leaves(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _count(self.parts)

    def load(self, *arrays):
        return tuple(self.then.load(part)[0] for part in _split(arrays[0], self.parts, self.axis))

    def save(self, *leaves):
        return (_joined([self.then.save(leaf)[0] for leaf in leaves], self.parts, self.axis),)


@dataclass(frozen=True)
class Joined(Composed):
    """Several arrays that are one leaf here, joined in the order of their names; the whole by the rule ``then``. The
    inverse of :class:`Split`.

    The two maps of a gated MLP have one shape, so that the wrong order goes unnoticed. :class:`dlfn.nn.FeedForward` has
    the values first and then the gates, to which the activation is applied:
    ``("up_proj.weight", "gate_proj.weight"): To("up/w", Joined(2, then=transpose))``.

    Args:
        parts: how many, of one length, or the length of each.
        axis: of the arrays, along which they are joined.
        then: a rule of one array and one leaf.

    >>> from dlfn.weights import transpose
    >>> up, gate = np.zeros((4, 3)), np.ones((4, 3))
    >>> Joined(2, then=transpose).load(up, gate)[0][0]
    array([0., 0., 0., 0., 1., 1., 1., 1.])
    """

    parts: Parts
    axis: int = 0
    then: Rule = identity

    @property
    def arrays(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _count(self.parts)

    def load(self, *arrays):
        return self.then.load(_joined(arrays, self.parts, self.axis))

    def save(self, *leaves):
        return tuple(_split(self.then.save(*leaves)[0], self.parts, self.axis))


@dataclass(frozen=True, init=False)
class Tied(Rule):
    """One array that goes into several leaves, by a rule for each: an embedding that is the last layer, too.

    The leaves must be equal when they are saved. The gradient of the array is the sum of those of the leaves; where one
    is loaded, each leaf gets an equal share.

    >>> from dlfn.weights import transpose
    >>> table, head = Tied(identity, transpose).load(np.zeros((7, 3)))
    >>> table.shape, head.shape
    ((7, 3), (3, 7))
    """

    rules: tuple[Rule, ...]

    def __init__(self, *rules: Rule):
        object.__setattr__(self, "rules", rules)
        for rule in rules:
            require_single(self, rule)

    @property
    def leaves(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.rules)

    @property
    def exact(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(rule.exact for rule in self.rules)

    def load(self, *arrays):
        return tuple(rule.load(*arrays)[0] for rule in self.rules)

    def save(self, *leaves):
        saved = [rule.save(leaf)[0] for rule, leaf in zip(self.rules, leaves, strict=True)]
        return (_one_of(saved, "the leaves that it goes to differ"),)

    def load_gradients(self, *arrays):
        return tuple(rule.load_gradients(arrays[0] / len(self.rules))[0] for rule in self.rules)

    def save_gradients(self, *leaves):
        shares = (rule.save_gradients(leaf)[0] for rule, leaf in zip(self.rules, leaves, strict=True))
        return (functools.reduce(np.add, shares),)


@dataclass(frozen=True)
class Equal(Rule):
    """One leaf that a file has several times, under as many names. The arrays must be equal when they are loaded, and
    the gradient of the leaf is written to each, as ``grad`` of a parameter that PyTorch has under several names.

    Args:
        count: of the names.

    >>> print(*Equal(2).save(np.zeros(2)))
    [0. 0.] [0. 0.]
    """

    count: int
    exact = True

    @property
    def arrays(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.count

    def load(self, *arrays):
        return (_one_of(arrays, "they differ, but go to one leaf"),)

    def save(self, *leaves):
        return leaves * self.count


def _one_of(arrays: Sequence[np.ndarray], otherwise: str) -> np.ndarray:
    first, *others = arrays
    if not all(np.array_equal(first, other, equal_nan=True) for other in others):
        raise ValueError(otherwise)
    return first


def _count(parts: Parts) -> int:
    return parts if isinstance(parts, int) else len(parts)


def _split(array: np.ndarray, parts: Parts, axis: int) -> list[np.ndarray]:
    length = _length(array, axis)
    if not isinstance(parts, int) and length != sum(parts):
        raise ValueError(f"axis {axis} has length {length}, and must have {' + '.join(map(str, parts))}")
    return np.split(array, parts if isinstance(parts, int) else np.cumsum(parts)[:-1], axis)


def _joined(arrays: Sequence[np.ndarray], parts: Parts, axis: int) -> np.ndarray:
    lengths = tuple(_length(array, axis) for array in arrays)
    expected = lengths[:1] * len(lengths) if isinstance(parts, int) else parts
    if lengths != expected:
        raise ValueError(f"the lengths along axis {axis} are {lengths}, and must be {expected}")
    return np.concatenate(arrays, axis)


def _length(array: np.ndarray, axis: int) -> int:
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"there is no axis {axis}")
    return array.shape[axis]
