r"""Entropies and divergences of discrete distributions given by their probabilities, and entropy from logits.

Conventions. In values :math:`0 \log 0 = 0`. The gradient in a probability is that of the formula as a function of
independent numbers, which need not stay a distribution; where a probability is 0 it is the one-sided limit, even if
that is infinite. (An infinite slope times a cotangent of 0 is nan: to leave an outcome out, leave out its probability.
In logits everything is finite.) Half types are computed in float32.

Outside of jit, probabilities that are negative or do not sum to 1 are refused: the sum may be off by the square root of
the dtype's precision, 3e-4 in float32. Inside, where values are not known, the formulas are evaluated as they stand,
nothing is clamped or normalised, and a negative probability gives nan.

``base`` is that of the logarithm: None for e, which measures in nats, 2 for bits.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core import InputError, Op
from dlfn.ops._common import (
    axes_of,
    describe,
    like,
    require_axes,
    require_distribution,
    require_float,
    require_rank,
    require_same_shape,
    upcast,
    upcast_alike,
)
from dlfn.ops._scaled import finite

__all__ = [
    "conditional_entropy", "cross_entropy", "entropy", "entropy_from_logits", "mutual_information", "relative_entropy",
]  # fmt: skip


def _per_nat(base):
    return 1.0 if base is None else 1 / math.log(base)


def _log(p):
    """log p, and 0 where p is 0, to be multiplied by it."""
    return jnp.log(jnp.where(p == 0, jnp.ones_like(p), p))


@Op
def entropy(p, *, axis=-1, base=None):
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

    Source: 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> p = jnp.array([0.5, 0.25, 0.25, 0.0])
    >>> print(entropy(p, base=2), jax.grad(entropy)(p))
    1.5 [-0.30685282  0.38629436  0.38629436         inf]
    """
    return -jnp.sum(p * jnp.log(p), axis) * _per_nat(base)


@entropy.def_check
def _entropy_check(p, *, axis, base):
    _check("entropy", {"p": p}, axis, base)


@entropy.def_forward
def _entropy_forward(p, *, axis, base):
    z = upcast(p)
    return (-jnp.sum(z * _log(z), axis) * _per_nat(base)).astype(p.dtype), p


@entropy.def_backward
def _entropy_backward(p, dy, *, axis, base):
    dy = jnp.expand_dims(upcast(dy), axes_of(axis, p.ndim)) * _per_nat(base)
    return (like(-dy * (jnp.log(upcast(p)) + 1), jax.typeof(p)),)


@Op
def entropy_from_logits(logits, *, axis=-1, base=None):
    r"""Entropy of :math:`p = \operatorname{softmax}(z)`, :math:`H = \log \sum_j e^{z_j} - \sum_j p_j z_j`.

    .. math:: \frac{\partial H}{\partial z_j} = -p_j (\log p_j + H)

    With :math:`t_j = z_j - \max z`, :math:`e_j = e^{t_j}` and :math:`a = -\sum_j p_j t_j`, the entropy is
    :math:`\log \sum_j e_j + a`, of which log1p keeps the digits where one class is nearly sure, and
    :math:`\log p_j + H = t_j + a`. A class of logit -inf counts nothing, and has gradient 0; so has a row of -inf.

    Args:
        logits: floating point, of at least one axis.
        axis: an int.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The shape of logits without the axis.

    Raises:
        InputError: on scalars, integers, an axis that logits does not have, and a base that is no logarithm's.

    Source: 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> print(entropy_from_logits(jnp.array([5.0, 5.0, -jnp.inf]), base=2))
    1.0
    >>> print(jax.grad(entropy_from_logits)(jnp.array([1.0, 0.0, -jnp.inf])))
    [-0.19661194  0.19661194  0.        ]
    """
    log_p = logits - jax.nn.logsumexp(logits, axis, keepdims=True)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis) * _per_nat(base)


@entropy_from_logits.def_check
def _entropy_from_logits_check(logits, *, axis, base):
    op = "entropy_from_logits"
    _check_arguments(op, {"logits": logits}, axis, base)
    if not isinstance(axis, int):
        raise InputError(f"{op}: axis is {axis!r}, and must be an int")


@entropy_from_logits.def_forward
def _entropy_from_logits_forward(logits, *, axis, base):
    z = upcast(logits)
    m = lax.stop_gradient(finite(jnp.max(z, axis, keepdims=True, initial=-jnp.inf)))
    t, e = _below(z, m)
    largest = e == 1
    s = jnp.sum(e, axis, keepdims=True)
    per_s = 1 / jnp.where(s == 0, jnp.ones_like(s), s)
    a = -jnp.sum(e * t, axis, keepdims=True) * per_s
    ties = jnp.sum(largest.astype(z.dtype), axis, keepdims=True)
    others = jnp.sum(jnp.where(largest, jnp.zeros_like(e), e), axis, keepdims=True) + jnp.maximum(ties - 1, 0)
    h = (jnp.log1p(others) + a) * _per_nat(base)
    return jnp.squeeze(h, axis).astype(logits.dtype), (logits, m, per_s, a)


@entropy_from_logits.def_backward
def _entropy_from_logits_backward(residuals, dy, *, axis, base):
    logits, m, per_s, a = residuals
    t, e = _below(upcast(logits), m)
    dy = jnp.expand_dims(upcast(dy), axis) * _per_nat(base)
    return ((-dy * per_s * (e * (t + a))).astype(logits.dtype),)


def _below(z, m):
    """t, finite, and its exponential, which is 0 for logits of -inf whatever m."""
    t = finite(finite(z) - m)
    return t, jnp.where(z == -jnp.inf, jnp.zeros_like(z), jnp.exp(t))


@Op
def cross_entropy(p, q, *, axis=-1, base=None):
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
    return -jnp.sum(p * jnp.log(q), axis) * _per_nat(base)


@cross_entropy.def_check
def _cross_entropy_check(p, q, *, axis, base):
    _check("cross_entropy", {"p": p, "q": q}, axis, base)


@cross_entropy.def_forward
def _cross_entropy_forward(p, q, *, axis, base):
    u, v = upcast_alike(p, q)
    none = u == 0
    terms = jnp.where(none, jnp.zeros_like(u), u * jnp.log(jnp.where(none, jnp.ones_like(v), v)))
    return (-jnp.sum(terms, axis) * _per_nat(base)).astype(jnp.result_type(p, q)), (p, q)


@cross_entropy.def_backward
def _cross_entropy_backward(residuals, dy, *, axis, base):
    p, q = residuals
    u, v = upcast_alike(p, q)
    dy = jnp.expand_dims(dy.astype(u.dtype), axes_of(axis, p.ndim)) * _per_nat(base)
    return like(-dy * jnp.log(v), jax.typeof(p)), like(-dy * _ratio(u, v), jax.typeof(q))


def _ratio(p, q):
    """p / q, and 0 where both are 0."""
    return p / jnp.where((p == 0) & (q == 0), jnp.ones_like(q), q)


@Op
def relative_entropy(p, q, *, axis=-1, reduction="sum", base=None):
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

    Source: 004 information theory.

    >>> import jax, jax.numpy as jnp
    >>> p, q = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    >>> print(relative_entropy(p, q, base=2), *jax.grad(relative_entropy, (0, 1))(p, q))
    1.0 [1.6931472      -inf] [-2. -0.]
    """
    terms = p * jnp.log(p / q) * _per_nat(base)
    return jnp.sum(terms, axis) if reduction == "sum" else terms


@relative_entropy.def_check
def _relative_entropy_check(p, q, *, axis, reduction, base):
    if reduction not in ("sum", "none"):
        raise InputError(f"relative_entropy: reduction is {reduction!r}, and must be 'sum' or 'none'")
    if reduction == "sum":
        _check("relative_entropy", {"p": p, "q": q}, axis, base)
    else:
        _check_arguments("relative_entropy", {"p": p, "q": q}, axis, base)


@relative_entropy.def_forward
def _relative_entropy_forward(p, q, *, axis, reduction, base):
    u, v = upcast_alike(p, q)
    terms = jnp.where(u == 0, jnp.zeros_like(u), u * _log_ratio(u, v)) * _per_nat(base)
    y = jnp.sum(terms, axis) if reduction == "sum" else terms
    return y.astype(jnp.result_type(p, q)), (p, q)


@relative_entropy.def_backward
def _relative_entropy_backward(residuals, dy, *, axis, reduction, base):
    p, q = residuals
    u, v = upcast_alike(p, q)
    dy = dy.astype(u.dtype) * _per_nat(base)
    dy = jnp.expand_dims(dy, axes_of(axis, p.ndim)) if reduction == "sum" else dy
    both = (u == 0) & (v == 0)
    dp = jnp.where(both, jnp.zeros_like(u), _log_ratio(u, v) + 1)
    return like(dy * dp, jax.typeof(p)), like(-dy * _ratio(u, v), jax.typeof(q))


def _log_ratio(p, q):
    """log(p / q), from the difference of p and q, which is exact where they are near. 0 where both are 0."""
    both = (p == 0) & (q == 0)
    more = p >= q
    # Selected: the derivatives of maximum and minimum are halved at a tie.
    high, low = jnp.where(more, p, q), jnp.where(both, jnp.ones_like(p), jnp.where(more, q, p))
    size = jnp.log1p(jnp.where(both, jnp.zeros_like(p), high - low) / low)
    return jnp.where(more, size, -size)


@Op
def conditional_entropy(joint, *, base=None):
    r"""Entropy of X given Y from their joint table, :math:`H(X | Y) = -\sum_{xy} p_{xy} \log p_{x|y}`.

    With :math:`p_{x|y} = p_{xy} / p_y` and :math:`p_y = \sum_x p_{xy}`,

    .. math:: \frac{\partial H}{\partial p_{xy}} = -\log p_{x|y}, \qquad +\infty \text{ at } p_{xy} = 0,

    as the slopes through :math:`p_y` and the logarithm's 1 cancel. For a y of probability 0 the slopes are 0: alone in
    its column, :math:`p_{x|y}` is 1.

    Args:
        joint: (..., X, Y), the probabilities of pairs; for :math:`H(Y | X)` exchange the last two axes.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The leading shape of joint.

    Raises:
        InputError: on fewer than two axes, integers, a base that is no logarithm's, and, outside of jit, probabilities
            that are negative or do not sum to 1.

    Source: 004 information theory.

    >>> import jax.numpy as jnp
    >>> print(conditional_entropy(jnp.array([[0.25, 0.0], [0.25, 0.5]]), base=2))
    0.5
    """
    p_y = jnp.sum(joint, -2, keepdims=True)
    return -jnp.sum(joint * jnp.log(joint / p_y), (-2, -1)) * _per_nat(base)


@conditional_entropy.def_check
def _conditional_entropy_check(joint, *, base):
    _check_joint("conditional_entropy", joint, base)


@conditional_entropy.def_forward
def _conditional_entropy_forward(joint, *, base):
    p = upcast(joint)
    p_y = jnp.sum(p, -2, keepdims=True)
    terms = p * _log(_share(p, p_y))
    return (-jnp.sum(terms, (-2, -1)) * _per_nat(base)).astype(joint.dtype), (joint, p_y)


@conditional_entropy.def_backward
def _conditional_entropy_backward(residuals, dy, *, base):
    joint, p_y = residuals
    dy = upcast(dy)[..., None, None] * _per_nat(base)
    return (like(-dy * jnp.log(_share(upcast(joint), p_y)), jax.typeof(joint)),)


def _share(p, total):
    """p / total, and its limit 1 where the total is 0, which a single p would be all of."""
    none = total == 0
    return jnp.where(none, jnp.ones_like(p), p / jnp.where(none, jnp.ones_like(total), total))


@Op
def mutual_information(joint, *, base=None):
    r"""Mutual information from the joint table of X and Y,

    .. math::
        I(X; Y) = \sum_{xy} p_{xy} \log \frac{p_{xy}}{p_x p_y} = H(X) - H(X|Y) = H(Y) - H(Y|X), \qquad
        \frac{\partial I}{\partial p_{xy}} = \log \frac{p_{xy}}{p_x p_y} - 1

    with :math:`p_x = \sum_y p_{xy}` and :math:`p_y = \sum_x p_{xy}`, whose own slopes are -1 each. At
    :math:`p_{xy} = 0` the slope is :math:`-\infty`; in a row of zeros it is :math:`-\log p_y - 1` (there
    :math:`p_{xy} = p_x`), in a column of zeros :math:`-\log p_x - 1`, and in both :math:`+\infty`.

    Args:
        joint: (..., X, Y), the probabilities of pairs.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The leading shape of joint.

    Raises:
        InputError: on fewer than two axes, integers, a base that is no logarithm's, and, outside of jit, probabilities
            that are negative or do not sum to 1.

    Source: 004 information theory.

    >>> import jax.numpy as jnp
    >>> print(mutual_information(jnp.array([[0.5, 0.0], [0.0, 0.5]]), base=2))  # Y tells X, one bit
    1.0
    """
    p_x, p_y = jnp.sum(joint, -1, keepdims=True), jnp.sum(joint, -2, keepdims=True)
    return jnp.sum(joint * jnp.log(joint / (p_x * p_y)), (-2, -1)) * _per_nat(base)


@mutual_information.def_check
def _mutual_information_check(joint, *, base):
    _check_joint("mutual_information", joint, base)


@mutual_information.def_forward
def _mutual_information_forward(joint, *, base):
    p = upcast(joint)
    p_x, p_y = jnp.sum(p, -1, keepdims=True), jnp.sum(p, -2, keepdims=True)
    terms = jnp.where(p == 0, jnp.zeros_like(p), p * _log_ratio(_share(p, p_x), p_y))
    return (jnp.sum(terms, (-2, -1)) * _per_nat(base)).astype(joint.dtype), (joint, p_x, p_y)


@mutual_information.def_backward
def _mutual_information_backward(residuals, dy, *, base):
    joint, p_x, p_y = residuals
    dy = upcast(dy)[..., None, None] * _per_nat(base)
    p = upcast(joint)
    # In a column of zeros p and p_y are one and the same, and cancel.
    empty = jnp.broadcast_to(p_y == 0, p.shape)
    ratio = _log_ratio(jnp.where(empty, jnp.ones_like(p), _share(p, p_x)), jnp.where(empty, p_x, p_y))
    return (like(dy * (ratio - 1), jax.typeof(joint)),)


def _check(op, distributions, axis, base):
    _check_arguments(op, distributions, axis, base)
    for name, p in distributions.items():
        require_distribution(op, name, p, axes_of(axis, p.ndim))


def _check_arguments(op, arguments, axis, base):
    for name, array in arguments.items():
        require_float(op, name, array)
        require_rank(op, name, array, "an axis of outcomes")
    (name, first), *others = arguments.items()
    for other_name, other in others:
        require_same_shape(op, name, first, other_name, other)
    require_axes(op, first, axis)
    if base is not None and not (isinstance(base, int | float) and 1 < base < math.inf):
        raise InputError(f"{op}: base is {base!r}, and must be a number above 1, or None for nats")


def _check_joint(op, joint, base):
    require_float(op, "joint", joint)
    if joint.ndim < 2:
        raise InputError(f"{op}: joint is {describe(joint)}, and must have two axes (..., X, Y)")
    _check(op, {"joint": joint}, (-2, -1), base)
