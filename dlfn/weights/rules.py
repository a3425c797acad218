r"""How other libraries lay out the arrays that are leaves here, both ways.

A :class:`Rule` turns arrays of a file into leaves of a tree by ``load``, and back by ``save``: ``load(*save(*leaves))``
equals ``leaves``. Gradients go by ``load_gradients`` and ``save_gradients``: where arrays are summed into a leaf, its
gradient is that of each. Rules are plain data, compare equal, and know of numpy alone.
"""

import abc
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Flattened",
    "GRUBias",
    "GRUWeight",
    "Moved",
    "Rule",
    "Split",
    "Summed",
    "identity",
    "kernel",
    "transpose",
    "transposed_kernel",
]


class Rule(abc.ABC):
    """One array of a file to one leaf, unless a rule has other numbers of ``arrays`` and ``leaves``.

    A rule is ``exact`` when it moves entries and changes signs and does nothing else. Any other is given floating-point
    arrays in float64, and what it makes of them in float64 is rounded once, to the leaf's dtype. What it saves in any
    other dtype, as a quantised weight, stays as it is.
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


@dataclass(frozen=True)
class Identity(Rule):
    """As it is."""

    exact = True

    def load(self, *arrays):
        return arrays

    def save(self, *leaves):
        return leaves


@dataclass(frozen=True)
class Moved(Rule):
    """The first two axes moved to the positions ``to``, counted from the end."""

    to: tuple[int, int]
    exact = True

    def load(self, *arrays):
        return (np.moveaxis(arrays[0], (0, 1), self.to),)

    def save(self, *leaves):
        return (np.moveaxis(leaves[0], self.to, (0, 1)),)


identity = Identity()
# PyTorch's (out, in) to (in, out), and (out, in/groups, *window) to (*window, in/groups, out).
transpose = kernel = Moved((-1, -2))
# PyTorch's (in, out/groups, *window) to (*window, in, out/groups).
transposed_kernel = Moved((-2, -1))


@dataclass(frozen=True)
class Flattened(Rule):
    """The weight (out, C·H·W) of a linear layer behind a flattened C×H×W image, for one behind a flattened H×W×C image:
    (H·W·C, out). ``shape`` is (C, H, W), with any number of spatial axes.

    >>> w = np.arange(6.0)[None]  # one output; two channels of 1×3
    >>> print(Flattened((2, 1, 3)).load(w)[0].ravel())
    [0. 3. 1. 4. 2. 5.]
    """

    shape: tuple[int, ...]
    exact = True

    def load(self, *arrays):
        out = arrays[0].shape[0]
        return (np.moveaxis(arrays[0].reshape(out, *self.shape), (0, 1), (-1, -2)).reshape(-1, out),)

    def save(self, *leaves):
        channels, *window = self.shape
        out = leaves[0].shape[-1]
        return (np.moveaxis(leaves[0].reshape(*window, channels, out), (-1, -2), (0, 1)).reshape(out, -1),)


@dataclass(frozen=True)
class Split(Rule):
    """``parts`` leaves, stored as one array along ``axis``; each part then by the rule ``then``."""

    parts: int
    axis: int = 0
    then: Rule = identity

    @property
    def leaves(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.parts

    @property
    def exact(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.then.exact

    def load(self, *arrays):
        return tuple(self.then.load(part)[0] for part in np.split(arrays[0], self.parts, self.axis))

    def save(self, *leaves):
        return (np.concatenate([self.then.save(leaf)[0] for leaf in leaves], self.axis),)

    def load_gradients(self, *arrays):
        return tuple(self.then.load_gradients(part)[0] for part in np.split(arrays[0], self.parts, self.axis))

    def save_gradients(self, *leaves):
        return (np.concatenate([self.then.save_gradients(leaf)[0] for leaf in leaves], self.axis),)


@dataclass(frozen=True)
class Summed(Rule):
    """Two biases that only ever act as their sum, such as ``bias_ih`` and ``bias_hh`` of an LSTM. Saved as the sum and
    zeros: the sum comes back, its parts do not. The gradient of the sum is that of each part."""

    arrays = 2

    def load(self, *arrays):
        first, second = arrays
        if first.shape != second.shape:
            raise ValueError(f"biases of shapes {first.shape} and {second.shape} have no sum")
        return (first + second,)

    def save(self, *leaves):
        return leaves[0], np.zeros_like(leaves[0])

    def load_gradients(self, *arrays):
        return (self.load(*arrays)[0] / 2,)  # their mean, as both are the gradient of the sum

    def save_gradients(self, *leaves):
        return leaves[0], leaves[0]


@dataclass(frozen=True)
class GRUWeight(Rule):
    r"""A GRU's (3 H, in), gates r, z, n, with :math:`h' = (1 - z) n + z h`, to (in, 3 H), gates z, r, n, with
    :math:`h' = (1 - z) h + z n`: as :math:`1 - \sigma(a) = \sigma(-a)`, the weights of z change sign."""

    exact = True

    def load(self, *arrays):
        r, z, n = np.split(arrays[0], 3)
        return (np.concatenate([-z, r, n]).T,)

    def save(self, *leaves):
        z, r, n = np.split(leaves[0].T, 3)
        return (np.concatenate([r, -z, n]),)


@dataclass(frozen=True)
class GRUBias(Rule):
    """``bias_ih`` and ``bias_hh`` of a GRU to b (3 H,) and b_h (H,): those of z and r act as their sums alone, in the
    signs and the order of :class:`GRUWeight`; those of n stand on the two sides of the reset gate."""

    arrays = leaves = 2

    def load(self, *arrays):
        (r, z, n), (r_h, z_h, n_h) = (np.split(array, 3) for array in arrays)
        return np.concatenate([-(z + z_h), r + r_h, n]), n_h

    def save(self, *leaves):
        z, r, n = np.split(leaves[0], 3)
        zeros = np.zeros_like(leaves[1])
        return np.concatenate([r, -z, n]), np.concatenate([zeros, zeros, leaves[1]])

    def load_gradients(self, *arrays):
        (r, z, n), (r_h, z_h, n_h) = (np.split(array, 3) for array in arrays)
        return np.concatenate([-(z + z_h) / 2, (r + r_h) / 2, n]), n_h

    def save_gradients(self, *leaves):
        z, r, n = np.split(leaves[0], 3)
        return np.concatenate([r, -z, n]), np.concatenate([r, -z, leaves[1]])
