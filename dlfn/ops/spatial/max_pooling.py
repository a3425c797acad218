r"""Max pooling: the largest entry of every window, and the gradient to the first that attains it.

The backward pass keeps the number of that entry in its window, one byte per output up to windows of 255 entries, and
neither x nor y.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.spatial._pooling import Uneven, adaptive_axes, onto_inputs, patches, pool_axes, rows, stages, taps
from dlfn.ops.spatial.windows import Padding, Sizes
from dlfn.ops.support.arguments import require_float
from dlfn.ops.support.dtypes import Static, upcast
from dlfn.ops.support.op import Op

__all__ = ["adaptive_max_pool", "max_pool"]


@Op
def max_pool(
    x: Float[ArrayLike, "*batch_and_sizes channels"],
    *,
    window: Sizes,
    strides: Sizes | None = None,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
) -> Float[Array, "*batch_and_outputs channels"]:
    r"""Max pooling, :math:`y_o = \max_a x_{o s + a d - p}` over the entries a of a window, per channel.

    With :math:`a^*(o)` the first entry in row-major order that attains the maximum,

    .. math::
        \frac{\partial L}{\partial x_q} = \sum_{o, a} [q = o s + a d - p]\, [a = a^*(o)]\, \bar y_o.

    As in PyTorch, the gradient of a tie goes to the first entry and is not shared among all, and padding never wins,
    not even against -inf. A nan wins, and the first of several does. Windows of more than 16 entries are pooled along
    one axis after the other.

    Args:
        x: (..., *spatial, channels).
        window: says how many spatial axes there are: an int is a square along the two of an image, a tuple has a size
            for each axis.
        strides: s, an int for every axis or a tuple; None means ``strides=window``, windows side by side.
        padding: p, "VALID" (none), "SAME" (outputs = ⌈inputs / s⌉, the odd entry padded at the end), an int, or for
            each spatial axis an int or a pair (low, high).
        dilation: d, the distance between the entries of a window, an int or a tuple.

    Returns:
        (..., *outputs, channels) in the dtype of x, with ⌊(n + p_low + p_high − (f − 1) d − 1) / s⌋ + 1 outputs of a
        window of f along an axis of n.

    Raises:
        InputError: on an integer x, too few axes, a window that does not fit, and windows of nothing but padding.

    Source: Yamaguchi, Sakamoto, Akabane & Fujimoto 1990, *A Neural Network for Speaker-Independent Isolated Word
    Recognition*; 002 section 6.1.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([1.0, 3.0, 3.0, 2.0])[:, None]
    >>> max_pool(x, window=(2,))[:, 0], max_pool(x, window=(3,), strides=1)[:, 0]
    (Array([3., 3.], dtype=float32), Array([3., 3.], dtype=float32))
    >>> jax.grad(lambda x: max_pool(x, window=(3,), strides=1).sum())(x)[:, 0]
    Array([0., 2., 0., 0.], dtype=float32)
    """
    x = jnp.asarray(x)
    return _maxima(x, pool_axes("max_pool", x, window, strides, padding, dilation))


@max_pool.def_forward
def _max_pool_forward(x, *, window, strides, padding, dilation):
    return _pooled(x, pool_axes("max_pool", x, window, strides, padding, dilation))


@max_pool.def_backward
def _max_pool_backward(residuals, dy):
    return (_to_maxima(residuals, dy),)


@max_pool.def_check
def _max_pool_check(x, *, window, strides, padding, dilation):
    require_float("max_pool", "x", x)
    pool_axes("max_pool", x, window, strides, padding, dilation)


@Op
def adaptive_max_pool(
    x: Float[ArrayLike, "*batch_and_sizes channels"], *, output_size: Sizes
) -> Float[Array, "*batch_and_outputs channels"]:
    r"""Max pooling to a given output size, :math:`y_i = \max_j x_j` over :math:`\lfloor i n / m \rfloor \le j <
    \lceil (i + 1) n / m \rceil` along axes of n inputs and m outputs.

    The gradient goes to the first entry that attains the maximum, as in :func:`max_pool`. Where m does not divide n,
    windows overlap, and entry j is in the windows i that are entries of window j where n outputs are pooled from m
    inputs.

    Args:
        x: (..., *spatial, channels).
        output_size: m, which says how many spatial axes there are, as the window of :func:`max_pool` does.

    Returns:
        (..., *output_size, channels) in the dtype of x.

    Raises:
        InputError: on an integer x, too few axes, and an output size below 1.

    Source: PyTorch's ``adaptive_max_pool2d``.

    >>> import jax.numpy as jnp
    >>> adaptive_max_pool(jnp.arange(5.0)[:, None], output_size=(3,))[:, 0]
    Array([1., 3., 4.], dtype=float32)
    """
    x = jnp.asarray(x)
    return _maxima(x, adaptive_axes("adaptive_max_pool", x, output_size))


@adaptive_max_pool.def_forward
def _adaptive_max_pool_forward(x, *, output_size):
    return _pooled(x, adaptive_axes("adaptive_max_pool", x, output_size))


@adaptive_max_pool.def_backward
def _adaptive_max_pool_backward(residuals, dy):
    return (_to_maxima(residuals, dy),)


@adaptive_max_pool.def_check
def _adaptive_max_pool_check(x, *, output_size):
    require_float("adaptive_max_pool", "x", x)
    adaptive_axes("adaptive_max_pool", x, output_size)


def _maxima(x, axes):
    """The definition."""
    entries = patches(x, axes, -jnp.inf)
    first = jnp.argmax(entries, axis=-2, keepdims=True)
    return jnp.take_along_axis(entries, first, axis=-2)[..., 0, :]


def _pooled(x, axes):
    """The maximum of every window, and the residuals: for each stage the numbers of the entries that attain it."""
    indices = []
    for stage in stages(axes):
        x, index = _maximum(x, stage)
        indices.append(index)
    return x, (tuple(indices), Static(axes))


def _maximum(x, axes):
    """The maximum of every window along the axes of one stage, and the number of the first entry that attains it."""
    axis = axes[0]
    if isinstance(axis, Uneven):
        return _first_of([jnp.where(q < 0, -jnp.inf, tap) for q, tap in axis.taps(x)])
    if axis.long:
        return _maximum_of_rows(x, axis)
    y, index = _first_of(taps(x, axes, -jnp.inf))
    if any(axis.padded for axis in axes):
        index = jnp.where(y == -jnp.inf, _first_inside(axes, index.dtype), index)
    return y, index


def _first_of(entries):
    """The largest of several arrays, entry by entry, and the number of the first array that attains it."""
    dtype = _index_dtype(len(entries))
    y = functools.reduce(jnp.maximum, entries)
    index = jnp.full_like(y, len(entries) - 1, dtype=dtype)
    for k in reversed(range(len(entries) - 1)):
        index = jnp.where((entries[k] == y) | (entries[k] != entries[k]), dtype(k), index)
    return y, index


def _maximum_of_rows(x, axis):
    """:func:`_maximum` along a long axis."""
    x, at = rows(x, axis)
    y = jnp.max(x, axis=at, keepdims=True)
    dtype = _index_dtype(axis.window)
    number = np.arange(axis.window, dtype=dtype).reshape((-1,) + (1,) * (x.ndim - 1 - at))
    index = jnp.min(jnp.where((x == y) | (x != x), number, dtype(axis.window)), axis=at)
    return jnp.squeeze(y, at), index


def _first_inside(axes, dtype):
    """The number of the first entry of every window that is not padding. It is the one that wins where all are -inf."""
    number = np.zeros((), dtype)
    for axis in axes:
        first = np.argmax(axis.positions() >= 0, axis=1).astype(dtype)
        number = number * dtype.type(axis.window) + first.reshape((-1,) + (1,) * (-1 - axis.at))
    return number


def _to_maxima(residuals, dy):
    """The cotangent of the input: each output's cotangent at the entry that attained the maximum."""
    indices, axes = residuals
    for index, stage in zip(reversed(indices), reversed(stages(axes.value)), strict=True):
        dy = _to_maximum(index, dy, stage)
    return dy


def _to_maximum(index, dy, axes):
    """The transpose of :func:`_maximum`, for the entries that attained the maximum."""
    axis = axes[0]
    if isinstance(axis, Uneven):
        start, j = axis.positions()[:, 0], np.arange(axis.size).reshape((-1,) + (1,) * (-1 - axis.at))
        terms = [
            jnp.where((i >= 0) & (number == (j - start[i]).astype(index.dtype)), upcast(dy), 0)
            for i, number, dy in axis.transposed().taps(index, dy)
        ]
        return functools.reduce(jnp.add, terms).astype(dy.dtype)

    def term(number, index, dy):
        number = np.where(number < 0, math.prod(axis.window for axis in axes), number)
        return jnp.where(index == number.astype(index.dtype), upcast(dy), 0)

    return onto_inputs(axes, term, index, dy).astype(dy.dtype)


def _index_dtype(entries):
    """The narrowest dtype that holds the numbers of the entries and one number more, which stands for none of them."""
    return next(t for t in (np.uint8, np.uint16, np.uint32) if entries <= np.iinfo(t).max)
