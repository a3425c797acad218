r"""Products and convolutions.

A convolution is a sum over window positions of products, so each cotangent is again a convolution: of the output's
cotangent with the flipped kernel for the input, of the input with the output's cotangent for the kernel. Strides of one
become dilations of the other. Output position t reads ``t · stride + k · rhs_dilation − pad_low`` in the spread-out
input, from which all paddings below follow.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from dlfn.core.rules.table import NoRule, rule


@rule("dot_general")
def _dot_general(g, y, a, b, *, dimension_numbers, precision, preferred_element_type, **_):
    """dA = g Bᵀ, dB = Aᵀ g: contract the cotangent's axes that came from the other factor."""
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    free_a = [d for d in range(a.ndim) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(b.ndim) if d not in (*contract_b, *batch_b)]
    n_batch, n_a = len(batch_a), len(free_a)
    batch_g = list(range(n_batch))
    rows, columns = list(range(n_batch, n_batch + n_a)), list(range(n_batch + n_a, g.ndim))

    def cotangent(x, other, g_axes, other_free, other_batch, x_layout):
        dims = ((g_axes, other_free), (batch_g, other_batch))
        # The result of a sum over a sharded axis can be sharded in several ways: a cotangent is sharded as its input.
        dx = lax.dot_general(g, other, dims, precision, preferred_element_type, out_sharding=_sharding(x, x_layout))
        return lax.transpose(dx, [x_layout.index(d) for d in range(x.ndim)]).astype(x.dtype)

    # dot_general leaves the contracted axes of the other factor in that factor's order.
    layout_a = [*batch_a, *free_a, *(contract_a[list(contract_b).index(d)] for d in sorted(contract_b))]
    layout_b = [*batch_b, *free_b, *(contract_b[list(contract_a).index(d)] for d in sorted(contract_a))]
    da = cotangent(a, b, columns, free_b, list(batch_b), layout_a)
    db = cotangent(b, a, rows, free_a, list(batch_a), layout_b)
    return da, db


def _sharding(x, layout):
    """The sharding of x with its axes in another order, where shardings are part of types."""
    sharding = jax.typeof(x).sharding
    if jax.sharding.AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return NamedSharding(sharding.mesh, PartitionSpec(*(sharding.spec[d] for d in layout)))


@rule("conv_general_dilated")
def _conv(g, y, lhs, rhs, *, dimension_numbers, feature_group_count, batch_group_count, **params):
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    wide = max(
        lhs.dtype, g.dtype, key=lambda dtype: dtype.itemsize
    )  # the output may be in a wider type than the factors
    x, k = lhs.transpose(lhs_spec).astype(wide), rhs.transpose(rhs_spec).astype(wide)
    g = g.transpose(out_spec).astype(wide)
    groups = feature_group_count
    if batch_group_count > 1:  # groups along the batch are groups along the features of a smaller batch
        groups, n = batch_group_count, x.shape[0] // batch_group_count
        x = x.reshape(groups, n, *x.shape[1:]).swapaxes(0, 1).reshape(n, -1, *x.shape[2:])
    dx, dk = _grouped_conv_cotangents(g, x, k, groups, **params)
    if batch_group_count > 1:
        channels = lhs.shape[lhs_spec[1]]
        dx = dx.reshape(-1, groups, channels, *dx.shape[2:]).swapaxes(0, 1).reshape(-1, channels, *dx.shape[2:])
    return dx.transpose(_inverse(lhs_spec)).astype(lhs.dtype), dk.transpose(_inverse(rhs_spec)).astype(rhs.dtype)


def _inverse(permutation):
    return [list(permutation).index(d) for d in range(len(permutation))]


def _grouped_conv_cotangents(
    g, x, k, groups, *, window_strides, padding, lhs_dilation, rhs_dilation, precision, preferred_element_type, **_
):
    """For x (N, G·I, space), k (G·O, I, window) and g (N, G·O, positions)."""
    n, inputs = x.shape[0], x.shape[1] // groups
    outputs, window = k.shape[0] // groups, k.shape[2:]
    spread_x = [spread(*sizes) for sizes in zip(x.shape[2:], lhs_dilation, strict=True)]
    spread_k = [spread(*sizes) for sizes in zip(window, rhs_dilation, strict=True)]
    spread_g = [spread(*sizes) for sizes in zip(g.shape[2:], window_strides, strict=True)]
    low = [pad for pad, _ in padding]
    options = dict(precision=precision, preferred_element_type=preferred_element_type, feature_group_count=groups)

    flipped = jnp.flip(k, range(2, k.ndim)).reshape(groups, outputs, inputs, *window)
    flipped = flipped.swapaxes(1, 2).reshape(groups * inputs, outputs, *window)
    pads = [(sk - 1 - p, sx + p - sg) for sx, sk, sg, p in zip(spread_x, spread_k, spread_g, low, strict=True)]
    dx = lax.conv_general_dilated(g, flipped, lhs_dilation, pads, window_strides, rhs_dilation, **options)

    samples = x.reshape(n, groups, inputs, *x.shape[2:])
    samples = jnp.moveaxis(samples, 0, 2).swapaxes(0, 1).reshape(inputs, groups * n, *x.shape[2:])
    pads = [(p, sg + sk - 1 - sx - p) for sx, sk, sg, p in zip(spread_x, spread_k, spread_g, low, strict=True)]
    dk = lax.conv_general_dilated(
        samples, g.swapaxes(0, 1), rhs_dilation, pads, lhs_dilation, window_strides, **options
    )
    return dx, dk.swapaxes(0, 1)


def spread(size, stride):
    """How far ``size`` entries reach, one for each ``stride``."""
    return (size - 1) * stride + 1 if size else 0


@rule("ragged_dot_general")
def _ragged_dot_general(g, y, a, b, sizes, *, ragged_dot_dimension_numbers, **params):
    r"""Consecutive rows of A, in groups of the given sizes, times a matrix of their own: where row i is of group p,
    :math:`\bar a_i = g_i B_p^T` and :math:`\bar B_p = \sum_{i \in p} a_i^T g_i`."""
    numbers = ragged_dot_dimension_numbers
    (contract_a, contract_b), (batch_a, batch_b) = numbers.dot_dimension_numbers
    ragged, groups = numbers.lhs_ragged_dimensions[0], list(numbers.rhs_group_dimensions)
    free_a = [d for d in range(a.ndim) if d not in (*contract_a, *batch_a)]
    free_b = [d for d in range(b.ndim) if d not in (*contract_b, *batch_b, *groups)]
    if ragged not in free_a or params.pop("group_offset", None) is not None:
        reason = NoRule("where the ragged axis is contracted or a batch, or the groups have an offset")
        return reason, reason, None
    n_batch, n_rows = len(batch_a), len(free_a)
    batch_g, rows = list(range(n_batch)), list(range(n_batch, n_batch + n_rows))
    columns = list(range(n_batch + n_rows, g.ndim))

    def cotangent(x, left, right, dims, ragged, groups, layout):
        numbers = lax.RaggedDotDimensionNumbers(dims, [ragged], groups)
        dx = lax.ragged_dot_general(left, right, sizes, numbers, **params)
        return lax.transpose(dx, [layout.index(d) for d in range(x.ndim)]).astype(x.dtype)

    layout_a = [*batch_a, *free_a, *(contract_a[list(contract_b).index(d)] for d in sorted(contract_b))]
    layout_b = [*groups, *batch_b, *(contract_b[list(contract_a).index(d)] for d in sorted(contract_a)), *free_b]
    row = n_batch + free_a.index(ragged)
    da = cotangent(a, g, b, ((columns, free_b), (batch_g, batch_b)), row, groups, layout_a)
    db = cotangent(b, a, g, ((free_a, rows), (batch_a, batch_g)), ragged, [], layout_b)
    return da, db, None
