"""Sliding windows: sums, extrema, and what is chosen by the extremum of another array.

Of equal entries of a window the first is chosen, as in JAX.
"""

from itertools import product

import jax.numpy as jnp
from jax import lax

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

    def __init__(self, shape, window_dimensions, window_strides, padding, base_dilation=None, window_dilation=None):
        ones = (1,) * len(shape)
        base, dilation = base_dilation or ones, window_dilation or ones
        self.shape, self.strides, self.base = shape, window_strides, base
        self.padding = [(low, high, b - 1) for (low, high), b in zip(padding, base, strict=True)]
        self.padded = [low + spread(n, b) + high for n, b, (low, high) in zip(shape, base, padding, strict=True)]
        extents = map(spread, window_dimensions, dilation)
        self.counts = [max(0, (n - k) // s + 1) for n, k, s in zip(self.padded, extents, window_strides, strict=True)]
        self.starts = [
            [o * d for o, d in zip(offsets, dilation, strict=True)]
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

    def chosen(self, x, extremum):
        """For each offset, the windows whose first extremum is there."""
        padded, inside = self.pad(x, 0), self.pad(jnp.ones(x.shape, bool), False)
        taken = jnp.zeros(extremum.shape, bool)
        for start in self.starts:
            here = (self.read(padded, start) == extremum) & self.read(inside, start) & ~taken
            taken |= here
            yield start, here

    def scattered(self, g, x, extremum):
        """Gives the numbers of each window to its extremum."""
        return self.unpad(sum(self.put(jnp.where(here, g, 0), start) for start, here in self.chosen(x, extremum)))


@rule("reduce_window_max", "reduce_window_min")
def _window_extremum(g, y, x, **geometry):
    return Windows(x.shape, **geometry).scattered(g, x, y)


def _extremum(x, select_prim, geometry):
    """Of each window of x, the entry that is ``ge`` or ``le`` all others."""
    name = select_prim.name
    init, reducer = (-jnp.inf, lax.max) if name == "ge" else (jnp.inf, lax.min)
    return lax.reduce_window(x, jnp.asarray(init, x.dtype), reducer, **geometry)


@rule("select_and_gather_add")
def _select_and_gather_add(g, y, values, x, *, select_prim, **geometry):
    """``y`` has of ``values`` the entries that are extrema of x, as the forward derivative of an extremum does."""
    return Windows(x.shape, **geometry).scattered(g, x, _extremum(x, select_prim, geometry)), None


@rule("select_and_scatter_add")
def _select_and_scatter_add(g, y, values, x, *, select_prim, **geometry):
    """Adds ``values``, one for each window, where the extrema of x are, as the derivative of an extremum does."""
    windows = Windows(x.shape, **geometry)
    padded, extremum = windows.pad(g, 0), _extremum(x, select_prim, geometry)
    found = (jnp.where(here, windows.read(padded, start), 0) for start, here in windows.chosen(x, extremum))
    return sum(found), None
