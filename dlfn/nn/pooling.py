"""Pooling over the spatial axes of (..., *spatial, channels)."""

import math
from dataclasses import dataclass

from dlfn import ops
from dlfn.nn.layer import Layer

__all__ = ["AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "GlobalAvgPool", "MaxPool"]

Sizes = int | tuple[int, ...]
Padding = str | int | tuple[int | tuple[int, int], ...]


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest entry of every window; the arguments are those of :func:`dlfn.ops.max_pool`.

    >>> import jax, jax.numpy as jnp
    >>> layer = MaxPool(3, strides=2, padding="SAME")
    >>> print(layer, layer.apply((), (), jnp.ones((8, 56, 56, 64)))[0].shape)
    MaxPool(window=3, strides=2, padding=SAME) (8, 28, 28, 64)
    """

    takes = "array"
    window: Sizes
    strides: Sizes | None = None
    padding: Padding = "VALID"
    dilation: Sizes = 1

    def apply(self, params, state, x, *, key=None, train=False):
        y = ops.max_pool(x, window=self.window, strides=self.strides, padding=self.padding, dilation=self.dilation)
        return y, state

    def flops(self, x, y):
        """A comparison for each entry of a window but one."""
        return (_entries(self.window) - 1) * y.size


@dataclass(frozen=True)
class AvgPool(Layer):
    """The mean of every window; the arguments are those of :func:`dlfn.ops.avg_pool`."""

    takes = "array"
    window: Sizes
    strides: Sizes | None = None
    padding: Padding = "VALID"
    count_padding: bool = True

    def apply(self, params, state, x, *, key=None, train=False):
        y = ops.avg_pool(
            x, window=self.window, strides=self.strides, padding=self.padding, count_padding=self.count_padding
        )
        return y, state

    def flops(self, x, y):
        """An addition for each entry of a window but one, and a division."""
        return _entries(self.window) * y.size


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """``(..., *spatial, channels)`` to ``(..., channels)``, by the mean over ``spatial`` axes.

    For the largest entries instead, ``Serial(AdaptiveMaxPool((1, 1)), Flatten())``.
    """

    takes = "array"
    spatial: int = 2

    def apply(self, params, state, x, *, key=None, train=False):
        return ops.global_avg_pool(x, spatial=self.spatial), state

    def flops(self, x, y):
        return x.size


@dataclass(frozen=True)
class AdaptiveAvgPool(Layer):
    """Means over windows as large as ``output_size`` asks for; see :func:`dlfn.ops.adaptive_avg_pool`."""

    takes = "array"
    output_size: Sizes

    def apply(self, params, state, x, *, key=None, train=False):
        return ops.adaptive_avg_pool(x, output_size=self.output_size), state

    def flops(self, x, y):
        """One for each entry, those that are in several windows counted once."""
        return max(x.size, y.size)


@dataclass(frozen=True)
class AdaptiveMaxPool(Layer):
    """Maxima over windows as large as ``output_size`` asks for; see :func:`dlfn.ops.adaptive_max_pool`."""

    takes = "array"
    output_size: Sizes

    def apply(self, params, state, x, *, key=None, train=False):
        return ops.adaptive_max_pool(x, output_size=self.output_size), state

    def flops(self, x, y):
        """One for each entry, those that are in several windows counted once."""
        return max(x.size, y.size)


def _entries(window: Sizes) -> int:
    return math.prod(window) if isinstance(window, tuple) else window**2
