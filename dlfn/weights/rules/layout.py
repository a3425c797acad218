"""One array to one leaf: axes in another order, flattened, or of length one."""

from dataclasses import dataclass

import numpy as np

from dlfn.weights.rules.rule import Composed, Rule

__all__ = [
    "Flattened",
    "Identity",
    "Moved",
    "Squeezed",
    "Unsqueezed",
    "identity",
    "kernel",
    "transpose",
    "transposed_kernel",
]


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
class Squeezed(Composed):
    """An array without some axes of length 1, such as positions (1, N, D) for a leaf (N, D); the rest by ``then``.

    Args:
        axis: of the array in the file: a number or several.
        then: a rule of one array and one leaf.

    >>> Squeezed(0).load(np.zeros((1, 5, 3)))[0].shape
    (5, 3)
    """

    axis: int | tuple[int, ...]
    then: Rule = identity

    def load(self, *arrays):
        return self.then.load(np.squeeze(arrays[0], self.axis))

    def save(self, *leaves):
        return (np.expand_dims(self.then.save(*leaves)[0], self.axis),)


@dataclass(frozen=True)
class Unsqueezed(Composed):
    """An array with further axes of length 1, such as a linear map (out, in) for a kernel (1, 1, in, out), and then by
    ``then``.

    Args:
        axis: of the array with these axes: a number or several.
        then: a rule of one array and one leaf.

    >>> Unsqueezed((2, 3), then=kernel).load(np.zeros((8, 3)))[0].shape
    (1, 1, 3, 8)
    """

    axis: int | tuple[int, ...]
    then: Rule = identity

    def load(self, *arrays):
        return self.then.load(np.expand_dims(arrays[0], self.axis))

    def save(self, *leaves):
        return (np.squeeze(self.then.save(*leaves)[0], self.axis),)
