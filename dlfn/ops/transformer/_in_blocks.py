r"""Attention in blocks of queries, forward and backward, by a plan: for :mod:`dlfn.ops.transformer.attention`."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.ops.support.compiled import capped
from dlfn.ops.support.dtypes import sum_dtype
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like
from dlfn.ops.transformer._dropping import kept
from dlfn.ops.transformer._layout import (
    by_group,
    common_dtype,
    first_keys,
    grown,
    join_heads,
    put_rows,
    rows_of,
    scale_of,
    split_heads,
    swapped,
    where_seen,
)
from dlfn.ops.transformer._views import groups_of, loop

__all__ = ["backward", "forward"]


def forward(q, k, v, bias, mask, sinks, segments, key_segments, seed, *, plan, **settings):
    """y, and for each row the largest score and the sum of the exponentials."""
    setting = _Setting(q, k, v, bias, mask, sinks, segments, key_segments, seed, plan, **settings)
    wide = setting.wide
    zeros = jnp.zeros_like(jnp.sum(setting.q, axis=-1, keepdims=True), wide)  # a sum has q's sharding, even for dim 0
    carry = jnp.broadcast_to(zeros, (*zeros.shape[:-1], v.shape[-1])), zeros, zeros
    for group, scores, view in setting.blocks():
        step = functools.partial(_forward_step, setting, scores=scores, v=view.of(setting.v, -2), view=view)
        carry = loop(step, carry, group, plan)
    y, top, total = carry
    return join_heads(y).astype(common_dtype(q, k, v, bias)), top, _relative(total)


def backward(q, k, v, bias, mask, sinks, segments, key_segments, seed, y, top, total, dy, *, scale, plan, **settings):
    """Cotangents of q, k, v, the bias and the sinks (None for none)."""
    del y
    total = _absolute(total)
    setting = _Setting(q, k, v, bias, mask, sinks, segments, key_segments, seed, plan, scale=scale, **settings)
    qs, ks, vs, biases, wide = setting.q, setting.k, setting.v, setting.bias, setting.wide
    if seed is not None:  # what is kept is divided by keep_prob, in dP and in dV alike
        dy = dy.astype(wide) / setting.keep_prob
    dy = where_seen(top < jnp.inf, split_heads(dy.astype(qs.dtype), k.shape[-2]))
    rows = dict(q=qs, dy=dy, top=top, total=total)
    dq, dk, dv = (jnp.zeros_like(x, wide) for x in (qs, ks[..., :0, :], vs[..., :0, :]))
    dbias = None if biases is None else jnp.zeros_like(first_keys(biases, 0))
    dsinks = None if setting.sinks is None else jnp.zeros_like(setting.sinks)
    grows = biases is not None and biases.shape[-1] != 1
    for group, scores, view in setting.blocks():
        seen = {"k": view.of(ks, -2), "v": view.of(vs, -2), "view": view}
        step = functools.partial(_backward_step, setting, scores=scores, **seen, **rows)
        dk, dv = grown(dk, view.seen, -2), grown(dv, view.seen, -2)
        dbias = grown(dbias, view.seen, -1) if grows else dbias
        dq, dk, dv, dbias, dsinks = loop(step, (dq, dk, dv, dbias, dsinks), group, plan)
    if setting.scaled_after is not None:
        dk = dk * scale_of(scale, q, wide)
    return (
        like(join_heads(dq) * scale_of(scale, q, wide), jax.typeof(q)),
        like(swapped(dk), jax.typeof(k)),
        like(swapped(dv), jax.typeof(v)),
        None if dbias is None else like(dbias.reshape(bias.shape), jax.typeof(bias)),
        None if dsinks is None else like(dsinks.reshape(sinks.shape), jax.typeof(sinks)),
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

    def __init__(
        self, q, k, v, bias, mask, sinks, segments, key_segments, seed, plan,
        *, causal, window, soft_cap, scale, block, precision, keep_prob,
    ):  # fmt: skip
        kv_heads = k.shape[-2]
        self.seed, self.keep_prob = seed, keep_prob
        common = common_dtype(q, k, v, bias)
        self.wide = sum_dtype(common)
        # The bias may be wider than the others, and then the products are too.
        dtype = common if plan.half and common == jnp.bfloat16 else self.wide
        self.causal, self.window, self.soft_cap, self.precision, self.plan = causal, window, soft_cap, precision, plan
        self.rows = block or plan.rows
        if window is not None:
            # A block of as many rows as the window has is multiplied with twice the keys that each of them sees.
            self.rows = block or min(plan.rows, max(_LEAST_ROWS, window // 4))
        # A half type would round q times the scale, which float32 does no worse than the product.
        self.scaled_after = scale_of(scale, q, self.wide) if dtype != self.wide else None
        q, k, v = (x.astype(dtype) for x in (q, k, v))
        self.bias = None if bias is None else by_group(bias.astype(self.wide), kv_heads)
        self.mask = mask = None if mask is None else by_group(mask, kv_heads)
        # One of each head, beside the axes of kv_heads and group.
        by_head = (kv_heads, q.shape[-2] // kv_heads, 1, 1)
        self.sinks = None if sinks is None else capped(sinks.astype(self.wide)).reshape(by_head)
        # As columns and as rows, beside the axes of kv_heads and group.
        self.segments = None if segments is None else segments[..., None, None, :, None]
        self.key_segments = None if segments is None else key_segments[..., None, None, None, :]
        q = q * scale_of(scale, q, dtype) if self.scaled_after is None else q
        q, k, v = split_heads(q, kv_heads), swapped(k), swapped(v)
        self.last = k.shape[-2] - q.shape[-2]
        if mask is not None or segments is not None:
            at = (lax.broadcasted_iota(jnp.int32, (q.shape[-2], k.shape[-2]), axis) for axis in (0, 1))
            seen = self._visible(*at, self.segments, self.key_segments, mask)
            q = where_seen(jnp.any(seen, axis=-1, keepdims=True), q)
            k, v = (where_seen(jnp.any(seen, axis=(-3, -2))[..., None], x) for x in (k, v))
        elif window is not None or (causal and self.last < 0):
            # The same, without pairs of queries and keys.
            row, key = jnp.arange(q.shape[-2])[:, None], jnp.arange(k.shape[-2])[:, None]
            reach = k.shape[-2] if window is None else window
            q = where_seen(row + self.last >= (0 if causal else 1 - reach), q)
            k, v = (where_seen(key > self.last - reach, x) for x in (k, v))
        self.q, self.k, self.v = q, k, v

    def _visible(self, row, key, segments, key_segments, mask):
        """Whether the query of a row sees a key, for numbers of both and what else decides; None where all do."""
        conditions = [] if mask is None else [mask]
        if self.causal:
            conditions.append(key <= row + self.last)
        if self.window is not None:
            conditions.append(key > row + (self.last - self.window))
            if not self.causal:
                conditions.append(key < row + (self.last + self.window))
        if segments is not None:
            conditions.append(segments == key_segments)
        return functools.reduce(jnp.logical_and, conditions) if conditions else None

    def blocks(self):
        """For each group of steps: its rows, the function that computes their scores, and which keys they see."""
        queries, keys = self.q.shape[-2], self.k.shape[-2]
        around = None
        if self.window is not None:
            around = (self.last - self.window + 1, (self.window - 1) * (1 if self.causal else 2))
        for group, view in groups_of(queries, keys, self.rows, self.causal, around, self.plan):
            seen = dict(k=view.of(self.k, -2), bias=view.of(self.bias, -1), mask=view.of(self.mask, -1))
            segments = view.of(self.key_segments, -1)
            yield group, functools.partial(self._scores, **seen, key_segments=segments, view=view), view

    def _scores(self, start, rows, *, k, bias, mask, key_segments, view):
        """S for ``rows`` rows of q from ``start`` on, -inf where masked, and its derivative in αQKᵀ, None for 1."""
        s, slope = self.dot(rows_of(self.q, start, rows), view.at(k, start, -2), _DIM), None
        s = s if self.scaled_after is None else s * self.scaled_after
        if self.soft_cap is not None:
            # 1 - tanh² without the difference. Where only one of the two is used, XLA computes no other.
            e = jnp.exp(jnp.where(s < 0, s, -s) * (2 / self.soft_cap))  # the derivative of jnp.abs at 0 would be 0
            slope = 4 * e / ((1 + e) * (1 + e))
            s = self.soft_cap * jnp.tanh(s / self.soft_cap)
        s = s if bias is None else s + rows_of(view.at(bias, start, -1), start, rows)
        row, key = (lax.broadcasted_iota(jnp.int32, s.shape[-2:], axis) for axis in (0, 1))
        mask = None if mask is None else rows_of(view.at(mask, start, -1), start, rows)
        segments = None if self.segments is None else rows_of(self.segments, start, rows)
        key_segments = None if segments is None else view.at(key_segments, start, -1)
        visible = self._visible(row + start, key + view.first(start), segments, key_segments, mask)
        return capped(s if visible is None else jnp.where(visible, s, -jnp.inf)), slope

    def dropped(self, x, start, view):
        """x, of the shape of the scores of the rows from ``start`` on, with 0 for what dropout drops."""
        if self.seed is None:
            return x
        return where_seen(kept(self.seed, self.keep_prob, x, self.q.shape[-2], start, view.first(start)), x)

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


def _forward_step(setting, carry, start, rows, *, scores, v, view):
    y, top, total = carry
    s, _ = scores(start, rows)
    m = lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True, initial=-jnp.inf))
    m = m if setting.sinks is None else jnp.maximum(m, lax.stop_gradient(setting.sinks))
    m = jnp.where(m == -jnp.inf, jnp.inf, m)
    e = jnp.exp(s - m)
    t = jnp.sum(e, axis=-1, keepdims=True)
    t = t if setting.sinks is None else t + jnp.exp(setting.sinks - m)
    t = jnp.where(t == 0, jnp.ones_like(t), t)
    part = setting.dot(setting.dropped(e, start, view), view.at(v, start, -2), _FIRST)
    y = put_rows(y, part / (t if setting.seed is None else t * setting.keep_prob), start)
    return y, put_rows(top, m, start), put_rows(total, t, start)


def _backward_step(setting, carry, start, rows, *, scores, q, k, v, view, dy, top, total):
    dq, dk, dv, dbias, dsinks = carry
    q, dy, top, total = (rows_of(x, start, rows) for x in (q, dy, top, total))
    s, slope = scores(start, rows)
    # e is P times the total of its row. Not e is divided by it but what e is multiplied with, dy and the sum below, as
    # these have fewer entries. In a half type dy must stay as it is, and e is divided.
    e = jnp.exp(s - top)
    share = 0.0 if setting.sinks is None else jnp.exp(setting.sinks - top)  # of the sink
    if dy.dtype == e.dtype:
        dy = dy / total
    else:
        e, share, total = e / total, share / total, jnp.ones_like(total)
    dp = setting.dropped(setting.dot(dy, view.at(v, start, -2), _DIM), start, view)
    along = _products(e, dp) / total
    ds = e * (dp - along)
    if dbias is not None:
        old = rows_of(view.at(dbias, start, -1), start, rows)
        new = put_rows(view.at(dbias, start, -1), old + in_shape_of(ds, old.shape), start)
        dbias = view.put(dbias, new, start, -1)
    if dsinks is not None:
        dsinks = dsinks - in_shape_of(share * along, dsinks.shape)
    ds = ds if slope is None else ds * slope
    dq = put_rows(dq, setting.dot(ds, view.at(k, start, -2), _FIRST), start)
    dk = view.add(dk, setting.dot(ds, q, _QUERIES), start)
    dv = view.add(dv, setting.dot(setting.dropped(e, start, view), dy, _QUERIES), start)
    return dq, dk, dv, dbias, dsinks


_DIM, _FIRST, _QUERIES = (-1, -1), (-1, -2), (-2, -2)
# Of a block under a window: products of fewer rows take longer than what they spare.
_LEAST_ROWS = 32


def _products(a, b):
    """The sum of a * b over the last axis. Axes of size 1 are taken out first: with them XLA on CPU takes up to
    thirty times as long."""
    ones = tuple(axis for axis, size in enumerate(a.shape[:-1]) if size == 1)
    sums = jnp.sum(jnp.squeeze(a, ones) * jnp.squeeze(b, ones), axis=-1)
    return jnp.expand_dims(sums, (*ones, a.ndim - 1))
