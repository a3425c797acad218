"""What the cases of conv and conv_transpose share."""

import math

__all__ = ["channels_first", "channels_last", "pairs", "terms"]


def terms(x, kernel, *_):
    """Of a cotangent: an entry of the image has a window of outputs, one of the kernel all positions of the batch."""
    return max(math.prod(kernel.shape[:-2]) * max(kernel.shape[-2:]), x.size // x.shape[-1])


# In PyTorch the channels come before the spatial axes, in images and kernels alike, and padding is in front of an axis
# as at its end: padding the image, and cropping the output, does for the rest.


def channels_first(x, rank):
    return x.reshape(-1, *x.shape[-rank - 1 :]).movedim(-1, 1)


def channels_last(y, x, rank):
    return y.movedim(1, -1).reshape(*x.shape[: x.ndim - rank - 1], *y.shape[2:], y.shape[1])


def pairs(padding, sizes, kernel, strides):
    """(low, high) for each axis, where no case with "SAME" is dilated."""
    if padding == "SAME":
        strides = strides if isinstance(strides, tuple) else (strides,) * len(sizes)
        excess = [(math.ceil(n / s) - 1) * s + k - n for n, k, s in zip(sizes, kernel.shape, strides, strict=False)]
        return [(max(e, 0) // 2, max(e, 0) - max(e, 0) // 2) for e in excess]
    padding = 0 if padding == "VALID" else padding
    axes = padding if isinstance(padding, tuple) else (padding,) * len(sizes)
    return [axis if isinstance(axis, tuple) else (axis, axis) for axis in axes]
