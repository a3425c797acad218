r"""The contrastive loss of pairs of embeddings."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import describe, require_float, require_positive, require_same_shape
from dlfn.ops.support.compiled import peak
from dlfn.ops.support.dtypes import sum_dtype
from dlfn.ops.support.op import Op
from dlfn.ops.support.platforms import ByPlatform
from dlfn.ops.support.sharding import like

__all__ = ["info_nce"]


@Op
def info_nce(
    queries: Float[ArrayLike, "*batch n features"],
    keys: Float[ArrayLike, "*batch n features"],
    temperature: Float[ArrayLike, ""],
    *,
    symmetric: bool = False,
    reduction: Reduction = "mean",
    precision: lax.PrecisionLike = None,
) -> Float[Array, ""] | Float[Array, "*batch n"]:
    r"""InfoNCE: each of N queries is to find its own key among those of all, :math:`L_i = -\log
    \operatorname{softmax}_j(S_{ij})_i` with the similarities :math:`S_{ij} = q_i \cdot k_j / \tau`.

    With :math:`G = \partial L / \partial S`, which is softmax minus the identity in every row,

    .. math::
        \frac{\partial L}{\partial q} = \frac1\tau G k, \qquad
        \frac{\partial L}{\partial k} = \frac1\tau G^\top q, \qquad
        \frac{\partial L}{\partial \tau} = -\frac1\tau \sum_{ij} G_{ij} (S_{ij} - S_{ii}).

    Since the rows of G sum to 0, the last sum may be taken over differences, so that no large terms cancel. With
    ``symmetric`` (CLIP) the keys look for their queries as well, and the loss is the mean of both directions. The
    residuals are the arguments and S.

    For cosine similarities pass vectors of unit length.

    Args:
        queries: (..., N, features).
        keys: of the shape of the queries; the i-th key is that of the i-th query.
        temperature: :math:`\tau`, a positive scalar, which may be learned.
        symmetric: whether the loss is of both directions.
        reduction: "mean" over the pairs, "sum" or "none".
        precision: of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        A scalar, or with "none" (..., N), in the common dtype of queries and keys.

    Raises:
        InputError: on different shapes, a temperature that is not a scalar or known not to be positive, integers, an
            unknown reduction, and a mean over nothing.

    Source: van den Oord, Li & Vinyals 2018, *Representation Learning with Contrastive Predictive Coding*; symmetric:
    Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*.

    >>> import jax, jax.numpy as jnp
    >>> queries = keys = jnp.eye(3)
    >>> print(f"{info_nce(queries, keys, 1.0):.4f} {info_nce(queries, keys, 0.1):.3e}")
    0.5514 9.080e-05
    >>> print(f"{jax.grad(info_nce, 2)(queries, keys, 0.1):.3e}")
    9.079e-03
    """
    queries, keys, temperature = map(jnp.asarray, (queries, keys, temperature))
    similarities = jnp.matmul(queries, jnp.swapaxes(keys, -1, -2), precision=precision) / temperature
    losses = -jnp.diagonal(jax.nn.log_softmax(similarities, axis=-1), axis1=-2, axis2=-1)
    if symmetric:
        others = -jnp.diagonal(jax.nn.log_softmax(similarities, axis=-2), axis1=-2, axis2=-1)
        losses = (losses + others) / 2
    return reduce(losses, reduction)


@info_nce.def_forward
def _info_nce_forward(queries, keys, temperature, *, symmetric, reduction, precision):
    dtype = jnp.result_type(queries, keys)
    tau = temperature.astype(sum_dtype(dtype))
    similarities = _PRODUCT(queries, jnp.swapaxes(keys, -1, -2), dtype=dtype, precision=precision) / tau
    similarities = lax.clamp(-_half(tau.dtype), similarities, _half(tau.dtype))
    own = jnp.diagonal(similarities, axis1=-2, axis2=-1)
    found = [_losses(similarities, own, axis) for axis in _axes(symmetric)]
    losses = jnp.mean(jnp.stack([losses for losses, *_ in found]), axis=0)
    rows = [(m, others, inverse) for _, m, others, inverse in found]
    return reduce(losses, reduction).astype(dtype), (queries, keys, temperature, similarities, own, rows)


@info_nce.def_backward
def _info_nce_backward(residuals, dy, *, symmetric, reduction, precision):
    queries, keys, temperature, similarities, own, rows = residuals
    dtype = jnp.result_type(queries, keys)
    tau = temperature.astype(sum_dtype(dtype))
    dy = jnp.broadcast_to(weight_of_each(dy, reduction, own.shape, tau.dtype), own.shape) / len(rows)
    g, dtau = jnp.zeros_like(similarities), jnp.zeros_like(tau)
    for axis, (m, others, inverse) in zip(_axes(symmetric), rows):
        per_row = dy * inverse
        e = _exp_of_others(similarities, m, axis) * jnp.expand_dims(per_row, axis)
        part = jnp.where(_diagonal(similarities), jnp.expand_dims(-others * per_row, axis), e)
        g, dtau = g + part, dtau - jnp.sum(part * (similarities - jnp.expand_dims(own, axis))) / tau
    dq = _PRODUCT(g, keys, dtype=dtype, precision=precision) / tau
    dk = _PRODUCT(jnp.swapaxes(g, -1, -2), queries, dtype=dtype, precision=precision) / tau
    kinds = jax.tree.map(jax.typeof, (queries, keys, temperature))
    return like(dq, kinds[0]), like(dk, kinds[1]), like(dtau, kinds[2])


@info_nce.def_check
def _info_nce_check(queries, keys, temperature, *, symmetric, reduction):
    for name, value in (("queries", queries), ("keys", keys), ("temperature", temperature)):
        require_float("info_nce", name, value)
    if queries.ndim < 2 or 0 in queries.shape[-2:]:
        raise InputError(f"info_nce: queries is {describe(queries)}, and must be (..., N, features), neither of them 0")
    require_same_shape("info_nce", "queries", queries, "keys", keys)
    if temperature.ndim:
        raise InputError(f"info_nce: temperature is {describe(temperature)}, and must be a scalar")
    require_positive("info_nce", "temperature", temperature)
    if not isinstance(symmetric, bool):
        raise InputError(f"info_nce: symmetric is {symmetric!r}, and must be True or False")
    check_reduction("info_nce", reduction, queries.shape[:-1])


def _wide_product(a, b, *, dtype, precision):
    return jnp.matmul(a.astype(sum_dtype(dtype)), b.astype(sum_dtype(dtype)), precision=precision)


def _half_product(a, b, *, dtype, precision):
    a, b = a.astype(dtype), b.astype(dtype)
    return jnp.matmul(a, b, precision=precision, preferred_element_type=sum_dtype(dtype))


# In ``dtype`` or, where that is a half type, in float32, but for factors of the half type where these multiply faster.
_PRODUCT = ByPlatform(_wide_product, accelerator=_half_product)


def _axes(symmetric):
    """The axes along which softmax is taken: that of the keys, and for both directions that of the queries."""
    return (-1, -2) if symmetric else (-1,)


def _diagonal(similarities):
    """Which entries are those of a query and its own key."""
    n = jnp.arange(similarities.shape[-1])
    return n[:, None] == n


def _half(dtype):
    """Half the largest number. Similarities are cut to this size, so that even differences of two that overflow are
    finite."""
    return jnp.finfo(dtype).max / 2


def _losses(similarities, own, axis):
    """The losses of one direction, and three numbers for each: the largest similarity m, the sum of exp(S - m) over all
    pairs but the own one, and 1 / the sum over all."""
    m = peak(similarities, axis)
    others = jnp.sum(_exp_of_others(similarities, m, axis), axis=axis)
    total = others + jnp.exp(own - m)
    behind = jnp.where(m - own < _half(m.dtype), m - own, jnp.inf)
    losses = jnp.where(own == m, jnp.log1p(others), behind + jnp.log(total))
    return losses, m, others, 1 / total


def _exp_of_others(similarities, m, axis):
    """exp(S - m), for m the largest similarity, and 0 for a query and its own key."""
    e = jnp.exp(similarities - jnp.expand_dims(m, axis))
    return jnp.where(_diagonal(similarities), jnp.zeros_like(e), e)
