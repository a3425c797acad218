r"""Average pooling: the mean of every window. It is linear, and its gradient needs nothing but shapes."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.spatial._pooling import Uneven, adaptive_axes, onto_inputs, patches, pool_axes, rows, stages, taps
from dlfn.ops.spatial.windows import Padding, Sizes, spatial_sizes
from dlfn.ops.support.arguments import require_float, require_int
from dlfn.ops.support.dtypes import Static, upcast
from dlfn.ops.support.op import Op

__all__ = ["adaptive_avg_pool", "avg_pool", "global_avg_pool"]


@Op
def avg_pool(
    x: Float[ArrayLike, "*batch_and_sizes channels"],
    *,
    window: Sizes,
    strides: Sizes | None = None,
    padding: Padding = "VALID",
    count_padding: bool = True,
) -> Float[Array, "*batch_and_outputs channels"]:
    r"""Average pooling, :math:`y_o = \frac1{n_o} \sum_a x_{o s + a - p}` over the entries a of a window, per channel.

    .. math::
        \frac{\partial L}{\partial x_q} = \sum_{o, a} [q = o s + a - p]\, \frac{\bar y_o}{n_o}

    :math:`n_o` is the number of entries of the window, or without ``count_padding`` of those that are not padding.
    Windows of more than 16 entries are summed axis by axis. Half types are summed in float32.

    Args:
        x: (..., *spatial, channels).
        window: as in :func:`max_pool`: an int is for two axes, a tuple has a size for each.
        strides: s, an int for every axis or a tuple; None means ``strides=window``, windows side by side.
        padding: p, "VALID" (none), "SAME" (outputs = ⌈inputs / s⌉, the odd entry padded at the end), an int, or for
            each spatial axis an int or a pair (low, high).
        count_padding: whether the zeros of the padding count as entries of a window, as ``count_include_pad`` says in
            PyTorch.

    Returns:
        (..., *outputs, channels) in the dtype of x, with ⌊(n + p_low + p_high − f) / s⌋ + 1 outputs of a window of f
        along an axis of n.

    Raises:
        InputError: on an integer x, too few axes, a window that does not fit, and windows of nothing but padding.

    Source: LeCun et al. 1990, *Handwritten Digit Recognition with a Back-Propagation Network*; 002 section 6.2.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 3.0, 5.0])[:, None]
    >>> avg_pool(x, window=(2,), strides=1)[:, 0]
    Array([2., 4.], dtype=float32)
    >>> avg_pool(x, window=(2,), padding=((1, 0),))[:, 0]
    Array([0.5, 4. ], dtype=float32)
    >>> avg_pool(x, window=(2,), padding=((1, 0),), count_padding=False)[:, 0]
    Array([1., 4.], dtype=float32)
    """
    x = jnp.asarray(x)
    return _means(x, pool_axes("avg_pool", x, window, strides, padding), count_padding)


@avg_pool.def_forward
def _avg_pool_forward(x, *, window, strides, padding, count_padding):
    axes = pool_axes("avg_pool", x, window, strides, padding)
    return _pooled(x, axes, count_padding), Static(axes)


@avg_pool.def_backward
def _avg_pool_backward(axes, dy, *, count_padding):
    return (_to_inputs(dy, axes.value, count_padding),)


@avg_pool.def_check
def _avg_pool_check(x, *, window, strides, padding, count_padding):
    require_float("avg_pool", "x", x)
    pool_axes("avg_pool", x, window, strides, padding)
    if not isinstance(count_padding, bool):
        raise InputError(f"avg_pool: count_padding is {count_padding!r}, and must be True or False")


@Op
def adaptive_avg_pool(
    x: Float[ArrayLike, "*batch_and_sizes channels"], *, output_size: Sizes
) -> Float[Array, "*batch_and_outputs channels"]:
    r"""Average pooling to a given output size: :math:`y_i` is the mean of :math:`x_j` over
    :math:`\lfloor i n / m \rfloor \le j < \lceil (i + 1) n / m \rceil` along axes of n inputs and m outputs.

    The cotangent of :math:`x_j` is the sum of :math:`\bar y_i / n_i` over the windows i that :math:`x_j` is in. These
    are the i in window j where n outputs are pooled from m inputs, so that the backward pass is such a pooling too.

    Args:
        x: (..., *spatial, channels).
        output_size: m, which says how many spatial axes there are, as the window of :func:`max_pool` does.

    Returns:
        (..., *output_size, channels) in the dtype of x.

    Raises:
        InputError: on an integer x, too few axes, and an output size below 1.

    Source: PyTorch's ``adaptive_avg_pool2d``.

    >>> import jax.numpy as jnp
    >>> adaptive_avg_pool(jnp.arange(5.0)[:, None], output_size=(3,))[:, 0]
    Array([0.5, 2. , 3.5], dtype=float32)
    """
    x = jnp.asarray(x)
    return _means(x, adaptive_axes("adaptive_avg_pool", x, output_size), False)


@adaptive_avg_pool.def_forward
def _adaptive_avg_pool_forward(x, *, output_size):
    axes = adaptive_axes("adaptive_avg_pool", x, output_size)
    return _pooled(x, axes, False), Static(axes)


@adaptive_avg_pool.def_backward
def _adaptive_avg_pool_backward(axes, dy):
    return (_to_inputs(dy, axes.value, False),)


@adaptive_avg_pool.def_check
def _adaptive_avg_pool_check(x, *, output_size):
    require_float("adaptive_avg_pool", "x", x)
    adaptive_axes("adaptive_avg_pool", x, output_size)


@Op
def global_avg_pool(
    x: Float[ArrayLike, "*batch_and_sizes channels"], *, spatial: int = 2
) -> Float[Array, "*batch channels"]:
    r"""Mean over all of the spatial axes, :math:`y_c = \frac1n \sum_q x_{q c}`.

    .. math::
        \frac{\partial L}{\partial x_{q c}} = \frac{\bar y_c}{n}

    Args:
        x: (..., *spatial, channels).
        spatial: the number of spatial axes.

    Returns:
        (..., channels) in the dtype of x. Half types are summed in float32.

    Raises:
        InputError: on an integer x, too few axes, and a mean over nothing.

    Source: Lin, Chen & Yan 2014, *Network In Network*; 002 section 6.3.

    >>> import jax.numpy as jnp
    >>> global_avg_pool(jnp.arange(8.0).reshape(2, 2, 2))
    Array([3., 4.], dtype=float32)
    """
    return jnp.mean(x, axis=tuple(range(-1 - spatial, -1)))


@global_avg_pool.def_forward
def _global_avg_pool_forward(x, *, spatial):
    sizes = spatial_sizes("global_avg_pool", x, spatial)
    return jnp.mean(upcast(x), axis=tuple(range(-1 - spatial, -1))).astype(x.dtype), Static(sizes)


@global_avg_pool.def_backward
def _global_avg_pool_backward(sizes, dy):
    dx = (upcast(dy) / np.prod(sizes.value).item()).astype(dy.dtype)
    dx = jnp.expand_dims(dx, tuple(range(-1 - len(sizes.value), -1)))
    return (jnp.broadcast_to(dx, (*dy.shape[:-1], *sizes.value, dy.shape[-1])),)


@global_avg_pool.def_check
def _global_avg_pool_check(x, *, spatial):
    require_float("global_avg_pool", "x", x)
    require_int("global_avg_pool", "spatial", spatial, "the number of spatial axes", lambda number: number >= 1)
    if 0 in spatial_sizes("global_avg_pool", x, spatial):
        raise InputError(f"global_avg_pool: the mean over axes of x of shape {list(x.shape)} is 0/0; skip empty images")


def _means(x, axes, count_padding):
    """The definition."""
    counted = patches(jnp.ones_like(x), axes, 1.0 if count_padding else 0.0)
    return jnp.sum(patches(x, axes, 0.0), axis=-2) / jnp.sum(counted, axis=-2)


def _pooled(x, axes, count_padding):
    """The mean of every window, the fast way."""
    total = upcast(x)
    for stage in stages(axes):
        total = _sum(total, stage)
    return (total / _counts(axes, count_padding, total.dtype)).astype(x.dtype)


def _to_inputs(dy, axes, count_padding):
    """The cotangent of the input: each output's cotangent, divided by its count, at all entries of its window."""
    dx = upcast(dy)
    dx = dx / _counts(axes, count_padding, dx.dtype)
    for stage in reversed(stages(axes)):
        dx = _to_all(dx, stage)
    return dx.astype(dy.dtype)


def _counts(axes, count_padding, dtype):
    """How many entries each mean is taken over, in a shape that broadcasts to the outputs."""
    total = np.ones((), dtype)
    for axis in axes:
        table = axis.positions()
        count = np.full(len(table), table.shape[1]) if count_padding else (table >= 0).sum(axis=1)
        same = (count == count[0]).all()
        total = total * (count[0] if same else count.reshape((-1,) + (1,) * (-1 - axis.at))).astype(dtype)
    return total


def _sum(x, axes):
    """The sum of every window along the axes of one stage."""
    axis = axes[0]
    if isinstance(axis, Uneven):
        return _sum_of_taps(x, axis)
    if axis.long:
        x, at = rows(x, axis)
        return jnp.sum(x, axis=at)
    if any(axis.padded for axis in axes):
        # Slices would need a padded copy of x, which reduce_window does not make.
        window, strides, pads = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
        for axis in axes:
            window[axis.at], strides[axis.at], pads[axis.at] = axis.window, axis.stride, (axis.low, axis.high)
        return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, strides, pads)
    return functools.reduce(jnp.add, taps(x, axes, 0))


def _to_all(dy, axes):
    """The transpose of :func:`_sum`."""
    if isinstance(axes[0], Uneven):
        return _sum_of_taps(dy, axes[0].transposed())

    def term(number, dy):
        return dy if (number >= 0).all() else jnp.where(number < 0, 0, dy)

    return onto_inputs(axes, term, dy)


def _sum_of_taps(x, axis):
    return functools.reduce(jnp.add, [jnp.where(q < 0, 0, tap) for q, tap in axis.taps(x)])
