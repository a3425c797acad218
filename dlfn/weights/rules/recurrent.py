"""The biases and gates of recurrent layers."""

from dataclasses import dataclass

import numpy as np

from dlfn.weights.rules.rule import Rule

__all__ = ["GRUBias", "GRUWeight", "Summed"]


@dataclass(frozen=True)
class Summed(Rule):
    """Two biases that only ever act as their sum, such as ``bias_ih`` and ``bias_hh`` of an LSTM. Saved as the sum and
    zeros: the sum comes back, its parts do not. The gradient of the sum is that of each part.

    >>> print(*Summed().load(np.array([1.0, 2.0]), np.array([10.0, 20.0])))
    [11. 22.]
    """

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
    :math:`h' = (1 - z) h + z n`: as :math:`1 - \sigma(a) = \sigma(-a)`, the weights of z change sign.

    >>> print(*GRUWeight().load(np.array([[1.0], [2.0], [3.0]])))
    [[-2.  1.  3.]]
    """

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
    signs and the order of :class:`GRUWeight`; those of n stand on the two sides of the reset gate.

    >>> print(*GRUBias().load(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])))
    [-22.  11.   3.] [30.]
    """

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
