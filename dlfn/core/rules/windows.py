"""Sliding windows: sums, extrema, and what is chosen by the extremum of another array.

Of equal entries of a window the first is chosen, as in JAX. Two primitives of XLA do it, each the other's transpose:
``select_and_scatter_add`` puts a number for each window where its extremum is, and ``select_and_gather_add`` takes one
from there. Windows with gaps are written out, one slice for each offset, as the first of these has none.
"""

from itertools import product

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives

from dlfn.core.rules.contractions import spread
from dlfn.core.rules.table import rule


@rule("reduce_window_sum")
def _window_sum(g, y, x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    """Every input collects the outputs whose windows it was in: the window slides over the spread-out cotangent."""
    pads = []
    for n, m, k, stride, (low, _), base, dilation in zip(
        x.shape, g.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation, strict=True
    ):
        pads.append((spread(k, dilation) - 1 - low, spread(n, base) + low - spread(m, stride)))
    zero = jnp.zeros((), g.dtype)
    return lax.reduce_window(
        g, zero, lax.add, window_dimensions, base_dilation, pads,
        base_dilation=window_strides, window_dilation=window_dilation,
    )  # fmt: skip


class Windows:
    """The windows of an array, as a strided slice of the padded array for each offset into a window."""

    def __init__(self, shape, window_dimensions, window_strides, padding, base_dilation, window_dilation):
        self.shape, self.strides, self.base = shape, window_strides, base_dilation
        self.padding = [(low, high, b - 1) for (low, high), b in zip(padding, base_dilation, strict=True)]
        self.padded = [
            low + spread(n, b) + high for n, b, (low, high) in zip(shape, base_dilation, padding, strict=True)
        ]
        extents = map(spread, window_dimensions, window_dilation)
        self.counts = [max(0, (n - k) // s + 1) for n, k, s in zip(self.padded, extents, window_strides, strict=True)]
        self.starts = [
            [o * d for o, d in zip(offsets, window_dilation, strict=True)]
            for offsets in product(*map(range, window_dimensions))
        ]

    def pad(self, x, value):
        return lax.pad(x, jnp.asarray(value, x.dtype), self.padding)

    def unpad(self, padded):
        """The transpose of :meth:`pad`."""
        uncut = lax.pad(padded, jnp.zeros((), padded.dtype), [(-low, -high, 0) for low, high, _ in self.padding])
        return lax.slice(uncut, [0] * len(self.shape), uncut.shape, self.base)

    def _stop(self, start):
        return [a + spread(m, stride) for a, m, stride in zip(start, self.counts, self.strides, strict=True)]

    def read(self, padded, start):
        """What stands at this offset of every window."""
        return lax.slice(padded, start, self._stop(start), self.strides)

    def put(self, values, start):
        """The transpose of :meth:`read`."""
        ends = zip(start, self.padded, self._stop(start), self.strides, strict=True)
        return lax.pad(values, jnp.zeros((), values.dtype), [(a, n - stop, stride - 1) for a, n, stop, stride in ends])

    def scattered(self, g, x, extremum):
        """Gives the number of each window to its first entry that is the extremum."""
        padded, inside = self.pad(x, 0), self.pad(jnp.ones(x.shape, bool), False)
        taken, total = jnp.zeros(extremum.shape, bool), jnp.zeros(padded.shape, g.dtype)
        for start in self.starts:
            here = (self.read(padded, start) == extremum) & self.read(inside, start) & ~taken
            taken |= here
            total += self.put(jnp.where(here, g, 0), start)
        return self.unpad(total)


@rule("reduce_window_max")
def _window_max(g, y, x, **geometry):
    return _scattered(g, x, primitives.ge_p, **geometry)


@rule("reduce_window_min")
def _window_min(g, y, x, **geometry):
    return _scattered(g, x, primitives.le_p, **geometry)


@rule("select_and_gather_add")
def _select_and_gather_add(g, y, values, x, **geometry):
    """``y`` has of ``values`` the entries that are extrema of x, as the forward derivative of an extremum does."""
    return _scattered(g, x, **geometry), None


@rule("select_and_scatter_add")
def _select_and_scatter_add(g, y, values, x, **geometry):
    """Adds ``values``, one for each window, where the extrema of x are, as the derivative of an extremum does."""
    ones = (1,) * x.ndim
    return primitives.select_and_gather_add_p.bind(g, x, base_dilation=ones, window_dilation=ones, **geometry), None


def _scattered(g, x, select_prim, **geometry):
    """Gives the number of each window to its extremum, of the x whose entries ``select_prim`` prefers."""
    start, reducer = (-jnp.inf, lax.max) if select_prim is primitives.ge_p else (jnp.inf, lax.min)
    start, windows = jnp.asarray(start, x.dtype), Windows(x.shape, **geometry)
    if any(dilation != 1 for dilation in geometry["window_dilation"]):
        return windows.scattered(g, x, lax.reduce_window(x, start, reducer, **geometry))
    scattered = primitives.select_and_scatter_add_p.bind(
        g, windows.pad(x, start), select_prim=select_prim, padding=((0, 0),) * x.ndim,
        window_dimensions=geometry["window_dimensions"], window_strides=geometry["window_strides"],
    )  # fmt: skip
    return windows.unpad(scattered)
