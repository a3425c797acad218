r"""Entropies and divergences of discrete distributions given by their probabilities, and entropy from logits.

Conventions. In values :math:`0 \log 0 = 0`. The gradient in a probability is that of the formula as a function of
independent numbers, which need not stay a distribution; where a probability is 0 it is the one-sided limit, even if
that is infinite. (An infinite slope times a cotangent of 0 is nan: to leave an outcome out, leave out its probability.
Gradients in logits are finite.) Half types are computed in float32.

Outside of jit, probabilities that are negative or do not sum to 1 are refused: the sum may be off by the square root of
the dtype's precision, 3e-4 in float32. Inside, where values are not known, the formulas are evaluated as they stand,
nothing is clamped or normalised, and the logarithm of a negative probability is nan.

``base`` is that of the logarithm: None for e, which measures in nats, 2 for bits.

Which of these functions, and of their neighbours, to take:

=====================  ===============================================================================================
cross_entropy          p and q are probabilities
softmax_cross_entropy  a loss: q is given by logits, p by class ids or probabilities
relative_entropy       p and q are probabilities: cross_entropy less the entropy of p, 0 where they are equal
kl_divergence          the same for two arrays of logits, or of logarithms of probabilities
normal_kl              the same for normal distributions, given by means and logarithms of variances
=====================  ===============================================================================================
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.probability._information import check_arguments, check_distributions, per_nat
from dlfn.ops.support.arguments import axes_of, require_axis
from dlfn.ops.support.compiled import apart, peak
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.limits import log_ratio, ratio, x_log_y
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import finite
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["cross_entropy", "entropy", "entropy_from_logits", "relative_entropy"]


@Op
def entropy(
    p: Float[ArrayLike, "..."], *, axis: int | tuple[int, ...] = -1, base: float | None = None
) -> Float[Array, "..."]:
    r"""Entropy of distributions, :math:`H(p) = -\sum_j p_j \log p_j`.

    .. math:: \frac{\partial H}{\partial p_j} = -(\log p_j + 1), \qquad +\infty \text{ at } p_j = 0.

    Args:
        p: probabilities along axis.
        axis: an int, or a tuple of them, as of a joint table.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The shape of p without the axes.

    Raises:
        InputError: on scalars, integers, an axis that p does not have, a base that is no logarithm's, and, outside of
            jit, probabilities that are negative or do not sum to 1.

    Source: Shannon 1948, *A Mathematical Theory of Communication*; 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> p = jnp.array([0.5, 0.25, 0.25, 0.0])
    >>> print(entropy(p, base=2), jax.grad(entropy)(p))
    1.5 [-0.30685282  0.38629436  0.38629436         inf]
    """
    p = jnp.asarray(p)
    return -jnp.sum(p * jnp.log(p), axis) * per_nat(base)


@entropy.def_forward
def _entropy_forward(p, *, axis, base):
    z = upcast(p)
    return (-jnp.sum(x_log_y(z, z), axis) * per_nat(base)).astype(p.dtype), p


@entropy.def_backward
def _entropy_backward(p, dy, *, axis, base):
    dy = jnp.expand_dims(upcast(dy), axes_of(axis, p.ndim)) * per_nat(base)
    return (like(-dy * (jnp.log(upcast(p)) + 1), jax.typeof(p)),)


@entropy.def_check
def _entropy_check(p, *, axis, base):
    check_distributions("entropy", {"p": p}, axis, base)


@Op
def entropy_from_logits(
    logits: Float[ArrayLike, "..."], *, axis: int = -1, base: float | None = None
) -> Float[Array, "..."]:
    r"""Entropy of :math:`p = \operatorname{softmax}(z)`, :math:`H = \log \sum_j e^{z_j} - \sum_j p_j z_j`.

    .. math:: \frac{\partial H}{\partial z_j} = -p_j (\log p_j + H)

    With :math:`t_j = z_j - \max z`, :math:`e_j = e^{t_j}` and :math:`a = -\sum_j p_j t_j`, the entropy is
    :math:`\log \sum_j e_j + a`, where log1p keeps the digits if one class is nearly sure, and
    :math:`\log p_j + H = t_j + a`. A class with logit -inf adds nothing and has gradient 0, as a row of -inf has.

    Args:
        logits: floating point, of at least one axis.
        axis: an int.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The shape of logits without the axis.

    Raises:
        InputError: on scalars, integers, an axis that logits does not have or of no logits, and a base that is no
            logarithm's.

    Source: Shannon 1948, *A Mathematical Theory of Communication*; 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> print(entropy_from_logits(jnp.array([5.0, 5.0, -jnp.inf]), base=2))
    1.0
    >>> print(jax.grad(entropy_from_logits)(jnp.array([1.0, 0.0, -jnp.inf])))
    [-0.19661194  0.19661194  0.        ]
    """
    logits = jnp.asarray(logits)
    log_p = logits - jax.nn.logsumexp(logits, axis, keepdims=True)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis) * per_nat(base)


@entropy_from_logits.def_forward
def _entropy_from_logits_forward(logits, *, axis, base):
    z = upcast(logits)
    m = finite(jnp.expand_dims(peak(z, axis), axis))
    t, e = _below(z, m, axis)
    largest = e == 1
    s = jnp.sum(e, axis, keepdims=True)
    per_s = 1 / jnp.where(s == 0, jnp.ones_like(s), s)
    a = -jnp.sum(e * t, axis, keepdims=True) * per_s
    ties = jnp.sum(largest.astype(z.dtype), axis, keepdims=True)
    others = jnp.sum(jnp.where(largest, jnp.zeros_like(e), e), axis, keepdims=True) + jnp.maximum(ties - 1, 0)
    h = (jnp.log1p(others) + a) * per_nat(base)
    return jnp.squeeze(h, axis).astype(logits.dtype), (logits, m, per_s, a)


@entropy_from_logits.def_backward
def _entropy_from_logits_backward(residuals, dy, *, axis, base):
    logits, m, per_s, a = residuals
    t, e = _below(upcast(logits), m, axis)
    dy = jnp.expand_dims(upcast(dy), axis) * per_nat(base)
    return ((-dy * per_s * (e * (t + a))).astype(logits.dtype),)


@entropy_from_logits.def_check
def _entropy_from_logits_check(logits, *, axis, base):
    op = "entropy_from_logits"
    check_arguments(op, {"logits": logits}, axis, base)
    require_axis(op, logits, axis)


@Op
def cross_entropy(
    p: Float[ArrayLike, "*shape"],
    q: Float[ArrayLike, "*shape"],
    *,
    axis: int | tuple[int, ...] = -1,
    base: float | None = None,
) -> Float[Array, "..."]:
    r"""Cross-entropy of two distributions, :math:`H(p, q) = -\sum_j p_j \log q_j`, both given by probabilities.

    .. math::
        \frac{\partial H}{\partial p_j} = -\log q_j, \qquad \frac{\partial H}{\partial q_j} = -\frac{p_j}{q_j}

    At :math:`q_j = 0` the slope in p is :math:`+\infty`, and in q it is :math:`-\infty`, or 0 where p is 0 as well.
    ``softmax_cross_entropy``, of a prediction's logits, has finite gradients everywhere.

    Args:
        p: probabilities along axis.
        q: likewise, of the shape of p.
        axis: an int, or a tuple of them.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The shape of p without the axes, in the common dtype of p and q; inf where p gives probability to what q does
        not.

    Raises:
        InputError: on scalars, integers, different shapes, an axis that p does not have, a base that is no logarithm's,
            and, outside of jit, probabilities that are negative or do not sum to 1.

    Source: 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.75, 0.0])
    >>> print(f"{cross_entropy(p, q):.4f}", jax.grad(cross_entropy, argnums=1)(p, q))
    0.8370 [-2.        -0.6666667 -0.       ]
    """
    return -jnp.sum(jnp.asarray(p) * jnp.log(q), axis) * per_nat(base)


@cross_entropy.def_forward
def _cross_entropy_forward(p, q, *, axis, base):
    u, v = upcast_alike(p, q)
    return (-jnp.sum(x_log_y(u, v, v >= 0), axis) * per_nat(base)).astype(jnp.result_type(p, q)), (p, q)


@cross_entropy.def_backward
def _cross_entropy_backward(residuals, dy, *, axis, base):
    p, q = residuals
    u, v = upcast_alike(p, q)
    dy = jnp.expand_dims(dy.astype(u.dtype), axes_of(axis, p.ndim)) * per_nat(base)
    return like(-dy * jnp.log(v), jax.typeof(p)), like(-dy * ratio(u, v), jax.typeof(q))


@cross_entropy.def_check
def _cross_entropy_check(p, q, *, axis, base):
    check_distributions("cross_entropy", {"p": p, "q": q}, axis, base)


@Op
def relative_entropy(
    p: Float[ArrayLike, "*shape"],
    q: Float[ArrayLike, "*shape"],
    *,
    axis: int | tuple[int, ...] = -1,
    reduction: Literal["sum", "none"] = "sum",
    base: float | None = None,
) -> Float[Array, "..."]:
    r"""Relative entropy of two distributions, :math:`\operatorname{KL}(p \| q) = \sum_j p_j \log (p_j / q_j) \ge 0`.

    .. math::
        \frac{\partial L}{\partial p_j} = \log \frac{p_j}{q_j} + 1, \qquad
        \frac{\partial L}{\partial q_j} = -\frac{p_j}{q_j}

    =================  =========  ==============  ==============
    outcome            term       slope in p      slope in q
    =================  =========  ==============  ==============
    p = 0, q > 0       0          −∞              0
    p > 0, q = 0       +∞         +∞              −∞
    p = q = 0          0          0, as there is  0
                                  no limit
    =================  =========  ==============  ==============

    Where p and q nearly agree, the logarithm comes from their difference. Of logits, ``kl_divergence`` has all digits
    of nearly equal distributions, and finite gradients everywhere.

    Args:
        p: probabilities along axis.
        q: likewise, of the shape of p.
        axis: an int, or a tuple of them.
        reduction: "sum" along axis, or "none" for the terms, which are not asked to sum to 1.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The shape of p without the axes, or with "none" that of p, in the common dtype of p and q.

    Raises:
        InputError: on scalars, integers, different shapes, an axis that p does not have, an unknown reduction, a base
            that is no logarithm's, and, outside of jit, probabilities that are negative or do not sum to 1.

    Source: Kullback & Leibler 1951, *On Information and Sufficiency*; 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> p, q = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    >>> print(relative_entropy(p, q, base=2), *jax.grad(relative_entropy, (0, 1))(p, q))
    1.0 [1.6931472      -inf] [-2. -0.]
    """
    p, q = jnp.asarray(p), jnp.asarray(q)
    terms = p * jnp.log(p / q) * per_nat(base)
    return jnp.sum(terms, axis) if reduction == "sum" else terms


@relative_entropy.def_forward
def _relative_entropy_forward(p, q, *, axis, reduction, base):
    u, v = upcast_alike(p, q)
    terms = jnp.where((u == 0) & (v >= 0), jnp.zeros_like(u), u * log_ratio(u, v)) * per_nat(base)
    y = jnp.sum(terms, axis) if reduction == "sum" else terms
    return y.astype(jnp.result_type(p, q)), (p, q)


@relative_entropy.def_backward
def _relative_entropy_backward(residuals, dy, *, axis, reduction, base):
    p, q = residuals
    u, v = upcast_alike(p, q)
    dy = dy.astype(u.dtype) * per_nat(base)
    dy = jnp.expand_dims(dy, axes_of(axis, p.ndim)) if reduction == "sum" else dy
    both = (u == 0) & (v == 0)
    dp = jnp.where(both, jnp.zeros_like(u), log_ratio(u, v) + 1)
    return like(dy * dp, jax.typeof(p)), like(-dy * ratio(u, v), jax.typeof(q))


@relative_entropy.def_check
def _relative_entropy_check(p, q, *, axis, reduction, base):
    if reduction not in ("sum", "none"):
        raise InputError(f"relative_entropy: reduction is {reduction!r}, and must be 'sum' or 'none'")
    check_distributions("relative_entropy", {"p": p, "q": q}, axis, base, whole=reduction == "sum")


def _below(z, m, axis):
    """t, cut to the finite range, and its exponential, which is 0 for a logit of -inf, whatever m is."""
    z, given = finite(z), z
    t = finite(apart(z, m, z == m, axis))
    return t, jnp.where(given == -jnp.inf, jnp.zeros_like(z), jnp.exp(t))
