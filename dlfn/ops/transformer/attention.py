r"""Scaled dot-product attention, :math:`\operatorname{softmax}(Q K^\top / \sqrt d) V`, in blocks of queries.

No matrix of all queries by all keys is ever held, forward or backward: the blocks are taken one after the other, and
the backward pass computes each block's probabilities again from two numbers per row. With a causal mask, the keys that
a block cannot see take no part in its products.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Key, UInt32

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float, require_int, require_key, require_number
from dlfn.ops.support.op import Op
from dlfn.ops.support.platforms import ByPlatform
from dlfn.ops.transformer import _by_cudnn, _dropping, _in_blocks, _views
from dlfn.ops.transformer._layout import scale_of

__all__ = ["attention"]


@Op
def attention(
    q: Float[ArrayLike, "*batch queries heads dim"],
    k: Float[ArrayLike, "*batch keys kv_heads dim"],
    v: Float[ArrayLike, "*batch keys kv_heads value_dim"],
    bias: Float[ArrayLike, "..."] | None = None,
    mask: Bool[ArrayLike, "..."] | None = None,
    sinks: Float[ArrayLike, " heads"] | None = None,
    segments: Integer[ArrayLike, "*#batch queries"] | None = None,
    key_segments: Integer[ArrayLike, "*#batch keys"] | None = None,
    key: Key[ArrayLike, ""] | UInt32[ArrayLike, " words"] | None = None,
    *,
    causal: bool = False,
    window: int | None = None,
    soft_cap: float | None = None,
    scale: float | None = None,
    block: int | None = None,
    precision: lax.PrecisionLike = None,
    keep_prob: float = 1.0,
) -> Float[Array, "*batch queries heads value_dim"]:
    r"""Scaled dot-product attention over any number of heads.

    For each head, with the rows of q, k and v as matrices,

    .. math::
        S = c(\alpha Q K^\top) + B, \qquad P_{ij} = \frac{e^{S_{ij}}}{e^{z} + \sum_l e^{S_{il}}}, \qquad Y = P V,

    where the sum runs over the keys l that query i sees, c is the soft cap, :math:`c(t) = C \tanh(t / C)`, or without
    one :math:`c(t) = t`, and z is the head's sink, with :math:`e^z = 0` where there is none. The backward pass is that
    of two matrix products around softmax's:

    .. math::
        \frac{\partial L}{\partial V} &= P^\top \bar Y, \qquad \bar P = \bar Y V^\top, \qquad
        \bar S_{ij} = P_{ij} \Big(\bar P_{ij} - \sum_l P_{il} \bar P_{il}\Big), \\
        \frac{\partial L}{\partial Q} &= \alpha (\bar S \odot c') K, \qquad
        \frac{\partial L}{\partial K} = \alpha (\bar S \odot c')^\top Q, \qquad
        \frac{\partial L}{\partial B} = \bar S, \\
        \frac{\partial L}{\partial z} &= -\sum_i \frac{e^z}{e^z + \sum_l e^{S_{il}}} \sum_l P_{il} \bar P_{il},
        \qquad c'(t) = 1 - \tanh^2(t / C).

    It keeps the arguments, Y, and for each row the largest entry m of S and :math:`s = \sum_l e^{S_{il} - m}`, and
    computes P again, ``block`` queries at a time. (In one number, :math:`m + \log s`, as cuDNN keeps them, the rounding
    of a large m is a relative error of P.) Memory is linear in the number of queries and of keys.

    With a ``keep_prob`` q below 1 dropout keeps each probability with probability q: with
    :math:`D_{ij} \sim \mathrm{Bernoulli}(q) / q` it is :math:`Y = (D \odot P) V`, so that in the backward pass

    .. math::
        \frac{\partial L}{\partial V} = (D \odot P)^\top \bar Y, \qquad \bar P = D \odot (\bar Y V^\top).

    D is drawn block by block from the key and each entry's place, and again in the backward pass; it does not depend on
    ``block``. What is dropped still takes its share of a row's sum, as everywhere.

    A query that sees no key, because of the mask or of a bias of -inf, gives 0 and has gradient 0. What the mask leaves
    out, a query that sees no key, and a key and its value that no query sees, does not matter, even if it holds nan.
    (A nan in a key or a value that some query sees reaches the other queries as well, as 0 times nan is nan.) A score
    of +inf takes all the weight of its row, and several share it equally.

    Args:
        q: (..., queries, heads, dim).
        k: (..., keys, kv_heads, dim), where kv_heads divides heads: each key head serves heads / kv_heads consecutive
            query heads.
        v: (..., keys, kv_heads, dim of the values).
        bias: added to S; it broadcasts to (..., heads, queries, keys) and has a gradient. None for 0.
        mask: boolean, True where a query sees a key; it broadcasts like the bias. None for True.
        sinks: (heads,), the logit of a key without a value, which takes its share of every row's weight. None for none.
        segments: (..., queries), whole numbers: a query sees the keys of its own segment alone, as where several texts
            are packed into one sequence.
        key_segments: (..., keys), those of the keys; None for ``segments``.
        key: for dropout, one key, from :func:`jax.random.key` or :func:`jax.random.PRNGKey`; not needed without.
        causal: whether query i sees the keys j <= i + keys - queries alone; so the last query sees all of them.
        window: how many keys a query sees, counted back from i + keys - queries, that included; and unless ``causal``
            as many ahead. Time and memory are then linear in the number of queries times the window.
        soft_cap: a bound C of the scores, before the bias is added; None for none.
        scale: the number α; None for :math:`1 / \sqrt{\mathrm{dim}}`.
        block: how many queries are taken at a time; None for 128 on CPUs and 512 elsewhere.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.
        keep_prob: the number q, 0 < q <= 1; 1 for no dropout.

    Returns:
        (..., queries, heads, dim of the values), in the common dtype of q, k, v and the bias. Half types are
        computed in float32, but for products on GPUs and TPUs.

    Raises:
        InputError: on arguments that are not floating point, a mask that is not boolean, shapes that do not fit, and
            dropout without a key.

    Source: Vaswani et al. 2017, *Attention Is All You Need*; in blocks: Rabe & Staats 2021, *Self-attention Does Not
    Need O(n²) Memory*; grouped queries: Ainslie et al. 2023, *GQA: Training Generalized Multi-Query Transformer Models
    from Multi-Head Checkpoints*; counters for dropout: Dao et al. 2022, *FlashAttention: Fast and Memory-Efficient
    Exact Attention with IO-Awareness*; 002 sections 8.1 and 8.3.

    >>> import jax.numpy as jnp
    >>> q, k, v = jnp.zeros((3, 1, 2)), jnp.zeros((3, 1, 2)), jnp.array([[[0.0]], [[2.0]], [[7.0]]])
    >>> print(attention(q, k, v, causal=True).ravel())
    [0. 1. 3.]
    """
    q, k, v = jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)
    groups = q.shape[-2] // k.shape[-2]
    k, v = jnp.repeat(k, groups, axis=-2), jnp.repeat(v, groups, axis=-2)
    s = jnp.einsum("...qhd,...khd->...hqk", q, k, precision=precision) * scale_of(scale, q, q.dtype)
    s = s if soft_cap is None else soft_cap * jnp.tanh(s / soft_cap)
    s = s if bias is None else s + bias
    behind = jnp.arange(s.shape[-2])[:, None] + (s.shape[-1] - s.shape[-2]) - jnp.arange(s.shape[-1])
    if causal:
        s = jnp.where(behind >= 0, s, -jnp.inf)
    if window is not None:
        s = jnp.where(jnp.abs(behind) < window, s, -jnp.inf)
    s = s if mask is None else jnp.where(mask, s, -jnp.inf)
    if segments is not None:
        of_keys = segments if key_segments is None else key_segments
        same = jnp.asarray(segments)[..., None, :, None] == jnp.asarray(of_keys)[..., None, None, :]
        s = jnp.where(same, s, -jnp.inf)
    if sinks is None:
        p = jax.nn.softmax(s, axis=-1)
    else:
        column = jnp.broadcast_to(jnp.asarray(sinks)[:, None, None], (*s.shape[:-1], 1))
        p = jax.nn.softmax(jnp.concatenate([s, column], axis=-1), axis=-1)[..., :-1]
    if keep_prob < 1:
        seed = jnp.asarray(_dropping.seed_of(key))
        p = jnp.where(_dropping.kept(seed, keep_prob, p, p.shape[-2], 0, 0), p / keep_prob, jnp.zeros_like(p))
    return jnp.einsum("...hqk,...khd->...qhd", p, v, precision=precision)


@attention.def_forward
def _attention_forward(q, k, v, bias, mask, sinks, segments, key_segments, key, **settings):
    key_segments = segments if key_segments is None else key_segments
    seed = _dropping.seed_of(key) if settings["keep_prob"] < 1 else None
    arguments = q, k, v, bias, mask, sinks, segments, key_segments, seed
    y, top, total = _FORWARD(*arguments, **settings)
    return y, (*arguments, y, top, total)


@attention.def_backward
def _attention_backward(residuals, dy, **settings):
    dq, dk, dv, dbias, dsinks = _BACKWARD(*residuals, dy, **settings)
    return dq, dk, dv, dbias, None, dsinks, None, None, None


@attention.def_check
def _attention_check(
    q, k, v, bias, mask, sinks, segments, key_segments, key, *, window, soft_cap, scale, block, keep_prob
):
    for name, value in (("q", q), ("k", k), ("v", v), ("bias", bias), ("sinks", sinks)):
        if name not in ("bias", "sinks") or value is not None:
            require_float("attention", name, value)
    for name, x, heads in (("q", q, "heads"), ("k", k, "kv_heads"), ("v", v, "kv_heads")):
        if x.ndim < 3:
            raise InputError(
                f"attention: {name} is {describe(x)}, and must be (..., time, {heads}, dim); "
                f"pass {name}[:, None] for one head"
            )
    if k.shape[:-1] != v.shape[:-1]:
        raise InputError(
            f"attention: k is {describe(k)} and v is {describe(v)}, and must have the same keys and heads: "
            "(..., keys, kv_heads, dim)"
        )
    if q.shape[:-3] != k.shape[:-3] or q.shape[-1] != k.shape[-1]:
        raise InputError(
            f"attention: q is {describe(q)} and k is {describe(k)}, and must have the same leading axes and dim: "
            "(..., time, heads, dim)"
        )
    if scale is None and q.shape[-1] == 0:
        raise InputError(f"attention: q is {describe(q)}, and 1 / sqrt(dim) has no value for dim 0; pass a scale")
    heads, kv_heads = q.shape[-2], k.shape[-2]
    if not kv_heads or heads % kv_heads:
        raise InputError(
            f"attention: q has {heads} heads and k has {kv_heads}, which must divide them; "
            "the layout is (..., time, heads, dim)"
        )
    if mask is not None and mask.dtype != bool:
        raise InputError(f"attention: mask is {describe(mask)}, and must be boolean; pass mask != 0, or a bias")
    shape = (*q.shape[:-3], heads, q.shape[-3], k.shape[-3])
    for name, x in (("bias", bias), ("mask", mask)):
        if x is not None and not _broadcasts(x.shape, shape):
            raise InputError(
                f"attention: {name} is {describe(x)}, and must broadcast to (..., heads, queries, keys), "
                f"which is {list(shape)}"
            )
    if sinks is not None and sinks.shape != (heads,):
        raise InputError(f"attention: sinks is {describe(sinks)}, and must be one number for each of the {heads} heads")
    if key_segments is not None and segments is None:
        raise InputError("attention: key_segments is given and segments is not; give those of the queries, too")
    of_keys = segments if key_segments is None else key_segments
    for name, x, times in (("segments", segments, q.shape[-3]), ("key_segments", of_keys, k.shape[-3])):
        if x is not None and not jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError(f"attention: {name} is {describe(x)}, and must be integers, each one's number of segment")
        if x is not None and (not x.ndim or x.shape[-1] != times or not _broadcasts(x.shape, (*q.shape[:-3], times))):
            hint = "; give key_segments, too" if name == "key_segments" and key_segments is None else ""
            raise InputError(
                f"attention: {name} is {describe(x)}, and must broadcast to {[*q.shape[:-3], times]}{hint}"
            )
    must_be = "a number with 0 < keep_prob <= 1: it is the probability to keep one, 1 minus the rate of other libraries"
    require_number("attention", "keep_prob", keep_prob, must_be, lambda q: 0 < q <= 1)
    if keep_prob < 1:
        require_key("attention", key)
    if window is not None:
        require_int("attention", "window", window, "a positive int, or None", lambda number: number >= 1)
    if soft_cap is not None:
        must_be = "a positive number, or None"
        require_number("attention", "soft_cap", soft_cap, must_be, lambda number: 0 < number < math.inf)
    if scale is not None:
        require_number("attention", "scale", scale, "a finite number, or None for 1 / sqrt(dim)")
    if block is not None:
        require_int("attention", "block", block, "a positive int, or None", lambda number: number >= 1)


def _broadcasts(small, full):
    return len(small) <= len(full) and all(a in (1, b) for a, b in zip(reversed(small), reversed(full)))


_PLANS = _views.ON_CPUS, _views.ON_ACCELERATORS
_FORWARD = ByPlatform.with_plans(*_PLANS, kernel=_by_cudnn.forward)(_in_blocks.forward)
_BACKWARD = ByPlatform.with_plans(*_PLANS, kernel=_by_cudnn.backward)(_in_blocks.backward)
