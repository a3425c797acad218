r"""Attention in blocks of queries, forward and backward, by a plan: for :mod:`dlfn.ops.transformer.attention`.

Queries are (..., kv_heads, group, queries, dim), keys and values (..., kv_heads, keys, dim), and scores, bias and mask
(..., kv_heads, group, queries, keys), where a group is the query heads of one key head.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.ops.support.compiled import capped
from dlfn.ops.support.dtypes import sum_dtype
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = ["ON_ACCELERATORS", "ON_CPUS", "backward", "common_dtype", "forward", "join_heads", "scale_of", "split_heads"]


class Plan(NamedTuple):
    """How attention is cut into pieces, and what its products are taken of.

    Attributes:
        rows: the queries of a block.
        loops: under a causal mask the blocks are taken in at most so many loops. More of them skip more of what the
            mask hides, and take longer to compile.
        steps: the least number of blocks in a loop. The steps of a loop share their memory.
        written_out: up to so many blocks that see the same keys are written out, without a loop.
        half: whether products are taken of bfloat16 where the arguments are, and summed in float32. Then probabilities
            and their cotangents are rounded to it. Otherwise, and in float16, whose range may be too small for
            cotangents, the arguments are cast to float32.
    """

    rows: int
    loops: int
    steps: int
    written_out: int
    half: bool


# XLA on CPU unrolls a loop of one step, whose memory is then not shared. It multiplies half types in float32 anyway.
ON_CPUS = Plan(rows=128, loops=8, steps=2, written_out=1, half=False)
# Measured on an H100, causal, forward + backward, milliseconds for blocks of 512 and of 1024 queries, for all at once:
# 2.6, 3.1, 3.1 at T = 1024 (16 × 12 heads of 64); 5.6, 6.2, 7.7 at 2048 (8 × 16 of 64); 11.2, 10.9, 15.3 at 4096
# (4 × 16 of 128). A loop adds what its steps take to launch.
ON_ACCELERATORS = Plan(rows=512, loops=8, steps=1, written_out=8, half=True)


def forward(q, k, v, bias, mask, *, causal, scale, block, precision, plan):
    """y, and for each row the largest score and the sum of the exponentials."""
    setting = _Setting(q, k, v, bias, mask, causal, scale, block, precision, plan)
    wide = setting.wide
    zeros = jnp.zeros_like(jnp.sum(setting.q, axis=-1, keepdims=True), wide)  # a sum has q's sharding, even for dim 0
    carry = jnp.broadcast_to(zeros, (*zeros.shape[:-1], v.shape[-1])), zeros, zeros
    for group, scores, _, v_seen in setting.blocks():
        step = functools.partial(_forward_step, scores=scores, v=v_seen, dot=setting.dot)
        carry = _loop(step, carry, group, plan)
    y, top, total = carry
    return join_heads(y).astype(common_dtype(q, k, v, bias)), top, _relative(total)


def backward(q, k, v, bias, mask, y, top, total, dy, *, causal, scale, block, precision, plan):
    """Cotangents of q, k, v and the bias (None for none)."""
    del y
    total = _absolute(total)
    setting = _Setting(q, k, v, bias, mask, causal, scale, block, precision, plan)
    qs, ks, vs, biases, wide = setting.q, setting.k, setting.v, setting.bias, setting.wide
    dy = _where(top < jnp.inf, split_heads(dy.astype(qs.dtype), k.shape[-2]))
    rows = dict(q=qs, dy=dy, top=top, total=total)
    dq, dk, dv = (jnp.zeros_like(x, wide) for x in (qs, ks[..., :0, :], vs[..., :0, :]))
    dbias = [] if biases is None else [jnp.zeros_like(_first(biases, 0))]
    grows = biases is not None and biases.shape[-1] != 1
    for group, scores, k_seen, v_seen in setting.blocks():
        step = functools.partial(_backward_step, scores=scores, k=k_seen, v=v_seen, dot=setting.dot, **rows)
        seen = k_seen.shape[-2]
        dbias = [_grown(d, seen, -1) if grows else d for d in dbias]
        carry = [dq, _grown(dk, seen, -2), _grown(dv, seen, -2), *dbias]
        dq, dk, dv, *dbias = _loop(step, carry, group, plan)
    if setting.scaled_after is not None:
        dk = dk * scale_of(scale, q, wide)
    return (
        like(join_heads(dq) * scale_of(scale, q, wide), jax.typeof(q)),
        like(_swap(dk), jax.typeof(k)),
        like(_swap(dv), jax.typeof(v)),
        like(dbias[0].reshape(bias.shape), jax.typeof(bias)) if dbias else None,
    )


# A row's probabilities are exp(s - top) / total, and forms differ in what of a row's scale is in top and what in total:
# all of it may be in top, with a total of 1. So that a derivative by one form serves with values of another, the
# tangent of the total is relative to it outside of the forms.


@jax.custom_jvp
def _relative(total):
    """The total; its tangent becomes that of the logarithm."""
    return total


@jax.custom_jvp
def _absolute(total):
    """The total, whose tangent was that of the logarithm."""
    return total


_relative.defjvp(lambda totals, tangents: (*totals, tangents[0] / totals[0]))
_absolute.defjvp(lambda totals, tangents: (*totals, tangents[0] * totals[0]))


class _Setting:
    """The arrays in the layout of the computation and the dtype of its products, and how to take it in blocks.

    Queries that see no key, and keys and values that no query sees, are replaced by 0: multiplying them by a
    probability of 0 would leave a nan as it is.
    """

    def __init__(self, q, k, v, bias, mask, causal, scale, block, precision, plan):
        kv_heads = k.shape[-2]
        common = common_dtype(q, k, v, bias)
        self.wide = sum_dtype(common)
        # The bias may be wider than the others, and then the products are too.
        dtype = common if plan.half and common == jnp.bfloat16 else self.wide
        self.causal, self.precision, self.plan = causal, precision, plan
        self.rows = block or plan.rows
        # A half type would round q times the scale, which float32 does no worse than the product.
        self.scaled_after = scale_of(scale, q, self.wide) if dtype != self.wide else None
        q, k, v = (x.astype(dtype) for x in (q, k, v))
        self.bias = None if bias is None else _by_group(bias.astype(self.wide), kv_heads)
        self.mask = mask = None if mask is None else _by_group(mask, kv_heads)
        q = q * scale_of(scale, q, dtype) if self.scaled_after is None else q
        q, k, v = split_heads(q, kv_heads), _swap(k), _swap(v)
        if mask is not None or (causal and q.shape[-2] > k.shape[-2]):
            seen = jnp.ones((1, 1, 1, 1), bool) if mask is None else mask
            if causal:
                queries, keys = q.shape[-2], k.shape[-2]
                row, key = (lax.broadcasted_iota(jnp.int32, (queries, keys), axis) for axis in (0, 1))
                seen = seen & (key <= row + (keys - queries))
            q = _where(jnp.any(seen, axis=-1, keepdims=True), q)
            k, v = (_where(jnp.any(seen, axis=(-3, -2))[..., None], x) for x in (k, v))
        self.q, self.k, self.v = q, k, v

    def blocks(self):
        """For each group of steps: its rows, the function that computes their scores, and the keys and values they
        see."""
        queries, keys = self.q.shape[-2], self.k.shape[-2]
        for group, seen in _groups(queries, keys, self.rows, self.causal, self.plan):
            k_seen, v_seen = self.k[..., :seen, :], self.v[..., :seen, :]
            scores = functools.partial(
                self._scores,
                k=k_seen,
                bias=_first(self.bias, seen),
                mask=_first(self.mask, seen),
                last=keys - queries if self.causal else None,
            )
            yield group, scores, k_seen, v_seen

    def _scores(self, start, rows, *, k, bias, mask, last):
        """S for ``rows`` rows of q from ``start`` on, -inf where masked. With ``last``, which is for a causal mask,
        query i sees the keys up to i + ``last``."""
        s = self.dot(_rows(self.q, start, rows), k, _DIM)
        s = s if self.scaled_after is None else s * self.scaled_after
        s = s if bias is None else s + _rows(bias, start, rows)
        if last is not None:
            row, key = (lax.broadcasted_iota(jnp.int32, s.shape[-2:], axis) for axis in (0, 1))
            s = jnp.where(key <= row + (start + last), s, -jnp.inf)
        s = s if mask is None else jnp.where(_rows(mask, start, rows), s, -jnp.inf)
        return capped(s)

    def dot(self, a, b, over):
        """Contracts an axis of a with one of b, which are ``over``; the leading axes up to kv_heads are a batch. The
        first factor may be wider than the products' dtype, and is rounded to it."""
        a, b = (x.astype(self.q.dtype) for x in (a, b))
        if over == _QUERIES:
            # Group and queries as one axis: to contract over two axes, XLA on CPU would transpose a.
            a, b = (x.reshape(*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1]) for x in (a, b))
        batch = tuple(range(b.ndim - 2))
        axes = (over[0] % a.ndim,), (over[1] % b.ndim,)
        return lax.dot_general(
            a, b, (axes, (batch, batch)), precision=self.precision, preferred_element_type=self.wide
        )  # fmt: skip


def _forward_step(carry, start, rows, *, scores, v, dot):
    y, top, total = carry
    s = scores(start, rows)
    m = lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True, initial=-jnp.inf))
    m = jnp.where(m == -jnp.inf, jnp.inf, m)
    e = jnp.exp(s - m)
    t = jnp.sum(e, axis=-1, keepdims=True)
    t = jnp.where(t == 0, jnp.ones_like(t), t)
    return _put(y, dot(e, v, _FIRST) / t, start), _put(top, m, start), _put(total, t, start)


def _backward_step(carry, start, rows, *, scores, q, k, v, dy, top, total, dot):
    dq, dk, dv, *dbias = carry
    q, dy, top, total = (_rows(x, start, rows) for x in (q, dy, top, total))
    # e is P times the total of its row. Not e is divided by it but what e is multiplied with, dy and the sum below, as
    # these have fewer entries. In a half type dy must stay as it is, and e is divided.
    e = jnp.exp(scores(start, rows) - top)
    if dy.dtype == e.dtype:
        dy = dy / total
    else:
        e, total = e / total, jnp.ones_like(total)
    dp = dot(dy, v, _DIM)
    ds = e * (dp - _products(e, dp) / total)
    if dbias:
        old = _rows(dbias[0], start, rows)
        dbias = [_put(dbias[0], old + in_shape_of(ds, old.shape), start)]
    dk, dv = dk + dot(ds, q, _QUERIES), dv + dot(e, dy, _QUERIES)
    return [_put(dq, dot(ds, k, _FIRST), start), dk, dv, *dbias]


def _groups(queries, keys, block, causal, plan) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Groups of steps that see the same keys: (first row, rows per step, number of steps), and how many they see."""
    steps, rest = divmod(queries, min(block, queries) or 1)
    rows = (queries - rest) // (steps or 1)
    size = max(plan.steps, math.ceil(steps / plan.loops)) if causal else max(steps, 1)
    groups = [(step * rows, rows, min(size, steps - step)) for step in range(0, steps, size)]
    if rest:
        groups.append((steps * rows, rest, 1))
    for start, rows, steps in groups:
        # At least one key, which the mask then hides, as there is no maximum over no keys.
        yield (start, rows, steps), min(keys, max(1, start + rows * steps + keys - queries)) if causal else keys


def _loop(step: Callable[[Any, Any, int], Any], carry: Any, group: tuple[int, int, int], plan: Plan) -> Any:
    """``carry = step(carry, first row, rows)`` for each step of a group."""
    start, rows, steps = group
    if steps <= plan.written_out:
        for i in range(steps):
            carry = step(carry, start + i * rows, rows)
        return carry
    starts = start + rows * jnp.arange(steps, dtype=jnp.int32)
    return lax.scan(lambda carry, start: (step(carry, start, rows), None), carry, starts)[0]


def common_dtype(q, k, v, bias):
    dtype = jnp.result_type(q, k, v)
    if bias is None:
        return dtype
    # The bias may be wider than the others on purpose, as ALiBi's is, whose distances a half type would round.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(dtype, bias)


def scale_of(scale, q, dtype):
    return dtype.type(1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def _where(seen, x):
    """x, with 0 where it is not seen."""
    return jnp.where(seen, x, jnp.zeros_like(x))


def split_heads(x, kv_heads):
    *lead, rows, heads, dim = x.shape
    return jnp.moveaxis(x.reshape(*lead, rows, kv_heads, heads // kv_heads, dim), -4, -2)


def join_heads(x):
    x = jnp.moveaxis(x, -2, -4)
    return x.reshape(*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1])


def _swap(x):
    """(..., keys, kv_heads, dim) to and from (..., kv_heads, keys, dim)."""
    return jnp.swapaxes(x, -3, -2)


def _by_group(x, kv_heads):
    """A bias or mask with its axis of heads split into kv_heads and group."""
    *lead, heads, queries, keys = (*(1,) * (3 - x.ndim), *x.shape)
    split = (1, 1) if heads == 1 else (kv_heads, heads // kv_heads)
    return x.reshape(*lead, *split, queries, keys)


def _rows(x, start, rows):
    """``rows`` rows from ``start`` on, of queries or of what broadcasts to the scores."""
    return x if x.shape[-2] == 1 else lax.dynamic_slice_in_dim(x, start, rows, axis=-2)


def _put(x, rows, start):
    return rows if rows.shape == x.shape else lax.dynamic_update_slice_in_dim(x, rows, start, axis=-2)


def _first(x, keys) -> Any:
    """The first ``keys`` columns of what broadcasts to the scores; None for None."""
    return x if x is None or x.shape[-1] == 1 else x[..., :keys]


def _grown(x, keys, axis):
    """x with zeros after its last key, for ``keys`` in all."""
    more = [(0, 0, 0)] * x.ndim
    more[axis] = (0, keys - x.shape[axis], 0)
    return lax.pad(x, x.dtype.type(0), more)


_DIM, _FIRST, _QUERIES = (-1, -1), (-1, -2), (-2, -2)


def _products(a, b):
    """The sum of a * b over the last axis. Axes of size 1 are taken out first: with them XLA on CPU takes up to
    thirty times as long."""
    ones = tuple(axis for axis, size in enumerate(a.shape[:-1]) if size == 1)
    sums = jnp.sum(jnp.squeeze(a, ones) * jnp.squeeze(b, ones), axis=-1)
    return jnp.expand_dims(sums, (*ones, a.ndim - 1))
