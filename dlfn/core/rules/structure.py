"""Rules that move numbers about: their transposes move the cotangents back."""

import jax.numpy as jnp
from jax import lax

from dlfn.core.rules.table import NoRule, rule


@rule("squeeze", "expand_dims")
def _squeeze(g, y, x, **_):
    return g.reshape(x.shape)


@rule("reshape")
def _reshape(g, y, x, *, dimensions=None, **_):
    """With ``dimensions`` the input is transposed first, as in ``order="F"`` and in a convolution under vmap."""
    dimensions = list(dimensions or range(x.ndim))
    transposed = g.reshape([x.shape[d] for d in dimensions])
    return lax.transpose(transposed, [dimensions.index(d) for d in range(x.ndim)])


@rule("transpose")
def _transpose(g, y, x, *, permutation):
    return lax.transpose(g, [permutation.index(d) for d in range(x.ndim)])


@rule("rev")
def _rev(g, y, x, *, dimensions):
    return lax.rev(g, dimensions)


@rule("broadcast_in_dim")
def _broadcast_in_dim(g, y, x, *sizes, shape, broadcast_dimensions, **_):
    """Sum over what was repeated: new axes, and axes of length 1 that grew."""
    new = [d for d in range(g.ndim) if d not in broadcast_dimensions]
    grown = [d for d, n in zip(broadcast_dimensions, x.shape, strict=True) if n == 1 and g.shape[d] != 1]
    return (jnp.sum(g, [*new, *grown]).reshape(x.shape), *[None] * len(sizes))


@rule("slice")
def _slice(g, y, x, *, start_indices, limit_indices, strides):
    strides = strides or [1] * x.ndim
    config = [
        (start, n - start - ((size - 1) * stride + 1 if size else 0), stride - 1)
        for start, n, size, stride in zip(start_indices, x.shape, g.shape, strides, strict=True)
    ]
    return lax.pad(g, jnp.zeros((), g.dtype), config)


@rule("pad")
def _pad(g, y, x, value, *, padding_config):
    """Cut off what was padded (put back what a negative padding cut off); the padding value collects the rest."""
    uncut = lax.pad(g, jnp.zeros((), g.dtype), [(-low, -high, 0) for low, high, _ in padding_config])
    dx = lax.slice(uncut, [0] * x.ndim, uncut.shape, [inner + 1 for *_, inner in padding_config])
    return dx, jnp.sum(g) - jnp.sum(dx)


@rule("concatenate")
def _concatenate(g, y, *xs, dimension):
    sizes = [x.shape[dimension] for x in xs]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(lax.slice_in_dim(g, start, start + n, axis=dimension) for start, n in zip(starts, sizes, strict=True))


@rule("split")
def _split(gs, ys, x, *, sizes, axis):
    return lax.concatenate([jnp.zeros_like(y) if g is None else g for g, y in zip(gs, ys, strict=True)], axis)


@rule("stack")
def _stack(g, y, *xs, axis):
    return tuple(lax.index_in_dim(g, i, axis, keepdims=False) for i in range(len(xs)))


@rule("unstack")
def _unstack(gs, ys, x, *, axis):
    return jnp.stack([jnp.zeros_like(y) if g is None else g for g, y in zip(gs, ys, strict=True)], axis)


@rule("tile")
def _tile(g, y, x, *, reps):
    pairs = [n for pair in zip(reps, x.shape, strict=True) for n in pair]
    return jnp.sum(g.reshape(pairs), range(0, 2 * x.ndim, 2))


@rule("dynamic_slice")
def _dynamic_slice(g, y, x, *starts, **_):
    return (lax.dynamic_update_slice(jnp.zeros_like(x), g, starts), *[None] * len(starts))


@rule("dynamic_update_slice")
def _dynamic_update_slice(g, y, x, update, *starts):
    dx = lax.dynamic_update_slice(g, jnp.zeros_like(update), starts)
    return (dx, lax.dynamic_slice(g, starts, update.shape), *[None] * len(starts))


@rule("gather")
def _gather(g, y, x, indices, *, dimension_numbers, unique_indices, indices_are_sorted, mode, **_):
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=dimension_numbers.offset_dims,
        inserted_window_dims=dimension_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=dimension_numbers.start_index_map,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        scatter_indices_batching_dims=dimension_numbers.start_indices_batching_dims,
    )
    options = dict(unique_indices=unique_indices, indices_are_sorted=indices_are_sorted, mode=mode)
    return lax.scatter_add(jnp.zeros_like(x), indices, g, numbers, **options), None


def _gathered(values, indices, update, dimension_numbers, mode):
    """What stands in ``values`` where a scatter wrote ``update``."""
    outside = (*dimension_numbers.inserted_window_dims, *dimension_numbers.operand_batching_dims)
    window = iter([update.shape[d] for d in dimension_numbers.update_window_dims])
    numbers = lax.GatherDimensionNumbers(
        offset_dims=dimension_numbers.update_window_dims,
        collapsed_slice_dims=dimension_numbers.inserted_window_dims,
        start_index_map=dimension_numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        start_indices_batching_dims=dimension_numbers.scatter_indices_batching_dims,
    )
    sizes = [1 if d in outside else next(window) for d in range(values.ndim)]
    return lax.gather(values, indices, numbers, sizes, mode=mode, fill_value=0)


@rule("scatter-add", "scatter_add")
def _scatter_add(g, y, x, indices, update, *, dimension_numbers, mode, **_):
    return g, None, _gathered(g, indices, update, dimension_numbers, mode)


@rule("scatter-sub", "scatter_sub")
def _scatter_sub(g, y, x, indices, update, *, dimension_numbers, mode, **_):
    return g, None, -_gathered(g, indices, update, dimension_numbers, mode)


@rule("scatter-mul")
def _scatter_mul(g, y, x, indices, update, *, dimension_numbers, mode, **_):
    """An update's factor is the product of all others at its place. To divide it out of the product, zeros are counted,
    and left out: with another zero beside it the factor is zero."""
    options = dict(dimension_numbers=dimension_numbers, mode=mode)
    zero = update == 0
    product = lax.scatter_mul(x, indices, jnp.where(zero, 1, update), **options)
    count = zero.astype(jnp.int32)
    zeros = lax.scatter_add(jnp.zeros(x.shape, jnp.int32), indices, count, **options)
    alone = _gathered(zeros, indices, update, **options) == count
    others = _gathered(g * product, indices, update, **options) / jnp.where(zero, 1, update)
    return lax.scatter_mul(g, indices, update, **options), None, jnp.where(alone, others, 0)


@rule("scatter-min", "scatter-max")
def _scatter_extremum(g, y, x, indices, update, *, dimension_numbers, mode, **_):
    """What was there before and all updates that equal the extremum share the cotangent equally."""
    options = dict(dimension_numbers=dimension_numbers, mode=mode)
    won = (update == _gathered(y, indices, update, **options)).astype(g.dtype)
    kept = (x == y).astype(g.dtype)
    share = g / (kept + lax.scatter_add(jnp.zeros_like(g), indices, won, **options))
    return kept * share, None, won * _gathered(share, indices, update, **options)


@rule("scatter")
def _scatter(g, y, x, indices, update, *, dimension_numbers, mode, update_jaxpr=None, **_):
    """Overwritten entries lose their cotangent to the update that won: number the updates, see whose number stayed."""
    if update_jaxpr is not None:
        reason = NoRule("with a function; instead of x.at[i].apply(f) write x.at[i].set(f(x[i]))")
        return reason, None, reason
    number = lax.iota(jnp.int32, update.size).reshape(update.shape) + 1
    winner = lax.scatter(jnp.zeros(x.shape, jnp.int32), indices, number, dimension_numbers, mode=mode)
    won = _gathered(winner, indices, update, dimension_numbers, mode) == number
    d_update = jnp.where(won, _gathered(g, indices, update, dimension_numbers, mode), 0)
    return jnp.where(winner == 0, g, 0), None, d_update


@rule("sort")
def _sort(gs, ys, *xs, dimension, is_stable, num_keys):
    """Sorts the positions along with the values: they say where each output came from."""
    position = lax.broadcasted_iota(jnp.int32, xs[0].shape, dimension)
    source = lax.sort((*xs, position), dimension=dimension, is_stable=is_stable, num_keys=num_keys)[-1]
    back = jnp.argsort(source, axis=dimension)
    return tuple(None if g is None else jnp.take_along_axis(g, back, axis=dimension) for g in gs)


@rule("top_k")
def _top_k(gs, ys, x, *, axis, **_):
    g, _ = gs
    return jnp.put_along_axis(jnp.zeros_like(x), ys[1], g, axis=axis, inplace=False)


@rule("approx_top_k")
def _approx_top_k(gs, ys, x, *, reduction_dimension, **_):
    return _top_k(gs, ys, x, axis=reduction_dimension)
