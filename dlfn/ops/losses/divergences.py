r"""The Kullback-Leibler divergence of two distributions given by their logits."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import require_float, require_rank, require_same_shape
from dlfn.ops.support.compiled import made_anew
from dlfn.ops.support.exponential import exp_remainder
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import or_one
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["kl_divergence"]


@Op
def kl_divergence(
    logits: Float[ArrayLike, "*batch classes"],
    target_logits: Float[ArrayLike, "*batch classes"],
    *,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*batch"]:
    r"""Divergence of a prediction from a target, both given by logits along the last axis,
    :math:`\operatorname{KL}(p \,\|\, q) = \sum_j p_j \log (p_j / q_j)`.

    Here :math:`q = \operatorname{softmax}(z)` is the prediction and :math:`p = \operatorname{softmax}(z^*)` the target,
    such as a teacher's. With :math:`t_j = \log (q_j / p_j)`,

    .. math::
        \frac{\partial L}{\partial z_j} = q_j - p_j, \qquad
        \frac{\partial L}{\partial z^*_j} = -p_j (t_j + L).

    Where the two nearly agree, L is of the order of :math:`t^2` and :math:`q - p` of that of t, and the formulas above
    are differences of almost equal numbers. Hence t comes from the differences of the logits,

    .. math::
        q_j - p_j = p_j (e^{t_j} - 1), \qquad L = \sum_j p_j (e^{t_j} - 1 - t_j),

    whose terms are not negative (the sum of the :math:`p_j (e^{t_j} - 1)` is 0). Log-probabilities are logits, too.

    Args:
        logits: (..., K), of the prediction.
        target_logits: of the same shape, of the target.
        reduction: "mean" over the rows, "sum" or "none".

    Returns:
        A scalar, or with "none" one divergence per row. A class with logit -inf in both adds nothing; one with logit
        -inf in the prediction alone makes the divergence inf. Logits of +inf give the limit of large ones.

    Raises:
        InputError: on different shapes, scalars, integers, an unknown reduction, and a mean over nothing.

    Source: Kullback & Leibler 1951, *On Information and Sufficiency*; of a teacher: Hinton, Vinyals & Dean 2015,
    *Distilling the Knowledge in a Neural Network*; 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> z, target = jnp.array([[1.0, 0.0]]), jnp.array([[1.0001, 0.0]])
    >>> print(f"{kl_divergence(z, target):.3e}")
    9.834e-10
    >>> print(jax.grad(kl_divergence)(z, target))
    [[-1.9664001e-05  1.9663999e-05]]
    """
    logits, target_logits = jnp.asarray(logits), jnp.asarray(target_logits)
    log_q = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    log_p = target_logits - jax.nn.logsumexp(target_logits, axis=-1, keepdims=True)
    return reduce(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), reduction)


@kl_divergence.def_forward
def _kl_divergence_forward(logits, target_logits, *, reduction):
    z, target = upcast_alike(logits, target_logits)
    tops = _largest(z), _largest(target)
    (z, m_q), (target, m_p) = map(_settled, (z, target), tops)
    e_q, e_p = jnp.exp(z - m_q), jnp.exp(target - m_p)
    per_q, per_p = (1 / or_one(jnp.sum(e, axis=-1, keepdims=True)) for e in (e_q, e_p))
    # How much the normaliser changes from target to prediction; log1p keeps the digits of a small change.
    gap = _gap(z, target, m_q - m_p)
    change = jnp.sum(_change(e_p, e_q, gap), axis=-1, keepdims=True) * per_p
    near = jnp.abs(change) < 0.5
    change = jnp.where(near, jnp.log1p(jnp.where(near, change, jnp.zeros_like(change))), jnp.log(per_p / per_q))
    p, q, t = e_p * per_p, e_q * per_q, _gap(z, target, (m_q - m_p) + change)
    small, s, series = exp_remainder(t)
    far = (q - p) - jnp.where(p == 0, jnp.zeros_like(t), p * t)
    # Without the barrier XLA on CPU would write the terms to memory and sum them twice: by rows, and all for the mean.
    (losses,) = made_anew(jnp.sum(jnp.where(small, p * (s * s * series), far), axis=-1))
    y = reduce(losses, reduction).astype(jnp.result_type(logits, target_logits))
    return y, (logits, target_logits, (tops, per_q, per_p, (m_q - m_p) + change, losses))


@kl_divergence.def_backward
def _kl_divergence_backward(residuals, dy, *, reduction):
    logits, target_logits, (tops, per_q, per_p, offset, losses) = residuals
    (z, m_q), (target, m_p) = map(_settled, upcast_alike(logits, target_logits), tops)
    dy = jnp.broadcast_to(weight_of_each(dy, reduction, losses.shape, z.dtype), losses.shape)[..., None]
    p, q = jnp.exp(target - m_p) * per_p, jnp.exp(z - m_q) * per_q
    t = _gap(z, target, offset)
    dtarget = jnp.where(p == 0, jnp.zeros_like(p), p * (t + losses[..., None]))
    return like(dy * _change(p, q, t), jax.typeof(logits)), like(-dy * dtarget, jax.typeof(target_logits))


@kl_divergence.def_check
def _kl_divergence_check(logits, target_logits, *, reduction):
    require_float("kl_divergence", "logits", logits)
    require_float("kl_divergence", "target_logits", target_logits)
    require_rank("kl_divergence", "logits", logits, "an axis of classes")
    require_same_shape("kl_divergence", "logits", logits, "target_logits", target_logits)
    check_reduction("kl_divergence", reduction, logits.shape[:-1])


def _largest(z):
    """The largest entry of every row, a constant in derivatives; -inf for a row without entries."""
    return lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True, initial=-jnp.inf))


def _settled(z, top):
    """z, and the largest entries, as finite numbers. A row with entries of +inf is replaced by its limit: 0 in place of
    these entries, and -inf in place of all others."""
    infinite = top == jnp.inf
    settled = jnp.where(z == jnp.inf, jnp.zeros_like(z), z - jnp.where(infinite, top, jnp.zeros_like(top)))
    return settled, jnp.where(infinite, jnp.zeros_like(top), jnp.maximum(top, jnp.finfo(z.dtype).min))


def _gap(z, target, offset):
    """The difference of the logits, which is exact where they are close, less the offset.

    For a class that the target excludes, the gap may be any number that is not small, but an infinite one would make
    derivatives nan.
    """
    excluded = target == -jnp.inf
    return jnp.where(excluded, jnp.ones_like(z), (z - jnp.where(excluded, jnp.zeros_like(z), target)) - offset)


def _change(p, q, t):
    """q - p, given t = log(q / p)."""
    small, s, series = exp_remainder(t)
    return jnp.where(small, p * (s + s * s * series), q - p)
