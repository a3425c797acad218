r"""The Kullback-Leibler divergence of two distributions given by their logits."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core import Op
from dlfn.ops._common import (
    check_reduction,
    like,
    reduce,
    require_float,
    require_rank,
    require_same_shape,
    upcast_alike,
    weight_of_each,
)

__all__ = ["kl_divergence"]

# Terms of the series of (exp(t) - 1 - t) / t² that are enough up to |t| = 1/2, by the size of the dtype.
_TERMS = {4: 8, 8: 15}


@Op
def kl_divergence(logits, target_logits, *, reduction="mean"):
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

    whose terms are not negative (the sum of the :math:`p_j (e^{t_j} - 1)` is 0). Log-probabilities are logits too.

    Args:
        logits: (..., K), of the prediction.
        target_logits: likewise of the target.
        reduction: "mean" over the rows, "sum" or "none".

    Returns:
        A scalar, or with "none" one divergence per row. A class with logit -inf in both counts nothing; in the
        prediction alone it costs inf.

    Raises:
        InputError: on different shapes, scalars, integers, an unknown reduction, and a mean over nothing.

    Source: 004 information theory; Hinton et al. 2015, *Distilling the Knowledge in a Neural Network*.

    >>> import jax, jax.numpy as jnp
    >>> z, target = jnp.array([[1.0, 0.0]]), jnp.array([[1.0001, 0.0]])
    >>> print(f"{kl_divergence(z, target):.5e}")
    9.83e-10
    >>> print(jax.grad(kl_divergence)(z, target))
    [[-1.9661194e-05  1.9661194e-05]]
    """
    log_q = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    log_p = target_logits - jax.nn.logsumexp(target_logits, axis=-1, keepdims=True)
    return reduce(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), reduction)


@kl_divergence.def_check
def _check(logits, target_logits, *, reduction):
    require_float("kl_divergence", "logits", logits)
    require_float("kl_divergence", "target_logits", target_logits)
    require_rank("kl_divergence", "logits", logits, "an axis of classes")
    require_same_shape("kl_divergence", "logits", logits, "target_logits", target_logits)
    check_reduction("kl_divergence", reduction, logits.shape[:-1])


@kl_divergence.def_forward
def _forward(logits, target_logits, *, reduction):
    z, target = upcast_alike(logits, target_logits)
    p, difference, t = _compared(z, target)
    losses = jnp.sum(_terms(p, difference, t), axis=-1)
    return reduce(losses, reduction).astype(jnp.result_type(logits, target_logits)), (logits, target_logits, losses)


@kl_divergence.def_backward
def _backward(residuals, dy, *, reduction):
    logits, target_logits, losses = residuals
    z, target = upcast_alike(logits, target_logits)
    dy = jnp.broadcast_to(weight_of_each(dy, reduction, losses.shape, z.dtype), losses.shape)[..., None]
    p, difference, t = _compared(z, target)
    dtarget = jnp.where(p == 0, jnp.zeros_like(p), p * (t + losses[..., None]))
    return like(dy * difference, jax.typeof(logits)), like(-dy * dtarget, jax.typeof(target_logits))


def _compared(z, target):
    """p, q - p, and t = log(q / p)."""
    b, m_b = _shifted(z)
    a, m_a = _shifted(target)
    e_a, e_b = jnp.exp(a), jnp.exp(b)
    per_a, per_b = (1 / _or_one(jnp.sum(e, axis=-1, keepdims=True)) for e in (e_a, e_b))
    # Differences first: that of two close logits is exact.
    gap = jnp.where((a == -jnp.inf) & (b == -jnp.inf), jnp.zeros_like(z), z - target) - (m_b - m_a)
    t = gap - jnp.log1p(jnp.sum(_difference(e_a, e_b, gap), axis=-1, keepdims=True) * per_a)
    p = e_a * per_a
    return p, _difference(p, e_b * per_b, t), t


def _shifted(z):
    """z - max z and max z, cut to the finite range."""
    z = jnp.minimum(z, jnp.finfo(z.dtype).max)
    m = lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True, initial=-jnp.inf))
    m = jnp.where(m == -jnp.inf, jnp.zeros_like(m), m)
    return z - m, m


def _or_one(s):
    return jnp.where(s == 0, jnp.ones_like(s), s)


def _difference(p, q, t):
    """q - p, given t = log(q / p)."""
    # Not of -|t|, whose derivative at 0 is 0.
    relative = jnp.expm1(jnp.where(t > 0, -t, t))
    return jnp.where(t > 0, -q * relative, p * relative)


def _terms(p, difference, t):
    """p (e^t - 1 - t), which is 0 or more."""
    small = jnp.abs(t) < 0.5
    s = jnp.where(small, t, jnp.zeros_like(t))
    series = jnp.zeros_like(t)
    for k in reversed(range(_TERMS[t.dtype.itemsize])):
        series = series * s + 1 / math.factorial(k + 2)
    far = difference - jnp.where(p == 0, jnp.zeros_like(t), p * t)
    return jnp.where(small, p * (s * s * series), far)
