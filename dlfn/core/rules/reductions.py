"""Reductions and cumulative operations."""

import jax.numpy as jnp
from jax import lax

from dlfn.core.rules.table import rule, zero_derivative

zero_derivative("reduce_and", "reduce_or", "reduce_xor")


def _spread(values, x, axes):
    """``values`` with the reduced axes back, broadcast to ``x``."""
    return jnp.broadcast_to(jnp.expand_dims(values, axes), x.shape)


@rule("reduce_sum")
def _reduce_sum(g, y, x, *, axes, **_):
    return _spread(g, x, axes)


@rule("reduce_max", "reduce_min")
def _reduce_extremum(g, y, x, *, axes, **_):
    """Ties share the cotangent equally."""
    chosen = (x == _spread(y, x, axes)).astype(g.dtype)
    return chosen * _spread(g / jnp.sum(chosen, axes, dtype=g.dtype), x, axes)


@rule("reduce_prod")
def _reduce_prod(g, y, x, *, axes, **_):
    """The product of the others, from the products before and after: dividing by x would fail at zeros."""
    kept = [d for d in range(x.ndim) if d not in axes]
    flat = lax.transpose(x, (*kept, *axes)).reshape(*(x.shape[d] for d in kept), -1)
    axis = flat.ndim - 1
    one = jnp.ones_like(flat[..., :1])
    before = lax.cumprod(jnp.concatenate([one, flat[..., :-1]], axis), axis)
    after = lax.cumprod(jnp.concatenate([flat[..., 1:], one], axis), axis, reverse=True)
    others = (before * after).reshape([x.shape[d] for d in (*kept, *axes)])
    inverse = [(*kept, *axes).index(d) for d in range(x.ndim)]
    return _spread(g, x, axes) * lax.transpose(others, inverse)


@rule("cumsum")
def _cumsum(g, y, x, *, axis, reverse):
    return lax.cumsum(g, axis, not reverse)


def _forwards(axis, reverse, *arrays):
    """Moves the cumulated axis to the front, running forwards; its own inverse but for the axis."""
    moved = [jnp.moveaxis(a, axis, 0) for a in arrays]
    return [a[::-1] for a in moved] if reverse else moved


def _back(values, axis, reverse):
    return jnp.moveaxis(values[::-1] if reverse else values, 0, axis)


def _later_sum(g, factor):
    r"""The recurrence :math:`s_i = g_i + f_{i+1} s_{i+1}` that collects all later outputs' cotangents."""

    def step(s, inputs):
        g, f = inputs
        s = g + f * s
        return s, s

    shifted = jnp.concatenate([factor[1:], jnp.zeros_like(factor[:1])])
    return lax.scan(step, jnp.zeros_like(g[0]), (g, shifted), reverse=True)[1]


@rule("cumprod")
def _cumprod(g, y, x, *, axis, reverse):
    if x.shape[axis] == 0:
        return g
    g, y, x = _forwards(axis, reverse, g, y, x)
    before = jnp.concatenate([jnp.ones_like(y[:1]), y[:-1]])
    return _back(before * _later_sum(g, x), axis, reverse)


@rule("cumlogsumexp")
def _cumlogsumexp(g, y, x, *, axis, reverse):
    """Each output is a softmax over its inputs; the weights decay by exp(yᵢ − yᵢ₊₁), never above 1."""
    if x.shape[axis] == 0:
        return g
    g, y, x = _forwards(axis, reverse, g, y, x)
    decay = jnp.concatenate([jnp.ones_like(y[:1]), jnp.exp(y[:-1] - y[1:])])
    return _back(jnp.exp(x - y) * _later_sum(g, decay), axis, reverse)


@rule("cummax", "cummin")
def _cumulative_extremum(g, y, x, *, axis, reverse):
    """Every output's cotangent goes to the latest input that equals it."""
    if x.shape[axis] == 0:
        return g
    g, y, x = _forwards(axis, reverse, g, y, x)
    position = lax.broadcasted_iota(jnp.int32, x.shape, 0)
    source = lax.cummax(jnp.where(x == y, position, 0), 0)
    others = [lax.broadcasted_iota(jnp.int32, x.shape, d) for d in range(1, x.ndim)]
    return _back(jnp.zeros_like(x).at[(source, *others)].add(g), axis, reverse)
