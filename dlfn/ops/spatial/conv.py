r"""Convolution, in one, two or three dimensions."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from dlfn.core import InputError
from dlfn.ops.spatial._convolving import (
    KERNEL_AXES,
    bias_gradient,
    check_arrays,
    check_bias,
    saved,
    windows_of,
    with_bias,
)
from dlfn.ops.spatial._correlation import Geometry, flatten, maps, unflatten
from dlfn.ops.spatial.windows import Padding, Sizes, output_sizes, pads, per_axis, spatial_sizes
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import like

__all__ = ["conv", "conv_output_size", "flip_kernel"]


@Op
def conv(
    x: Float[ArrayLike, "*batch_and_sizes in"],
    kernel: Float[ArrayLike, "*window in_of_group out"],
    bias: Float[ArrayLike, " out"] | None = None,
    *,
    strides: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    groups: int = 1,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "*batch_and_positions out"]:
    r"""Convolution in the sense of deep learning, which is cross-correlation: the window is not flipped.

    With stride s, dilation d and l entries of padding in front, in one dimension,

    .. math::
        y_{p o} = b_o + \sum_{a, i} x_{s p + d a - l,\, i}\, k_{a i o},

    where x is 0 outside the image. In more dimensions p, a, s, d and l have a component for each axis of the window.
    With :math:`\delta = \partial L / \partial y`,

    .. math::
        \frac{\partial L}{\partial x_{q i}} = \sum_{p, a:\, s p + d a - l = q} \sum_o k_{a i o}\, \delta_{p o}, \qquad
        \frac{\partial L}{\partial k_{a i o}} = \sum_p x_{s p + d a - l,\, i}\, \delta_{p o}, \qquad
        \frac{\partial L}{\partial b_o} = \sum_p \delta_{p o},

    those of k and b summed over the batch too. The first is :func:`dlfn.ops.conv_transpose` of :math:`\delta`, and the
    second slides :math:`\delta` over x. Both are XLA convolutions, in the form that XLA's own transposes take, so that
    dense convolutions are as fast as with autodiff, and no faster. A convolution with a 1×1 window is computed as a
    matrix product, and a depthwise one on a CPU as a sum of shifted products; both are faster.

    Half types are multiplied and summed in float32, and so is the gradient of the bias. (On NVIDIA's GPUs sums are
    rounded to the half type before the bias is added.)

    Args:
        x: (..., *spatial, C_in).
        kernel: (*window, C_in/groups, C_out). Its rank says how many of x's axes are spatial: 3, 4 or 5 for one, two
            or three.
        bias: (C_out,), or None.
        strides: an int, or one for each axis.
        padding: "VALID" (none), "SAME" (⌈inputs / s⌉ positions, the odd entry padded at the end), an int, or a tuple of
            ints and (low, high) pairs, one for each axis.
        dilation: the distance of neighbours in the window: an int, or one for each axis.
        groups: output channels come in this many groups, each from its own share of the input channels. As many groups
            as input channels make a depthwise convolution.
        precision: of the products, as in :func:`jax.lax.conv_general_dilated`.

    Returns:
        (..., *positions, C_out), in the common dtype of the arguments; the number of positions is
        :func:`conv_output_size`.

    Raises:
        InputError: on an argument that is not floating point, shapes that do not fit, a window larger than the padded
            image, and settings that are not as above.

    In the documents, as in PyTorch, images are ``C H W`` and kernels ``C_out C_in k_h k_w``: move the channels of such
    an image to the end, and transpose such a kernel by (2, 3, 1, 0).

    Source: LeCun et al. 1989, *Backpropagation Applied to Handwritten Zip Code Recognition*; 002 section 5.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([1.0, 2.0, 4.0, 8.0])[:, None]
    >>> edges = jnp.array([-1.0, 1.0])[:, None, None]
    >>> print(conv(x, edges).ravel(), conv(x, flip_kernel(edges)).ravel())
    [1. 2. 4.] [-1. -2. -4.]
    >>> images, kernel = jnp.ones((8, 32, 32, 3)), jnp.ones((3, 3, 3, 16))
    >>> conv(images, kernel, strides=2, padding="SAME").shape
    (8, 16, 16, 16)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    g = _geometry("conv", x, kernel, strides, padding, dilation, groups, precision)
    edges = [(0, 0)] * (x.ndim - len(g.window) - 1)
    x = jnp.pad(x, [*edges, *g.pads, (0, 0)])
    shares = kernel.reshape(*kernel.shape[:-1], groups, kernel.shape[-1] // groups)
    terms = []
    for at in itertools.product(*map(range, g.window)):
        steps = zip(at, g.dilation, g.reaches, g.strides, strict=True)
        seen = x[..., *(slice(a * d, a * d + reach, s) for a, d, reach, s in steps), :]
        seen = seen.reshape(*seen.shape[:-1], groups, seen.shape[-1] // groups)
        terms.append(jnp.einsum("...gi,igo->...go", seen, shares[at], precision=precision))
    y = functools.reduce(jnp.add, terms)
    y = y.reshape(*y.shape[:-2], kernel.shape[-1])
    return y if bias is None else y + bias


@conv.def_forward
def _conv_forward(x, kernel, bias, *, strides, padding, dilation, groups, precision):
    g = _geometry("conv", x, kernel, strides, padding, dilation, groups, precision)
    dtype, residuals = saved(x, kernel, bias)
    images, k = flatten(x.astype(dtype), len(g.window)), kernel.astype(dtype)
    y = maps(g, x.shape[-1], images, k).correlate(images, k)
    return with_bias(y, bias, x, dtype), residuals


@conv.def_backward
def _conv_backward(residuals, dy, *, strides, padding, dilation, groups, precision):
    x, kernel, static = residuals
    dtype, bias_kind = static.value
    g = _geometry("conv", x, kernel, strides, padding, dilation, groups, precision)
    images, k = flatten(x.astype(dtype), len(g.window)), kernel.astype(dtype)
    dy = flatten(dy, len(g.window))
    rules = maps(g, x.shape[-1], images, k)
    dx = like(unflatten(rules.spread(dy, k), x), jax.typeof(x))
    dk = like(rules.kernel_gradient(images, dy), jax.typeof(kernel))
    return dx, dk, bias_gradient(dy, bias_kind)


@conv.def_check
def _conv_check(x, kernel, bias, *, strides, padding, dilation, groups):
    check_arrays("conv", x, kernel, bias, groups)
    _geometry("conv", x, kernel, strides, padding, dilation, groups, None)
    inputs, outputs = kernel.shape[-2:]
    if x.shape[-1] != inputs * groups:
        hint = f"; pass groups={x.shape[-1]} for a depthwise convolution" if inputs == groups == 1 else ""
        raise InputError(
            f"conv: x is {describe(x)} and kernel is {describe(kernel)}, for groups={groups}: the last axis of x must "
            f"have {inputs * groups} channels, groups times those of the kernel (*window, C_in/groups, C_out){hint}"
        )
    if outputs % groups:
        raise InputError(f"conv: kernel is {describe(kernel)}, and groups={groups} must divide its {outputs} outputs")
    check_bias("conv", bias, outputs)


def flip_kernel(kernel: Shaped[ArrayLike, "*window in out"]) -> Shaped[Array, "*window in out"]:
    """A kernel (*window, in, out) with its window back to front along every axis: :func:`conv` with it is convolution
    in the strict sense, :math:`y_p = \\sum_a x_{p - a} k_a`.

    Source: 002 section 5.1.

    >>> import jax.numpy as jnp
    >>> print(flip_kernel(jnp.array([1.0, 2.0, 3.0])[:, None, None]).ravel())
    [3. 2. 1.]
    """
    kernel = jnp.asarray(kernel)
    if not 3 <= kernel.ndim <= 5:
        raise InputError(f"flip_kernel: kernel is {describe(kernel)}, and must have {KERNEL_AXES}")
    return jnp.flip(kernel, range(kernel.ndim - 2))


def conv_output_size(
    n: int, window: int, *, stride: int = 1, padding: str | int | tuple[int, int] = "VALID", dilation: int = 1
) -> int:
    r"""The number of positions of a window along an axis of size n, in a convolution or in pooling.

    .. math::
        \Big\lfloor \frac{n + p_{low} + p_{high} - f}{s} \Big\rfloor + 1,

    where a window of k entries spans :math:`f = d (k - 1) + 1` at dilation d. "SAME" gives
    :math:`\lceil n / s \rceil`: at stride 1 that takes :math:`p = (f - 1)/2` on either side, and so only for odd f; for
    even f the end gets one more than the start.

    Args:
        n: size of the axis.
        window: k.
        stride: s.
        padding: "VALID" (none), "SAME", an int for either side, or (low, high).
        dilation: d, the distance of neighbours in the window.

    Raises:
        InputError: when the window spans more than the padded axis, and on settings that are not as above.

    Source: Dumoulin & Visin 2016, *A Guide to Convolution Arithmetic for Deep Learning*; 001 section 9, 002 section
    5.2.

    >>> first = conv_output_size(32, 5)  # the worked example of 001: a 5×5 convolution,
    >>> pooled = conv_output_size(first, 2, stride=2)  # pooling by 2,
    >>> print(first, pooled, conv_output_size(pooled, 3, padding=1))  # and a 3×3 convolution padded by 1
    28 14 14
    >>> conv_output_size(7, 4, stride=2, padding="SAME")
    4
    """
    op = "conv_output_size"
    names = {"window": window, "stride": stride, "dilation": dilation}
    windows, strides, dilations = (per_axis(op, name, value, 1) for name, value in names.items())
    of_axes = (padding,) if isinstance(padding, tuple) else padding
    padded = pads(op, of_axes, (n,), windows, strides, dilations)
    return output_sizes(op, (n,), windows, strides, dilations, padded)[0]


def _geometry(op, x, kernel, strides, padding, dilation, groups, precision):
    """The settings of a convolution, checked, with an int or a pair for each axis."""
    window, strides, dilation = windows_of(op, kernel, strides, dilation)
    sizes = spatial_sizes(op, x, len(window))
    padded = pads(op, padding, sizes, window, strides, dilation)
    positions = output_sizes(op, sizes, window, strides, dilation, padded)
    return Geometry(sizes, positions, window, strides, padded, dilation, groups, precision)
