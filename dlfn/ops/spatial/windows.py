"""Windows that slide over the spatial axes of arrays (..., *spatial, channels): strides, dilation and padding.

The window says how many axes there are: an int is the side of a square along the two axes of an image, a tuple has a
size for each axis, (5,) for sequences and (3, 3, 3) for volumes. Everything else is an int for all of these axes, or a
tuple with one for each.

``padding`` is "VALID" (none), "SAME" (as many outputs as strides fit into the input, the odd entry padded at the end),
an int, or for each spatial axis an int or a pair (low, high).
"""

from typing import Any

import jax

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, is_int

__all__ = ["Padding", "Sizes", "output_sizes", "pads", "per_axis", "spatial_sizes", "window_sizes"]

# Settings of a window, as users give them.
Sizes = int | tuple[int, ...]
Padding = str | int | tuple[int | tuple[int, int], ...]


def spatial_sizes(op: str, x: jax.Array, n: int) -> tuple[int, ...]:
    """The sizes of the n axes before the last, which is that of the channels."""
    if x.ndim < n + 1:
        raise InputError(
            f"{op}: x is {describe(x)}, and must have {n} spatial axes and channels, (..., *spatial, channels); "
            "pass x[..., None] if the channels are missing"
        )
    return tuple(x.shape[-1 - n : -1])


def window_sizes(op: str, name: str, window: Any) -> tuple[int, ...]:
    """The size along every axis of a window, or of the output of adaptive pooling; an int means two equal axes."""
    if window == ():
        raise InputError(f"{op}: {name} is (), and must have a size for each spatial axis; an int is for images")
    return per_axis(op, name, window, len(window) if isinstance(window, tuple) else 2)


def per_axis(op: str, name: str, value: Any, n: int) -> tuple[int, ...]:
    """A setting as an int for each of n axes, given as one int for all of them or as a tuple of n; at least 1."""
    values = value if isinstance(value, tuple) else (value,) * n
    if len(values) != n or not all(is_int(v) and v >= 1 for v in values):
        raise InputError(f"{op}: {name} is {value!r}, and must be an int of at least 1, or {n} of them in a tuple")
    return values


def pads(
    op: str,
    padding: Any,
    sizes: tuple[int, ...],
    windows: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """How many entries are padded at the start and at the end of every axis, (low, high)."""
    n = len(sizes)
    if padding == "VALID":
        return ((0, 0),) * n
    if padding == "SAME":
        totals = [
            max((-(-size // stride) - 1) * stride + span(window, d) - size, 0)
            for size, window, stride, d in zip(sizes, windows, strides, dilation, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    values = padding if isinstance(padding, tuple) else (padding,) * n
    pairs = tuple(v if isinstance(v, tuple) else (v, v) for v in values)
    if len(pairs) != n or not all(len(pair) == 2 and all(is_int(v) and v >= 0 for v in pair) for pair in pairs):
        raise InputError(
            f"{op}: padding is {padding!r}, and must be 'VALID', 'SAME', an int of at least 0, or a tuple of {n} ints "
            "or (low, high) pairs, one for each spatial axis"
        )
    return pairs


def output_sizes(
    op: str,
    sizes: tuple[int, ...],
    windows: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
) -> tuple[int, ...]:
    r"""How often the window fits along every axis, :math:`\lfloor (n + p - f) / s \rfloor + 1`."""
    outputs = []
    for size, window, stride, d, pad in zip(sizes, windows, strides, dilation, pads, strict=True):
        if size + sum(pad) < span(window, d):
            raise InputError(
                f"{op}: a window of {window} with dilation {d} spans {span(window, d)} entries, and does not fit into "
                f"a spatial axis of {size} with padding {pad}; pad more, or take a smaller window"
            )
        outputs.append((size + sum(pad) - span(window, d)) // stride + 1)
    return tuple(outputs)


def span(window: int, dilation: int) -> int:
    """How many entries lie between the first and the last of a dilated window, both counted."""
    return (window - 1) * dilation + 1
