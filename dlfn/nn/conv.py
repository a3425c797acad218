"""Convolutional layers: convolution, depthwise convolution and transposed convolution."""

import abc
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes, require_windows
from dlfn.nn.initializers import Initializer, he_normal, zeros
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Example, Params, State
from dlfn.ops.spatial.windows import window_sizes

__all__ = ["Conv", "ConvTranspose", "DepthwiseConv"]

# A tuple has a number for each spatial axis. A window that is an int is square, over two axes; any other setting that
# is an int holds for every axis of the window.
PerAxis = int | tuple[int, ...]
Padding = str | int | tuple[int | tuple[int, int], ...]


class _Convolution(Layer):
    """What the layers share: a kernel, a bias, and windows whose length is the number of spatial axes."""

    takes = "array"
    window: PerAxis
    strides: PerAxis
    padding: Padding
    dilation: PerAxis
    bias: bool
    kernel_init: Initializer
    bias_init: Initializer

    @abc.abstractmethod
    def _channels(self, inputs: int) -> tuple[int, int, int]:
        """The last two axes of the kernel, and the number of outputs, for this many input channels."""

    @abc.abstractmethod
    def _op(self, x: AnyArray, kernel: AnyArray, bias: AnyArray | None) -> Array: ...

    def __post_init__(self):
        super().__post_init__()
        require_windows(self, self.window, self.padding, strides=self.strides, dilation=self.dilation)
        require_sizes(self, *(name for name in ("features", "multiplier", "groups") if hasattr(self, name)))
        features, groups = getattr(self, "features", 1), getattr(self, "groups", 1)
        if features % groups:
            raise InputError(f"{type(self).__name__}: groups={groups} must divide features={features}")

    @property
    def _window(self) -> tuple[int, ...]:
        return window_sizes(type(self).__name__, "window", self.window)

    def init(self, key, x: Shaped[Example, "*shape channels"]) -> tuple[Params, State]:
        if x.ndim <= len(self._window):
            raise InputError(
                f"{self} needs inputs of shape (..., *spatial, channels) with {len(self._window)} spatial axes, got x "
                f"of shape {x.shape}; pass x[..., None] if the channels are missing"
            )
        dtype = jnp.result_type(x.dtype, float)
        kernel_key, bias_key = jax.random.split(key)
        *channels, outputs = self._channels(x.shape[-1])
        params = {"kernel": self.kernel_init(kernel_key, (*self._window, *channels), dtype)}
        if self.bias:
            params["bias"] = self.bias_init(bias_key, (outputs,), dtype)
        return params, ()

    def apply(
        self, params, state, x: Float[AnyArray, "*shape channels"], *, key=None, train=False
    ) -> tuple[Float[Array, "*windows features"], State]:
        (kernel,) = held(self, "params", params, "kernel")
        if (*self._window, *self._channels(x.shape[-1])[:2]) != kernel.shape:
            raise InputError(
                f"{self} has a kernel of shape {kernel.shape} and got x of shape {x.shape}; call init with "
                f"an example of shape {x.shape}"
            )
        return self._op(x, kernel, params.get("bias")), state


@dataclass(frozen=True)
class Conv(_Convolution):
    """:func:`dlfn.ops.conv` of (..., *spatial, channels), with a ``kernel`` (*window, channels/groups, features).

    Args:
        features: the number of output channels.
        window: as in :func:`dlfn.ops.max_pool`: 3 or (3, 3) for images, (5,) for sequences, (3, 3, 3) for volumes.
        strides: as in the op, and so are padding, dilation, groups and precision.
        bias: whether to add ``bias``.
        kernel_init: He's by default, which suits a layer that a ReLU follows. The fan-in of an output is a window of
            its group's channels.

    Parameters have the dtype of the example if that is floating point, and otherwise the default float dtype.

    Raises:
        InputError: on inputs with another number of channels than those that the layer was initialised for, and where
            the op raises one.

    >>> import jax, jax.numpy as jnp
    >>> layer = Conv(16, (3, 3), padding="SAME")
    >>> params, state = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32))
    >>> print(jax.tree.map(jnp.shape, params), layer.apply(params, state, jnp.ones((8, 32, 32, 3)))[0].shape)
    {'bias': (16,), 'kernel': (3, 3, 3, 16)} (8, 32, 32, 16)
    """

    features: int
    window: PerAxis
    strides: PerAxis = 1
    padding: Padding = "VALID"
    dilation: PerAxis = 1
    groups: int = 1
    bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    precision: jax.lax.PrecisionLike = None

    def _channels(self, inputs):
        if inputs % self.groups:
            raise InputError(f"{self}: groups must divide the number of channels, {inputs}")
        return inputs // self.groups, self.features, self.features

    def _op(self, x, kernel, bias):
        return ops.conv(
            x, kernel, bias, strides=self.strides, padding=self.padding, dilation=self.dilation, groups=self.groups,
            precision=self.precision,
        )  # fmt: skip

    def flops(self, x, y):
        """Each output sums a window of a group's channels and the bias: a multiplication and an addition for each entry
        of the window, padding included."""
        return 2 * math.prod(self._window) * (x.shape[-1] // self.groups) * y.size


@dataclass(frozen=True)
class DepthwiseConv(_Convolution):
    """:class:`Conv` with a group for every channel, each of which makes ``multiplier`` of the outputs.

    >>> import jax, jax.numpy as jnp
    >>> params, _ = DepthwiseConv((3, 3)).init(jax.random.key(0), jnp.ones((8, 32, 32, 64)))
    >>> print(params["kernel"].shape)
    (3, 3, 1, 64)
    """

    window: PerAxis
    multiplier: int = 1
    strides: PerAxis = 1
    padding: Padding = "VALID"
    dilation: PerAxis = 1
    bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros

    def _channels(self, inputs):
        return 1, inputs * self.multiplier, inputs * self.multiplier

    def _op(self, x, kernel, bias):
        return ops.conv(
            x, kernel, bias, strides=self.strides, padding=self.padding, dilation=self.dilation, groups=x.shape[-1]
        )  # fmt: skip

    def flops(self, x, y):
        return 2 * math.prod(self._window) * y.size


@dataclass(frozen=True)
class ConvTranspose(_Convolution):
    """:func:`dlfn.ops.conv_transpose`, with a ``kernel`` (*window, channels, features/groups).

    Its arguments are those of :class:`Conv`, and ``output_padding`` as in the op. With strides s, an output sums only
    those entries of the window that fall on inputs, about one in :math:`\\prod s`; with groups, only the channels of
    one group. The initialiser knows of neither. To keep the variance, pass ``functools.partial(he_normal, gain=...)``
    with the square root of :math:`\\prod s` times the number of groups.

    >>> import jax, jax.numpy as jnp
    >>> layer = ConvTranspose(32, (4, 4), strides=2, padding=1)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((8, 7, 7, 64)))
    >>> print(params["kernel"].shape, layer.apply(params, state, jnp.ones((8, 7, 7, 64)))[0].shape)
    (4, 4, 64, 32) (8, 14, 14, 32)
    """

    features: int
    window: PerAxis
    strides: PerAxis = 1
    padding: Padding = "VALID"
    output_padding: PerAxis = 0
    dilation: PerAxis = 1
    groups: int = 1
    bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    precision: jax.lax.PrecisionLike = None

    def _channels(self, inputs):
        return inputs, self.features // self.groups, self.features

    def _op(self, x, kernel, bias):
        return ops.conv_transpose(
            x, kernel, bias, strides=self.strides, padding=self.padding, output_padding=self.output_padding,
            dilation=self.dilation, groups=self.groups, precision=self.precision,
        )  # fmt: skip

    def flops(self, x, y):
        """Each input is multiplied by a window of its group's features, which are added to the outputs. What is then
        cropped is counted."""
        return 2 * math.prod(self._window) * (self.features // self.groups) * x.size
