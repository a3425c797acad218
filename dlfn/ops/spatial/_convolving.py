"""What convolution and transposed convolution share: checks of their arguments, residuals, and the bias."""

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.spatial._correlation import unflatten
from dlfn.ops.spatial.windows import per_axis
from dlfn.ops.support.arguments import describe, require_float
from dlfn.ops.support.dtypes import Static, sum_dtype
from dlfn.ops.support.sharding import like

__all__ = ["KERNEL_AXES", "bias_gradient", "check_arrays", "check_bias", "saved", "windows_of", "with_bias"]

KERNEL_AXES = "three, four or five axes, (*window, in, out)"


def windows_of(op, kernel, strides, dilation):
    """The window of a kernel, and its strides and dilation as an int for each axis."""
    window = kernel.shape[:-2]
    rank = len(window)
    return window, per_axis(op, "strides", strides, rank), per_axis(op, "dilation", dilation, rank)


def check_arrays(op, x, kernel, bias, groups):
    for name, value in (("x", x), ("kernel", kernel), ("bias", bias)):
        if name != "bias" or value is not None:
            require_float(op, name, value)
    if not 3 <= kernel.ndim <= 5 or 0 in kernel.shape[:-2]:
        raise InputError(f"{op}: kernel is {describe(kernel)}, and must have {KERNEL_AXES}, and no empty window")
    per_axis(op, "groups", groups, 1)


def check_bias(op, bias, outputs):
    if bias is not None and bias.shape != (outputs,):
        raise InputError(f"{op}: bias is {describe(bias)}, and must have the shape [{outputs}], one for each output")


def saved(x, kernel, bias):
    """The common dtype of the arguments, and the residuals: x, the kernel, and that dtype with the type of the bias."""
    dtype = jnp.result_type(x, kernel, *([] if bias is None else [bias]))
    return dtype, (x, kernel, Static((dtype, None if bias is None else jax.typeof(bias))))


def with_bias(y, bias, x, dtype):
    """The output in its dtype, with the bias added and the leading dimensions of x."""
    y = y if bias is None else y + bias.astype(y.dtype)
    return unflatten(y.astype(dtype), x)


def bias_gradient(dy, kind):
    """The cotangent of a bias of the type ``kind``, which is None where there is no bias."""
    return None if kind is None else like(jnp.sum(dy, axis=range(dy.ndim - 1), dtype=sum_dtype(dy.dtype)), kind)
