r"""Transposed convolution, in one, two or three dimensions."""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.spatial._convolving import bias_gradient, check_arrays, check_bias, saved, windows_of, with_bias
from dlfn.ops.spatial._correlation import Geometry, flatten, maps, unflatten
from dlfn.ops.spatial.windows import Padding, Sizes, pads, span, spatial_sizes
from dlfn.ops.support.arguments import describe, is_int
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import like

__all__ = ["conv_transpose"]


@Op
def conv_transpose(
    x: Float[ArrayLike, "*batch_and_positions in"],
    kernel: Float[ArrayLike, "*window in out_of_group"],
    bias: Float[ArrayLike, " out"] | None = None,
    *,
    strides: Sizes = 1,
    padding: Padding = "VALID",
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "*batch_and_sizes out"]:
    r"""Transposed convolution: the map by which the backward pass of :func:`dlfn.ops.conv` with the same settings takes
    the cotangent of its output to that of its image, plus a bias.

    Every input entry adds its multiple of the window to the output. With stride s, dilation d and l entries cropped in
    front, in one dimension,

    .. math::
        y_{q o} = b_o + \sum_{p, a:\, s p + d a - l = q} \sum_i x_{p i}\, k_{a i o},

    and so, with :math:`\delta = \partial L / \partial y`, taken as 0 outside the output,

    .. math::
        \frac{\partial L}{\partial x_{p i}} = \sum_{a, o} \delta_{s p + d a - l,\, o}\, k_{a i o}, \qquad
        \frac{\partial L}{\partial k_{a i o}} = \sum_p x_{p i}\, \delta_{s p + d a - l,\, o}, \qquad
        \frac{\partial L}{\partial b_o} = \sum_q \delta_{q o}.

    The first is a strided convolution of :math:`\delta`. The kernel's cotangent is computed as that convolution's too,
    with :math:`\delta` as the image: XLA's transpose of :func:`jax.lax.conv_transpose` instead slides :math:`\delta`
    over an image with zeros between its entries, which takes over twenty times as long on a CPU.

    Args:
        x: (..., *spatial, C_in).
        kernel: (*window, C_in, C_out/groups). Its rank says how many of x's axes are spatial. It is not flipped.
        bias: (C_out,), or None.
        strides: an int, or one for each axis.
        padding: that of the convolution which this one is the transpose of. What that one pads, this one crops: an axis
            of m entries gets one of :math:`s (m - 1) + d (k - 1) + 1 - p_{low} - p_{high} + p_{output}`. "VALID",
            "SAME" (s m entries, whatever the window), an int, or a tuple of ints and (low, high) pairs.
        output_padding: how many entries to add at the end of every axis, fewer than its stride. A convolution with
            stride s has the same number of positions on images of up to s sizes, and this chooses among those sizes.
        dilation: the distance of neighbours in the window: an int, or one for each axis.
        groups: output channels come in this many groups, each from its own share of the input channels.
        precision: of the products, as in :func:`jax.lax.conv_general_dilated`.

    Returns:
        (..., *sizes, C_out), in the common dtype of the arguments.

    Raises:
        InputError: on an argument that is not floating point, shapes that do not fit, more cropped than there is, and
            settings that are not as above.

    PyTorch's ``ConvTranspose`` takes the same ``padding`` and ``output_padding``, and its weight transposed by
    (2, 3, 0, 1) is the kernel here. :func:`jax.lax.conv_transpose` and Flax flip the window: they give the same with
    :func:`dlfn.ops.flip_kernel` of the kernel, and the same sizes with "SAME".

    Source: Dumoulin & Visin 2016, *A Guide to Convolution Arithmetic for Deep Learning*, chapter 4.

    >>> import jax.numpy as jnp
    >>> x, kernel = jnp.array([1.0, 10.0])[:, None], jnp.array([1.0, 2.0, 3.0])[:, None, None]
    >>> print(conv_transpose(x, kernel).ravel(), conv_transpose(x, kernel, strides=2).ravel())
    [ 1. 12. 23. 30.] [ 1.  2. 13. 20. 30.]
    >>> conv_transpose(jnp.ones((8, 7, 7, 64)), jnp.ones((4, 4, 64, 32)), strides=2, padding=1).shape
    (8, 14, 14, 32)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    g = _transposed_geometry(x, kernel, strides, padding, output_padding, dilation, groups, precision)
    lead = x.shape[: x.ndim - len(g.window) - 1]
    # The output before it is cropped: large enough for every window, and for what output_padding adds behind them.
    room = [
        max(low + n, reach + f - 1) for n, f, reach, (low, _) in zip(g.sizes, g.spans, g.reaches, g.pads, strict=True)
    ]
    shares = kernel.reshape(*g.window, groups, kernel.shape[-2] // groups, kernel.shape[-1])
    x = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    y = jnp.zeros((*lead, *room, groups, kernel.shape[-1]), jnp.result_type(x, kernel))
    for at in itertools.product(*map(range, g.window)):
        steps = zip(at, g.dilation, g.reaches, g.strides, strict=True)
        touched = (..., *(slice(a * d, a * d + reach, s) for a, d, reach, s in steps), slice(None), slice(None))
        y = y.at[touched].add(jnp.einsum("...gi,gio->...go", x, shares[at], precision=precision))
    y = y[..., *(slice(low, low + n) for n, (low, _) in zip(g.sizes, g.pads, strict=True)), :, :]
    y = y.reshape(*y.shape[:-2], groups * kernel.shape[-1])
    return y if bias is None else y + bias


# The rules are those of a convolution with x in the place of its output and y in the place of its image, and so with
# the two channel axes of the kernel swapped.


@conv_transpose.def_forward
def _conv_transpose_forward(x, kernel, bias, *, strides, padding, output_padding, dilation, groups, precision):
    g = _transposed_geometry(x, kernel, strides, padding, output_padding, dilation, groups, precision)
    dtype, residuals = saved(x, kernel, bias)
    entries, k = flatten(x.astype(dtype), len(g.window)), kernel.astype(dtype).swapaxes(-1, -2)
    y = maps(g, k.shape[-2] * groups, entries, k).spread(entries, k)
    return with_bias(y, bias, x, dtype), residuals


@conv_transpose.def_backward
def _conv_transpose_backward(residuals, dy, *, strides, padding, output_padding, dilation, groups, precision):
    x, kernel, static = residuals
    dtype, bias_kind = static.value
    g = _transposed_geometry(x, kernel, strides, padding, output_padding, dilation, groups, precision)
    entries, k = flatten(x.astype(dtype), len(g.window)), kernel.astype(dtype).swapaxes(-1, -2)
    dy = flatten(dy, len(g.window))
    rules = maps(g, k.shape[-2] * groups, entries, k)
    dx = like(unflatten(rules.correlate(dy, k), x), jax.typeof(x))
    dk = like(rules.kernel_gradient(dy, entries).swapaxes(-1, -2), jax.typeof(kernel))
    return dx, dk, bias_gradient(dy, bias_kind)


@conv_transpose.def_check
def _conv_transpose_check(x, kernel, bias, *, strides, padding, output_padding, dilation, groups):
    op = "conv_transpose"
    check_arrays(op, x, kernel, bias, groups)
    _transposed_geometry(x, kernel, strides, padding, output_padding, dilation, groups, None)
    inputs, outputs = kernel.shape[-2:]
    if x.shape[-1] != inputs:
        hint = "; pass kernel.swapaxes(-1, -2)" if x.shape[-1] == outputs else ""
        raise InputError(
            f"{op}: x is {describe(x)} and kernel is {describe(kernel)}: the last axis of x must have {inputs} "
            f"channels, those of the kernel (*window, C_in, C_out/groups){hint}"
        )
    if inputs % groups:
        raise InputError(f"{op}: kernel is {describe(kernel)}, and groups={groups} must divide its {inputs} inputs")
    check_bias(op, bias, outputs * groups)


def _transposed_geometry(x, kernel, strides, padding, output_padding, dilation, groups, precision):
    """That of the convolution which this one is the transpose of, whose image is the output here; settings checked."""
    op = "conv_transpose"
    window, strides, dilation = windows_of(op, kernel, strides, dilation)
    positions = spatial_sizes(op, x, len(window))
    same = tuple(m * s for m, s in zip(positions, strides, strict=True))
    padded = pads(op, padding, same, window, strides, dilation)
    more = output_padding if isinstance(output_padding, tuple) else (output_padding,) * len(window)
    if len(more) != len(window) or not all(is_int(o) and 0 <= o < s for o, s in zip(more, strides, strict=True)):
        raise InputError(
            f"{op}: output_padding is {output_padding!r}, and must be an int below the stride, or one for each "
            f"axis; strides is {strides}"
        )
    if padding == "SAME":
        if any(more):
            raise InputError(f"{op}: output_padding is {output_padding!r}, and must be 0 where padding is 'SAME'")
        return Geometry(same, positions, window, strides, padded, dilation, groups, precision)
    sizes = []
    for m, k, s, d, pad, o in zip(positions, window, strides, dilation, padded, more, strict=True):
        full = span(m, s) + span(k, d) - 1
        sizes.append(full - sum(pad) + o)
        if sizes[-1] < 1:
            raise InputError(
                f"{op}: padding crops {sum(pad)} entries from an axis that has {full + o} without; crop less"
            )
    return Geometry(tuple(sizes), positions, window, strides, padded, dilation, groups, precision)
