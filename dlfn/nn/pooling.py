"""Pooling over the spatial axes of (..., *spatial, channels): two where a window is an int, else its length."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlfn import ops
from dlfn.nn.checks import require_sizes, require_windows
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, State
from dlfn.ops.spatial.windows import window_sizes

__all__ = ["AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "GlobalAvgPool", "GlobalMaxPool", "MaxPool"]

Sizes = int | tuple[int, ...]
Padding = str | int | tuple[int | tuple[int, int], ...]


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest entry of every window; the arguments are those of :func:`dlfn.ops.max_pool`.

    Source: Yamaguchi, Sakamoto, Akabane & Fujimoto 1990, *A Neural Network for Speaker-Independent Isolated Word
    Recognition*; 002 section 6.1.

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

    def __post_init__(self):
        super().__post_init__()
        _check_windows(self, self.dilation)

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*windows channels"], State]:
        y = ops.max_pool(x, window=self.window, strides=self.strides, padding=self.padding, dilation=self.dilation)
        return y, state

    def flops(self, x, y):
        """A comparison for each entry of a window but one."""
        return (_entries(self) - 1) * y.size


@dataclass(frozen=True)
class AvgPool(Layer):
    """The mean of every window; the arguments are those of :func:`dlfn.ops.avg_pool`.

    Source: LeCun et al. 1990, *Handwritten Digit Recognition with a Back-Propagation Network*; 002 section 6.2.
    """

    takes = "array"
    window: Sizes
    strides: Sizes | None = None
    padding: Padding = "VALID"
    count_padding: bool = True

    def __post_init__(self):
        super().__post_init__()
        _check_windows(self)

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*windows channels"], State]:
        y = ops.avg_pool(
            x, window=self.window, strides=self.strides, padding=self.padding, count_padding=self.count_padding
        )
        return y, state

    def flops(self, x, y):
        """An addition for each entry of a window but one, and a division."""
        return _entries(self) * y.size


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """``(..., *spatial, channels)`` to ``(..., channels)``, by the mean over ``spatial`` axes.

    Source: Lin, Chen & Yan 2014, *Network In Network*; 002 section 6.3.
    """

    takes = "array"
    spatial: int = 2

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "spatial")

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*batch channels"], State]:
        return ops.global_avg_pool(x, spatial=self.spatial), state

    def flops(self, x, y):
        return x.size


@dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """``(..., *spatial, channels)`` to ``(..., channels)``, by the largest entry over ``spatial`` axes.

    Source: Keras's ``GlobalMaxPooling2D``.

    >>> import jax.numpy as jnp
    >>> print(GlobalMaxPool().apply((), (), jnp.arange(8.0).reshape(1, 2, 2, 2))[0])
    [[6. 7.]]
    """

    takes = "array"
    spatial: int = 2

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "spatial")

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*batch channels"], State]:
        y = ops.adaptive_max_pool(x, output_size=(1,) * self.spatial)
        return jnp.squeeze(y, tuple(range(-1 - self.spatial, -1))), state

    def flops(self, x, y):
        return x.size


@dataclass(frozen=True)
class AdaptiveAvgPool(Layer):
    """Means over windows as large as ``output_size`` asks for; see :func:`dlfn.ops.adaptive_avg_pool`.

    Source: PyTorch's ``AdaptiveAvgPool2d``.
    """

    takes = "array"
    output_size: Sizes

    def __post_init__(self):
        super().__post_init__()
        window_sizes(type(self).__name__, "output_size", self.output_size)

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*windows channels"], State]:
        return ops.adaptive_avg_pool(x, output_size=self.output_size), state

    def flops(self, x, y):
        """One for each entry, those that are in several windows counted once."""
        return max(x.size, y.size)


@dataclass(frozen=True)
class AdaptiveMaxPool(Layer):
    """Maxima over windows as large as ``output_size`` asks for; see :func:`dlfn.ops.adaptive_max_pool`.

    Source: PyTorch's ``AdaptiveMaxPool2d``.
    """

    takes = "array"
    output_size: Sizes

    def __post_init__(self):
        super().__post_init__()
        window_sizes(type(self).__name__, "output_size", self.output_size)

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*windows channels"], State]:
        return ops.adaptive_max_pool(x, output_size=self.output_size), state

    def flops(self, x, y):
        """One for each entry, those that are in several windows counted once."""
        return max(x.size, y.size)


def _check_windows(layer: MaxPool | AvgPool, dilation: Sizes = 1) -> None:
    strides = 1 if layer.strides is None else layer.strides
    require_windows(layer, layer.window, layer.padding, strides=strides, dilation=dilation)


def _entries(layer: MaxPool | AvgPool) -> int:
    return math.prod(window_sizes(type(layer).__name__, "window", layer.window))
