"""The cross-entropy of an affine map to many classes, forward and backward, with few logits in memory at a time."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.ops.losses._class_ids import class_losses, logits_gradient, sum_of_others
from dlfn.ops.support.dtypes import dot, sum_dtype
from dlfn.ops.support.sharding import is_explicit, like

__all__ = ["ON_ACCELERATORS", "ON_CPUS", "Chunks", "Head"]


class Plan(NamedTuple):
    """How the rows and the classes are taken in pieces, and what products are taken of.

    Attributes:
        logits, rows: where the caller does not choose the size of a chunk, it has at most so many logits, but at least
            so many rows.
        block: how many entries of the weights or the logits are taken at a time; 0 for all.
        half: whether products are taken of half types where the arguments are. Otherwise in float32.
    """

    logits: int
    rows: int
    block: int
    half: bool


# A CPU multiplies half types in float32 anyway, so that the cotangents of the logits need not be rounded to them. Few
# entries stay in its cache, and their exponentials, which XLA does not compute in place, need no second array of a
# chunk's size.
ON_CPUS = Plan(logits=2**23, rows=256, block=5 * 2**16, half=False)
# Each chunk reads and writes the gradient of the weights once. On an H100, 8192 bfloat16 rows of 4096 features and
# 131,072 classes take 100 ms by 256 rows, 48 by 1024, 44 by 2048, 43 by 4096 and 42 by 8192, with 2.4, 2.6, 2.9, 4.5
# and 6.5 GB.
ON_ACCELERATORS = Plan(logits=2**27, rows=2048, block=0, half=True)


class Head:
    """The affine map, the losses of its logits, and their backward pass, for some of the rows."""

    def __init__(self, w, b, dtype, classes_first, precision, plan):
        self.plan = plan
        self.w, self.b, self.dtype = w.astype(dtype), b, dtype
        self.classes_first, self.precision = classes_first, precision
        self.classes = w.shape[0 if classes_first else 1]

    def logits(self, x):
        z = dot(x, self.w, ((x.ndim - 1,), (1 if self.classes_first else 0,)), self.precision)
        return z if self.b is None else z + self.b.astype(z.dtype)

    def totals(self):
        """Zeros to which the gradients of w and b are added. They are made from w and b, so that under shard_map they
        vary over the same axes of the mesh."""
        return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=sum_dtype(self.dtype)), (self.w, self.b))

    def losses(self, z, index, wrong, label_smoothing):
        """The losses of these rows, and their statistics."""

        def by_blocks(z, index, m):
            def add(total, first, size):
                return total + sum_of_others(_part(z, first, size, -1), index, m, first)

            return self._fold(add, jnp.zeros_like(m), z)

        return class_losses(z, index, wrong, label_smoothing, by_blocks if self._block(z) else sum_of_others)

    def backward(self, totals, x, z, index, statistics, dy, label_smoothing):
        """The totals with the gradients of these rows added, and dx; ``dy`` is the cotangent of the rows' losses."""
        axis = 0 if self.classes_first else 1
        rows = tuple(range(x.ndim - 1))
        like_x, like_w = (jax.typeof(a).sharding if is_explicit(a) else None for a in (x, self.w))

        def add(carry, first, size):
            (dw, db), dx = carry
            of_block = (None, None) if first is None else (first, self.classes)
            g = logits_gradient(_part(z, first, size, -1), index, statistics, dy, label_smoothing, *of_block)
            if db is not None:
                db = _add(db, like(jnp.sum(g, axis=rows), jax.typeof(_part(db, first, size, 0))), first, 0)
            g = g.astype(self.dtype)
            w = _part(self.w, first, size, axis)
            dx = dx + dot(g, w, ((g.ndim - 1,), (axis,)), self.precision, like_x)
            pair = (g, x) if self.classes_first else (x, g)
            dw = _add(dw, dot(*pair, (rows, rows), self.precision, like_w), first, axis)
            return (dw, db), dx

        return self._fold(add, (totals, jnp.zeros_like(x, dtype=sum_dtype(self.dtype))), z)

    def _block(self, z):
        """How many classes are taken at a time; 0 if all of them are."""
        if not self.plan.block or is_explicit(z):
            return 0
        size = max(self.plan.block // max(self.w.size // self.classes, math.prod(z.shape[:-1])) // 128, 1) * 128
        return size if 2 * size <= self.classes else 0

    def _fold(self, add, carry, z):
        """The last carry of ``add(carry, first class, how many)`` over blocks of classes, or ``add(carry, None, None)``
        if all classes are taken at a time."""
        size = self._block(z)
        if not size:
            return add(carry, None, None)
        firsts = jnp.arange(self.classes // size) * size
        carry, _ = lax.scan(lambda carry, first: (add(carry, first, size), None), carry, firsts)
        rest = self.classes % size
        return add(carry, self.classes - rest, rest) if rest else carry


def _part(array, first, size, axis):
    """So many entries along an axis from the first one on, or all of them."""
    return array if first is None else lax.dynamic_slice_in_dim(array, first, size, axis)


def _add(total, part, first, axis):
    """The total with ``part`` added to its entries from the first one on, or to all of them."""
    if first is None:
        return total + part
    old = _part(total, first, part.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(total, old + part, first, axis)


class Chunks:
    """Rows, taken in n chunks of one size. A chunk has every n-th row, so that rows sharded over devices stay on their
    device."""

    def __init__(self, x, classes, chunk, plan):
        self.lead, self.whole = x.shape[:-1], is_explicit(x)
        self.rows = math.prod(self.lead)
        size = chunk or max(plan.rows, plan.logits // classes)
        self.n = -(-self.rows // size)
        if isinstance(self.rows, int):
            self.n = max(self.n, 1)
            size = -(-self.rows // self.n)
        self.size = size

    def split(self, array):
        rest = array.shape[len(self.lead) :]
        array = jnp.pad(array.reshape(self.rows, *rest), [(0, self.n * self.size - self.rows), *[(0, 0) for _ in rest]])
        return jnp.swapaxes(array.reshape(self.size, self.n, *rest), 0, 1)

    def join(self, array):
        rest = array.shape[2:]
        array = jnp.swapaxes(array, 0, 1).reshape(self.n * self.size, *rest)
        return array[: self.rows].reshape(*self.lead, *rest)

    def scan(self, step, carry, arrays):
        """``step(carry, arrays) -> (carry, outputs)`` over the chunks of the arrays."""
        if self.whole:
            return step(carry, arrays)
        carry, outputs = lax.scan(step, carry, jax.tree.map(self.split, arrays))
        return carry, jax.tree.map(self.join, outputs)
