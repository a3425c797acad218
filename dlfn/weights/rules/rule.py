"""What a rule is: arrays of a file to leaves of a tree, and back."""

import abc
from dataclasses import dataclass, replace

import numpy as np

from dlfn.core import InputError

__all__ = ["Composed", "Rule", "require_single"]


class Rule(abc.ABC):
    """One array of a file to one leaf, unless a rule has other numbers of ``arrays`` and ``leaves``.

    A rule is ``exact`` when it moves entries and changes signs and does nothing else. Any other is given floating-point
    arrays in float64, as every rule is given gradients, and what it makes of them in float64 is rounded once, to the
    dtype of the leaf. What it saves in any other dtype, as a quantised weight, stays as it is.

    A rule of your own has gradients of its own, unless it is exact:

    >>> @dataclass(frozen=True)
    ... class Scaled(Rule):
    ...     factor: float
    ...     def load(self, *arrays):
    ...         return (arrays[0] * self.factor,)
    ...     def save(self, *leaves):
    ...         return (leaves[0] / self.factor,)
    ...     def load_gradients(self, *arrays):
    ...         return self.save(*arrays)
    ...     def save_gradients(self, *leaves):
    ...         return self.load(*leaves)
    >>> from dlfn.weights import To, export_state
    >>> export_state({"w": np.ones(1)}, (), {"weight": To("w", Scaled(4.0))})
    {'weight': array([0.25])}
    >>> export_state({"w": np.ones(1)}, (), {"weight": To("w", Scaled(4.0))}, gradients=True)
    {'weight': array([4.])}
    """

    arrays: int = 1
    leaves: int = 1
    exact: bool = False

    @abc.abstractmethod
    def load(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The leaves. A ValueError says that the arrays have other axes than they should."""

    @abc.abstractmethod
    def save(self, *leaves: np.ndarray) -> tuple[np.ndarray, ...]:
        """The arrays."""

    def load_gradients(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The gradients with respect to the leaves, from those with respect to the arrays."""
        return self.load(*arrays)

    def save_gradients(self, *leaves: np.ndarray) -> tuple[np.ndarray, ...]:
        """The gradients with respect to the arrays: the transpose of ``load``, which for an exact rule is ``save``."""
        return self.save(*leaves)


class Composed(Rule):
    """A rule that moves entries alone, together with a rule ``then`` of one array and one leaf. Its subclasses are
    frozen dataclasses with a field of that name, which they use in ``load`` and ``save``."""

    then: Rule

    def __post_init__(self):
        require_single(self, self.then)

    @property
    def exact(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.then.exact

    def load_gradients(self, *arrays):
        return self._of_gradients().load(*arrays)

    def save_gradients(self, *leaves):
        return self._of_gradients().save(*leaves)

    def _of_gradients(self) -> Rule:
        return replace(self, then=_OfGradients(self.then))  # pyright: ignore[reportArgumentType, reportCallIssue]


@dataclass(frozen=True)
class _OfGradients(Rule):
    """What a rule does with gradients, in the place of what it does with values."""

    rule: Rule

    def load(self, *arrays):
        return self.rule.load_gradients(*arrays)

    def save(self, *leaves):
        return self.rule.save_gradients(*leaves)


def require_single(rule: Rule, inner: Rule) -> None:
    if (inner.arrays, inner.leaves) != (1, 1):
        raise InputError(
            f"{type(rule).__name__}: {inner} takes {inner.arrays} arrays to {inner.leaves} leaves, and "
            "must take one to one"
        )
