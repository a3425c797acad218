"""How pooling ops move numbers between inputs and windows, with neither a scatter nor zeros between entries.

Forward, :func:`taps` are the strided slices that hold the first, second … entry of every window. Backward, with s the
stride and d the dilation, entry q = m s + p of an axis, counted from where the padding starts, is entry a of window o
where q = o s + a d. Which entry a that is depends only on j = m - o and p, by a d = j s + p. :func:`onto_inputs` cuts
the input into blocks of s entries, and for each of the few values of j broadcasts the outputs over the blocks.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn.core import InputError
from dlfn.ops.spatial.windows import output_sizes, pads, per_axis, span, spatial_sizes, window_sizes

__all__ = ["Axis", "Uneven", "adaptive_axes", "onto_inputs", "patches", "pool_axes", "rows", "stages", "taps"]

# A window of more entries is reduced along one axis after the other: 7×7 takes 7 + 7 slices in place of 49.
LARGE = 16


class Axis(NamedTuple):
    """Windows along one axis; ``at`` is negative, as batch dimensions come in front."""

    at: int
    size: int
    outputs: int
    window: int
    stride: int
    low: int = 0
    high: int = 0
    dilation: int = 1

    @property
    def shifts(self) -> int:
        """How many blocks of ``stride`` entries a window reaches into."""
        return (span(self.window, self.dilation) - 1) // self.stride + 1

    @property
    def first(self) -> int:
        """The block of the first entry that is not padding."""
        return self.low // self.stride

    @property
    def last(self) -> int:
        """The block of the last entry that is not padding."""
        return (self.low + self.size - 1) // self.stride

    @property
    def blocks(self) -> int:
        """How many blocks there are from the first to the last."""
        return self.last + 1 - self.first

    @property
    def padded(self) -> bool:
        return self.low + self.high > 0

    @property
    def long(self) -> bool:
        """Whether to reduce :func:`rows`, as the windows are side by side, and so large that a slice for each of their
        entries would be slow."""
        return self.window == self.stride > LARGE and self.dilation == 1 and not self.padded

    def positions(self) -> np.ndarray:
        """(outputs, window): which input entry each entry of each window is, -1 where it is padding."""
        q = np.arange(self.outputs)[:, None] * self.stride + np.arange(self.window) * self.dilation - self.low
        return np.where((q >= 0) & (q < self.size), q, -1)


class Uneven(NamedTuple):
    r"""Windows :math:`\lfloor i n / m \rfloor \le j < \lceil (i + 1) n / m \rceil` of m outputs along an axis of n."""

    at: int
    size: int
    outputs: int

    def positions(self) -> np.ndarray:
        """As :meth:`Axis.positions`; windows that are shorter than the longest are filled up with -1."""
        i = np.arange(self.outputs)
        start, stop = i * self.size // self.outputs, -(-(i + 1) * self.size // self.outputs)
        q = start[:, None] + np.arange((stop - start).max())
        return np.where(q < stop[:, None], q, -1)

    def transposed(self) -> "Uneven":
        """The windows of n outputs along an axis of m. Entry j is in window i here exactly where entry i is in window j
        there, as both mean that i n < (j + 1) m and j m < (i + 1) n."""
        return Uneven(self.at, self.outputs, self.size)

    def taps(self, *arrays: jax.Array) -> list[tuple[Any, ...]]:
        """For each entry of a window its position in all windows, and what the arrays have there. Where the position is
        -1 that is an arbitrary value."""
        columns = self.positions().T
        rank = (1,) * (-1 - self.at)
        return [
            (q.reshape(-1, *rank), *(jnp.take(a, np.maximum(q, 0), axis=self.at, mode="clip") for a in arrays))
            for q in columns
        ]


def pool_axes(op: str, x: jax.Array, window: Any, strides: Any, padding: Any, dilation: Any = 1) -> tuple[Axis, ...]:
    """The spatial axes of x; raises on a configuration that is wrong or does not fit."""
    windows = window_sizes(op, "window", window)
    n = len(windows)
    strides = windows if strides is None else per_axis(op, "strides", strides, n)
    dilation = per_axis(op, "dilation", dilation, n)
    sizes = spatial_sizes(op, x, n)
    padded = pads(op, padding, sizes, windows, strides, dilation)
    outputs = output_sizes(op, sizes, windows, strides, dilation, padded)
    axes = tuple(
        Axis(at - 1 - n, size, output, window, stride, low, high, d)
        for at, (size, output, window, stride, (low, high), d) in enumerate(
            zip(sizes, outputs, windows, strides, padded, dilation, strict=True)
        )
    )
    for axis in axes:
        if (axis.positions() < 0).all(axis=1).any():
            raise InputError(
                f"{op}: padding {(axis.low, axis.high)} of an axis of {axis.size} leaves windows with nothing but "
                f"padding; pad by less than the {span(axis.window, axis.dilation)} entries that a window spans"
            )
    return axes


def adaptive_axes(op: str, x: jax.Array, output_size: Any) -> tuple[Any, ...]:
    """The spatial axes of x, each an :class:`Axis` where all its windows have one size, and else :class:`Uneven`."""
    outputs = window_sizes(op, "output_size", output_size)
    n = len(outputs)
    sizes = spatial_sizes(op, x, n)
    if 0 in sizes:
        raise InputError(f"{op}: x of shape {list(x.shape)} has no entries to pool; skip empty images")
    return tuple(
        Uneven(at, size, m) if size % m else Axis(at, size, m, size // m, size // m)
        for at, size, m in zip(range(-1 - n, -1), sizes, outputs, strict=True)
    )


def stages(axes: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    """The axes in groups, which are pooled one after the other. The last axis goes first, so that the first maximum of
    the maxima is also the first in row-major order."""
    if all(isinstance(axis, Axis) for axis in axes) and math.prod(axis.window for axis in axes) <= LARGE:
        return (axes,)
    return tuple((axis,) for axis in reversed(axes) if axis != Axis(axis.at, axis.size, axis.size, 1, 1))


def patches(x: jax.Array, axes: tuple[Any, ...], fill: float) -> jax.Array:
    """Every window's entries, (..., *outputs, entries, channels), by indexing, as the definitions take them."""
    n = len(axes)
    for axis in axes:
        table = axis.positions()
        x = jnp.moveaxis(jnp.take(x, jnp.maximum(table, 0), axis=axis.at), axis.at, 0)
        valid = np.expand_dims((table >= 0).T, [i % x.ndim for i in range(1, x.ndim) if i != x.ndim + axis.at])
        x = jnp.where(valid, x, fill)
    # The axes of the window's entries are in front now, that of the first spatial axis last.
    x = jnp.moveaxis(x, range(n - 1, -1, -1), range(-1 - n, -1))
    return x.reshape(*x.shape[: -1 - n], math.prod(x.shape[-1 - n : -1]), x.shape[-1])


def taps(x: jax.Array, axes: tuple[Axis, ...], fill: float) -> list[jax.Array]:
    """For each entry of a window, in row-major order, the slice of x that holds it for all windows."""
    x = _pad(x, {axis.at: (axis.low, axis.high) for axis in axes}, fill)

    def tap(offsets: tuple[int, ...]) -> jax.Array:
        start, limit, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for axis, offset in zip(axes, offsets, strict=True):
            start[axis.at] = offset * axis.dilation
            limit[axis.at] = start[axis.at] + (axis.outputs - 1) * axis.stride + 1
            step[axis.at] = axis.stride
        return lax.slice(x, start, limit, step)

    return [tap(offsets) for offsets in itertools.product(*(range(axis.window) for axis in axes))]


def rows(x: jax.Array, axis: Axis) -> tuple[jax.Array, int]:
    """The windows of a :attr:`~Axis.long` axis, which lie side by side, as an axis each for their numbers and entries,
    and the place of the latter."""
    at = x.ndim + axis.at
    x = _cut(x, {at: (0, axis.outputs * axis.window)})
    return x.reshape(*x.shape[:at], axis.outputs, axis.window, *x.shape[at + 1 :]), at + 1


def onto_inputs(axes: tuple[Axis, ...], term: Callable[..., jax.Array], *outputs: jax.Array) -> jax.Array:
    """The array of inputs whose blocks are the sum over all shifts j of ``term(number, *outputs)``. ``number`` says for
    each place in a block which entry of the window it is, or -1 if it is none, and the outputs have axes of size 1 in
    place of those of the block. A block that no window reaches at a shift gets outputs of 0."""
    rank = outputs[0].ndim
    places = [rank + axis.at + 1 + i for i, axis in enumerate(axes)]
    # Padded once for all shifts: if each slice were padded by itself, XLA on CPU would pad again for every entry.
    ends = {axis.at: (axis.shifts - 1 - axis.first, axis.last + 1 - axis.outputs) for axis in axes}
    outputs = tuple(jnp.expand_dims(_pad(y, ends), places) for y in outputs)
    total: Any = None
    for shifts in itertools.product(*(range(axis.shifts) for axis in axes)):
        number = _entries(axes, shifts)
        if (number >= 0).any():
            number = np.expand_dims(number, [i for i in range(rank + len(axes)) if i not in places])
            at = {p - 1: (a.shifts - 1 - j, a.blocks) for p, a, j in zip(places, axes, shifts, strict=True)}
            part = term(number, *(_cut(y, at) for y in outputs))
            total = part if total is None else total + part
    strides = {p: axis.stride for p, axis in zip(places, axes, strict=True)}
    total = jnp.broadcast_to(total, [strides.get(i, n) for i, n in enumerate(total.shape)])
    for p in reversed(places):  # one by one, because JAX may refuse to merge several axes of a sharded array at once
        total = lax.collapse(total, p - 1, p + 1)
    return _cut(total, {rank + a.at: (a.low - a.first * a.stride, a.size) for a in axes})


def _entries(axes: tuple[Axis, ...], shifts: tuple[int, ...]) -> np.ndarray:
    """For each place in the block that is ``shifts`` blocks after the one where a window starts: which entry of the
    window it is, counted in row-major order, or -1 if it is none."""
    number, inside = np.zeros((), int), np.ones((), bool)
    for axis, j in zip(axes, shifts, strict=True):
        offset = j * axis.stride + np.arange(axis.stride)
        hit = (offset % axis.dilation == 0) & (offset < span(axis.window, axis.dilation))
        number = np.add.outer(number * axis.window, offset // axis.dilation)
        inside = np.logical_and.outer(inside, hit)
    return np.where(inside, number, -1)


def _pad(x: jax.Array, ends: dict[int, tuple[int, int]], fill: float = 0) -> jax.Array:
    """``x`` with as many entries as ``ends`` has for an axis put in front of it and behind it; negative numbers cut."""
    if not any(map(any, ends.values())):
        return x
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(*ends.get(at, (0, 0)), 0) for at in range(-x.ndim, 0)])


def _cut(x: jax.Array, at: dict[int, tuple[int, int]]) -> jax.Array:
    """The part of ``x`` that ``at`` names by its start and size along axes."""
    for axis, (start, size) in at.items():
        if size != x.shape[axis]:
            x = lax.slice_in_dim(x, start, start + size, axis=axis)
    return x
