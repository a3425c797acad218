r"""The three linear maps of a convolution, each the adjoint of the others.

A convolution is linear in the image x and in the kernel k. With a cotangent g of its output, all that it and its
derivatives need is one sum, over batch n, positions p, window entries a, and the channels i, o of each group,

.. math::
    S = \sum_{n, p, a, i, o} x_{n,\, s p + d a - l,\, i} \; k_{a i o} \; g_{n p o},

with stride s, dilation d, l entries of padding in front, and x = 0 outside the image. It is linear in all three, so its
derivative in each is the sum over what the other two share:

=================== =================== =======================================================================
``correlate``       (x, k) to like g    the convolution; the image's cotangent of a transposed one
``spread``          (g, k) to like x    the transposed convolution; the image's cotangent of a convolution
``kernel_gradient`` (x, g) to like k    the kernel's cotangent of both
=================== =================== =======================================================================

In general each is one XLA convolution, by the same formula as the transposes that XLA itself derives, and so just as
fast. A convolution with a window of one entry is a matrix product. On CPUs the kernel's gradient of many large images
is computed as products of blocks of images, whose windows are written out and stay in the cache: XLA's convolution with
a window as large as the image is up to six times slower there. On CPUs a depthwise convolution with few window
entries is computed as a sum of shifted products, which is several times faster than XLA's convolution. On GPUs a
convolution of half types returns the half type: cuDNN sums in float32 in any case, and has no kernel that returns it,
so that XLA would cast the arguments to float32 (on an H100, 128 images of 56 × 56 × 64 and a 3 × 3 window in bfloat16,
forward and backward, 0.85 ms instead of 0.25).
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from dlfn.ops.spatial.windows import span
from dlfn.ops.support.dtypes import sum_dtype
from dlfn.ops.support.platforms import ByPlatform
from dlfn.ops.support.sharding import is_explicit

__all__ = ["Geometry", "Maps", "flatten", "maps", "unflatten"]

# The largest number of window entries for which a program with separate operations for each entry stays small. 7×7
# and 3×3×3 windows have fewer.
_WRITTEN_OUT = 64


class Geometry(NamedTuple):
    """The image, the window, and its positions on the image; tuples have an int or a pair for each spatial axis."""

    sizes: tuple[int, ...]  # of the image
    positions: tuple[int, ...]  # how many the window takes
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    precision: Any

    @property
    def reaches(self) -> tuple[int, ...]:
        """The distance from the window's first position to its last, with both counted."""
        return tuple(map(span, self.positions, self.strides))

    @property
    def spans(self) -> tuple[int, ...]:
        """The number of entries that the dilated window reaches over."""
        return tuple(map(span, self.window, self.dilation))


class Maps(NamedTuple):
    """The three maps of the module's docstring. Images are (N, *sizes, C_in), cotangents (N, *positions, C_out),
    kernels (*window, C_in/G, C_out), and all have one dtype; sums are taken, and returned, in float32 or wider."""

    correlate: Callable[..., jax.Array]
    spread: Callable[..., jax.Array]
    kernel_gradient: Callable[..., jax.Array]


def maps(geometry: Geometry, image_channels: int, *arrays: jax.Array) -> Maps:
    """The fastest implementation of the three maps for a geometry and ``arrays``: images and kernel."""
    entries = math.prod(geometry.window)
    every = geometry.sizes == geometry.positions and geometry.strides == (1,) * len(geometry.strides)
    if is_explicit(*arrays):
        chosen = _GENERAL
    elif entries == geometry.groups == 1 and every and not any(map(any, geometry.pads)):
        chosen = _POINTWISE
    elif 1 < geometry.groups == image_channels and entries <= _WRITTEN_OUT:
        chosen = _DEPTHWISE
    elif geometry.groups == 1 and entries <= _WRITTEN_OUT and _is_large(geometry, *arrays):
        chosen = *_GENERAL[:2], _IN_BLOCKS
    else:
        chosen = _GENERAL
    return Maps(*(functools.partial(function, geometry=geometry) for function in chosen))


# Leading dimensions. Where shardings are part of types, a reshape that merges axes has to be told that of its result.


def flatten(x: jax.Array, rank: int) -> jax.Array:
    """(..., *spatial, C) to (N, *spatial, C)."""
    lead = x.ndim - rank - 1
    sharding = None
    if is_explicit(x):
        spec = jax.typeof(x).sharding.spec
        axes = [axis for part in spec[:lead] for axis in (part if isinstance(part, tuple) else (part,)) if axis]
        sharding = _sharding(x, tuple(axes) or None, *spec[lead:])
    return lax.reshape(x, (math.prod(x.shape[:lead]), *x.shape[lead:]), out_sharding=sharding)


def unflatten(y: jax.Array, like: jax.Array) -> jax.Array:
    """(N, *spatial, C) to (..., *spatial, C) with the leading dimensions of ``like``."""
    lead = like.ndim - y.ndim + 1
    sharding = None
    if is_explicit(like, y):
        spec = jax.typeof(y).sharding.spec
        sharding = _sharding(y, *jax.typeof(like).sharding.spec[:lead], *spec[1:])
    return lax.reshape(y, (*like.shape[:lead], *y.shape[1:]), out_sharding=sharding)


def _sharding(x: jax.Array, *spec: Any) -> NamedSharding:
    return NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(*spec))


def _of_batch(batch: jax.Array, features: Any) -> NamedSharding | None:
    """The sharding of an output: its first axis as that of ``batch``, and its last as that of the kernel, ``features``,
    unless that is sharded over several mesh axes, or over one that the batch is sharded over."""
    if not is_explicit(batch):
        return None
    first, *spatial, _ = jax.typeof(batch).sharding.spec
    used = first if isinstance(first, tuple) else (first,)
    free = features if not isinstance(features, tuple) and features not in used else None
    return _sharding(batch, first, *[None] * len(spatial), free)


# Every map as an XLA convolution. ``spread`` slides the flipped window over g, whose entries are put s apart with zeros
# between them. ``kernel_gradient`` slides g, spread out in the same way, over the image; the batch has the place of the
# channels in it, as what is summed over.


def _correlate(x: jax.Array, k: jax.Array, *, geometry: Geometry, half: bool = False) -> jax.Array:
    layout = _layout("N?C", "?IO", "N?C", len(geometry.window))
    features = jax.typeof(k).sharding.spec[-1] if is_explicit(k) else None
    return _convolve(
        geometry, half, x, k, layout, geometry.strides, geometry.pads, rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups, out_sharding=_of_batch(x, features),
    )  # fmt: skip


def _spread(g: jax.Array, k: jax.Array, *, geometry: Geometry, half: bool = False) -> jax.Array:
    rank, groups = len(geometry.window), geometry.groups
    inputs, outputs = k.shape[-2], k.shape[-1] // groups
    flipped = lax.rev(k, range(rank))
    if groups > 1:
        flipped = flipped.reshape(*geometry.window, inputs, groups, outputs).swapaxes(-1, -3)
        flipped = flipped.reshape(*geometry.window, outputs, groups * inputs)
        layout = _layout("N?C", "?IO", "N?C", rank)
    else:
        layout = _layout("N?C", "?OI", "N?C", rank)
    pads = [
        (f - 1 - low, n + low - reach)
        for n, f, reach, (low, _) in zip(geometry.sizes, geometry.spans, geometry.reaches, geometry.pads, strict=True)
    ]
    features = jax.typeof(k).sharding.spec[-2] if is_explicit(k) and groups == 1 else None
    return _convolve(
        geometry, half, g, flipped, layout, (1,) * rank, pads, lhs_dilation=geometry.strides,
        rhs_dilation=geometry.dilation, feature_group_count=groups, out_sharding=_of_batch(g, features),
    )  # fmt: skip


def _kernel_gradient(x: jax.Array, g: jax.Array, *, geometry: Geometry, half: bool = False) -> jax.Array:
    pads = [
        (low, reach + f - 1 - n - low)
        for n, f, reach, (low, _) in zip(geometry.sizes, geometry.spans, geometry.reaches, geometry.pads, strict=True)
    ]
    rank = len(geometry.window)
    return _convolve(
        geometry, half, x, g, _layout("C?N", "I?O", "?NC", rank), geometry.dilation, pads,
        rhs_dilation=geometry.strides, batch_group_count=geometry.groups,
        out_sharding=_sharding(x, *[None] * (rank + 2)) if is_explicit(x) else None,
    )  # fmt: skip


def _layout(x: str, k: str, y: str, rank: int) -> tuple[str, ...]:
    return tuple(axes.replace("?", "DHW"[-rank:]) for axes in (x, k, y))


def _convolve(geometry: Geometry, half: bool, lhs: Any, rhs: Any, layout: Any, *args: Any, **options: Any) -> Any:
    """``half``: whether XLA's convolution is to return a half type where its arguments have one."""
    wide = sum_dtype(lhs.dtype)
    y = lax.conv_general_dilated(
        lhs, rhs, *args, dimension_numbers=layout, precision=geometry.precision,
        preferred_element_type=lhs.dtype if half else wide, **options,
    )  # fmt: skip
    return y.astype(wide)


_XLA = _correlate, _spread, _kernel_gradient
_XLA_HALF = tuple(functools.partial(function, half=True) for function in _XLA)
_GENERAL = tuple(ByPlatform(function, cuda=half) for function, half in zip(_XLA, _XLA_HALF, strict=True))


# The kernel's gradient from blocks of images. On two cores with AVX2, 128 images of 28 × 28 × 32 and 32 outputs, 3 × 3:
# 72 ms, and 188 to 570 by XLA's convolution; 128 of 14 × 14 × 64 and 128 outputs: 81 and 245; but 64 of 8 × 8 × 64 and
# 64 outputs: 11.2 and 9.7.
_BLOCK_BYTES = 2**21  # of the windows of a block
_LARGE = 2**14, 5e7  # positions of all images together, and those times the channels and outputs


def _is_large(geometry: Geometry, images: jax.Array, kernel: jax.Array) -> bool:
    sizes = (images.shape[0], *geometry.positions)
    if not all(isinstance(size, int) for size in sizes):  # that of a program for any batch is not known
        return False
    positions = math.prod(sizes)
    return positions >= _LARGE[0] and positions * kernel.shape[-2] * kernel.shape[-1] >= _LARGE[1]


def _blocked_kernel_gradient(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    count, inputs, outputs = x.shape[0], x.shape[-1], g.shape[-1]
    rows, columns = math.prod(geometry.positions), math.prod(geometry.window) * inputs
    most = max(1, _BLOCK_BYTES // (rows * columns * x.dtype.itemsize))
    block = next(size for size in range(min(most, count), 0, -1) if count % size == 0)
    pads = [
        (low, reach + f - 1 - n - low, 0)
        for n, f, reach, (low, _) in zip(geometry.sizes, geometry.spans, geometry.reaches, geometry.pads, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])

    def add(total: jax.Array, images: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, g = images
        seen = []
        for at in _entries(geometry):
            begin = [a * d for a, d in zip(at, geometry.dilation, strict=True)]
            end = [a + reach for a, reach in zip(begin, geometry.reaches, strict=True)]
            limits = (0, *begin, 0), (block, *end, inputs), (1, *geometry.strides, 1)
            seen.append(lax.slice(x, *limits).reshape(block * rows, inputs))
        windows = jnp.concatenate(seen, axis=-1)
        return total + _dot(geometry, windows, g.reshape(block * rows, outputs), 0, 0), None

    x, g = (a.reshape(count // block, block, *a.shape[1:]) for a in (x, g))
    zeros = jnp.zeros((columns, outputs), sum_dtype(x.dtype))
    return lax.scan(add, zeros, (x, g))[0].reshape(*geometry.window, inputs, outputs)


_IN_BLOCKS = ByPlatform(_blocked_kernel_gradient, accelerator=_kernel_gradient, cuda=_XLA_HALF[2])


# Every map for a window of one entry: matrix products of the kernel with the pixels of x and g as rows.


def _product(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    y = _dot(geometry, _rows(x), _matrix(k), 1, 0)
    return y.reshape(*x.shape[:-1], k.shape[-1])


def _product_spread(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    return _dot(geometry, _rows(g), _matrix(k), 1, 1).reshape(*g.shape[:-1], k.shape[-2])


def _product_kernel_gradient(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    return _dot(geometry, _rows(x), _rows(g), 0, 0).reshape(*geometry.window, x.shape[-1], g.shape[-1])


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _matrix(k: jax.Array) -> jax.Array:
    return k.reshape(k.shape[-2:])


def _dot(geometry: Geometry, a: jax.Array, b: jax.Array, i: int, j: int) -> jax.Array:
    dims = (((i,), (j,)), ((), ()))
    return lax.dot_general(
        a, b, dims, precision=geometry.precision, preferred_element_type=sum_dtype(a.dtype)
    )  # fmt: skip


_POINTWISE = _product, _product_spread, _product_kernel_gradient


# Every map for a depthwise convolution: channel i makes the m outputs from i m to i m + m - 1, which have the axes
# (C, m) below, and there is no sum over channels.


def _depthwise(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    x, outputs, k = _wide(x)[..., None], k.shape[-1], _by_channel(geometry, _wide(k)[..., 0, :])
    products = ((x * k[at]).reshape(*x.shape[:-2], outputs) for at in _entries(geometry))
    # The products are padded, and not their factors: XLA fuses a product with the padding that follows it, but computes
    # a padded factor separately.
    return _total(_tap(geometry, product, at) for product, at in zip(products, _entries(geometry), strict=True))


def _depthwise_spread(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    g, k = _by_channel(geometry, _wide(g)), _by_channel(geometry, _wide(k)[..., 0, :])
    return _total(_untap(geometry, jnp.sum(g * k[at], axis=-1), at) for at in _entries(geometry))


def _depthwise_kernel_gradient(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """One image at a time: for a whole batch XLA would hold all shifted products in memory before it sums any."""
    axes = tuple(range(len(geometry.window)))

    def of_image(image_and_cotangent: tuple[jax.Array, jax.Array]) -> jax.Array:
        image, cotangent = map(_wide, image_and_cotangent)
        cotangent = _by_channel(geometry, cotangent)
        taps = (_tap(geometry, image[None], at)[0, ..., None] for at in _entries(geometry))
        return jnp.stack([jnp.sum(tap * cotangent, axis=axes) for tap in taps])

    return jnp.sum(lax.map(of_image, (x, g)), axis=0).reshape(*geometry.window, 1, g.shape[-1])


def _by_channel(geometry: Geometry, a: jax.Array) -> jax.Array:
    """(..., outputs) to (..., C, m)."""
    return a.reshape(*a.shape[:-1], geometry.groups, a.shape[-1] // geometry.groups)


def _entries(geometry: Geometry) -> Any:
    return itertools.product(*map(range, geometry.window))


def _tap(geometry: Geometry, x: jax.Array, at: tuple[int, ...]) -> jax.Array:
    """What the window's entry ``at`` sees of the image, at every position."""
    pads = []
    for n, a, reach, d, (low, _) in zip(
        geometry.sizes, at, geometry.reaches, geometry.dilation, geometry.pads, strict=True
    ):
        pads.append((low - d * a, reach - n - (low - d * a), 0))
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    return lax.slice(x, (0,) * x.ndim, x.shape, (1, *geometry.strides, 1))


def _untap(geometry: Geometry, g: jax.Array, at: tuple[int, ...]) -> jax.Array:
    """The adjoint of :func:`_tap`: the value of each position, put where that position's window has its entry ``at`` in
    the image, and zeros elsewhere."""
    pads = []
    for n, a, reach, s, d, (low, _) in zip(
        geometry.sizes, at, geometry.reaches, geometry.strides, geometry.dilation, geometry.pads, strict=True
    ):
        pads.append((d * a - low, n - reach - (d * a - low), s - 1))
    return lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(sum_dtype(x.dtype))


def _total(terms: Any) -> jax.Array:
    return functools.reduce(jnp.add, terms)


_TAPS = _depthwise, _depthwise_spread, _depthwise_kernel_gradient
_DEPTHWISE = tuple(
    ByPlatform(taps, accelerator=function, cuda=half)
    for taps, function, half in zip(_TAPS, _XLA, _XLA_HALF, strict=True)
)
