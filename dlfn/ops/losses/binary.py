r"""Losses of a binary decision, from its logit or score.

All take ``reduction``: ``"mean"`` over the entries, their ``"sum"``, or ``"none"``. They compute half types in float32
and return the common dtype of their arguments.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.losses._focus import power, require_focus
from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import require_float, require_number, require_same_shape, require_values
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["binary_cross_entropy", "binary_focal_loss", "hinge"]


@Op
def binary_cross_entropy(
    logits: Float[ArrayLike, "*shape"], labels: Float[ArrayLike, "*shape"], *, reduction: Reduction = "mean"
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""Binary cross-entropy from logits, :math:`(1 - y) \log(1 + e^z) + y \log(1 + e^{-z})`.

    With :math:`\hat p = \sigma(z)` this is :math:`-y \log \hat p - (1 - y) \log(1 - \hat p)`, and

    .. math::
        \frac{\partial L}{\partial z} = (1 - y)\, \sigma(z) - y\, \sigma(-z) = \hat p - y, \qquad
        \frac{\partial L}{\partial y} = -z.

    Both :math:`\sigma(\pm z)` come from one :math:`e^{-|z|}`, and neither is 1 minus the other: the tails keep all
    digits where :math:`\hat p - y` and formulas from probabilities have none. Infinite logits have their limits.

    Args:
        logits: :math:`z`.
        labels: :math:`y`, probabilities of the same shape, in floating point.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, known labels out of range, an unknown reduction, and a mean over
            nothing.

    Source: Cox 1958, *The Regression Analysis of Binary Sequences*; 001 section 4, 002 section 13.3.

    >>> import jax, jax.numpy as jnp
    >>> logits, labels = jnp.array([17.0, -90.0]), jnp.array([0.0, 1.0])
    >>> binary_cross_entropy(logits, labels, reduction="none")
    Array([17., 90.], dtype=float32)
    >>> jax.grad(binary_cross_entropy)(logits, labels)
    Array([ 0.5, -0.5], dtype=float32)
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    softplus, softplus_of_minus = jnp.logaddexp(logits, 0.0), jnp.logaddexp(-logits, 0.0)
    return reduce((1 - labels) * softplus + labels * softplus_of_minus, reduction)


@binary_cross_entropy.def_forward
def _binary_cross_entropy_forward(logits, labels, *, reduction):
    dtype = jnp.result_type(logits, labels)
    z, y = upcast_alike(logits, labels)
    return reduce(_cross_entropy(z, y, jnp.exp(-jnp.abs(z)), _selected), reduction).astype(dtype), (logits, labels)


@binary_cross_entropy.def_backward
def _binary_cross_entropy_backward(residuals, dy, *, reduction):
    logits, labels = residuals
    z, y = upcast_alike(logits, labels)
    dy = weight_of_each(dy, reduction, z.shape, z.dtype)
    e, up, down = _shares(z)
    return like(dy * (((1 - y) * up - y * down) / (1 + e)), jax.typeof(logits)), like(-dy * z, jax.typeof(labels))


@binary_cross_entropy.def_check
def _binary_cross_entropy_check(logits, labels, *, reduction):
    _check("binary_cross_entropy", logits, labels, reduction)
    _check_probabilities("binary_cross_entropy", labels)


@Op
def binary_focal_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""Binary cross-entropy :math:`\ell` in which an example weighs less the better it is classified,
    :math:`\alpha_y\, r^\gamma\, \ell`.

    With :math:`\hat p = \sigma(z)` and y the label, r is the probability of the wrong answer and :math:`\alpha_y` a
    weight of the classes,

    .. math::
        r = (1 - y)\, \hat p + y\, (1 - \hat p), \qquad
        \alpha_y = \alpha y + (1 - \alpha)(1 - y), \qquad
        \frac{\partial L}{\partial z} =
            \alpha_y r^\gamma \Big( \hat p - y + \gamma (1 - 2y)\, \ell\, \frac{\hat p (1 - \hat p)}{r} \Big),

    as :math:`\partial r / \partial z = (1 - 2y)\, \hat p (1 - \hat p)`. For labels 0 and 1 both terms have one sign and
    nothing cancels. As in :func:`binary_cross_entropy` neither :math:`\hat p` nor :math:`1 - \hat p` is 1 minus the
    other.

    Args:
        logits: :math:`z`.
        labels: :math:`y`, probabilities of the same shape, in floating point.
        gamma: the focus, 0 or more; 0 is plain cross-entropy.
        alpha: the weight of class 1, in [0, 1]; class 0 has 1 - alpha. None for no weights.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, known labels, gamma or alpha out of range, an unknown reduction, and
            a mean over nothing.

    Source: Lin et al. 2017, *Focal Loss for Dense Object Detection*.

    >>> import jax, jax.numpy as jnp
    >>> logits, labels = jnp.array([0.0, 4.0, -90.0]), jnp.ones(3)
    >>> print(binary_focal_loss(logits, labels, reduction="none"))
    [1.732868e-01 5.871570e-06 9.000000e+01]
    >>> print(jax.grad(binary_focal_loss)(logits, labels, reduction="sum").round(4))
    [-0.2983 -0.     -1.    ]
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    p = 1 / (1 + jnp.exp(-logits))
    losses = -labels * jnp.log(p) - (1 - labels) * jnp.log(1 - p)
    weights = 1 if alpha is None else alpha * labels + (1 - alpha) * (1 - labels)
    return reduce(weights * ((1 - labels) * p + labels * (1 - p)) ** gamma * losses, reduction)


@binary_focal_loss.def_forward
def _binary_focal_loss_forward(logits, labels, *, gamma, alpha, reduction):
    dtype = jnp.result_type(logits, labels)
    z, y = upcast_alike(logits, labels)
    e, up, down = _shares(z)
    r = ((1 - y) * up + y * down) / (1 + e)
    losses = _selected(_class_weight(y, alpha) * power(r, gamma), _cross_entropy(z, y, e, _selected))
    return reduce(losses, reduction).astype(dtype), (logits, labels)


@binary_focal_loss.def_backward
def _binary_focal_loss_backward(residuals, dy, *, gamma, alpha, reduction):
    logits, labels = residuals
    z, y = upcast_alike(logits, labels)
    dy = weight_of_each(dy, reduction, z.shape, z.dtype)
    e, up, down = _shares(z)
    p, q = up / (1 + e), down / (1 + e)
    r = (1 - y) * p + y * q
    focus, weight, losses = power(r, gamma), _class_weight(y, alpha), _cross_entropy(z, y, e, _times)
    # At r = 0 the quotient does not matter: it is multiplied by r^gamma, which is 0 there if gamma is not.
    per_r = jnp.where(r == 0, jnp.zeros_like(r), gamma / jnp.where(r == 0, jnp.ones_like(r), r))
    dz = weight * focus * ((1 - y) * p - y * q + (1 - 2 * y) * _times(per_r * p * q, losses))
    dlabels = focus * weight * per_r * (q - p) + (0.0 if alpha is None else 2 * alpha - 1) * focus
    dlabels = _times(dlabels, losses) - _times(weight * focus, z)
    return like(dy * dz, jax.typeof(logits)), like(dy * dlabels, jax.typeof(labels))


@binary_focal_loss.def_check
def _binary_focal_loss_check(logits, labels, *, gamma, alpha, reduction):
    _check("binary_focal_loss", logits, labels, reduction)
    _check_probabilities("binary_focal_loss", labels)
    require_focus("binary_focal_loss", gamma)
    if alpha is not None:
        require_number("binary_focal_loss", "alpha", alpha, "a number in [0, 1], or None", lambda part: 0 <= part <= 1)


@Op
def hinge(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"],
    *,
    squared: bool = False,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""Hinge loss :math:`\max(0, m)` of the missing margin :math:`m = 1 - y z`, or its square.

    .. math::
        \frac{\partial L}{\partial z} = -y\, [m > 0] \quad \text{or} \quad -2 y \max(0, m), \qquad
        \frac{\partial L}{\partial y} = -z\, [m > 0] \quad \text{or} \quad -2 z \max(0, m).

    At the margin itself, m = 0, the derivative is 0.

    Args:
        logits: the scores :math:`z`.
        labels: :math:`y`, -1 or 1, of the same shape, in floating point.
        squared: whether to square the loss of each entry.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, known labels other than these, an unknown reduction, and a mean over
            nothing.

    Source: Cortes & Vapnik 1995, *Support-Vector Networks*.

    >>> import jax, jax.numpy as jnp
    >>> logits, labels = jnp.array([0.5, 3.0, 1.0]), jnp.array([1.0, 1.0, -1.0])
    >>> print(hinge(logits, labels, reduction="none"), jax.grad(hinge)(logits, labels, reduction="sum"))
    [0.5 0.  2. ] [-1.  0.  1.]
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    losses = jnp.maximum(0, 1 - labels * logits)
    return reduce(losses**2 if squared else losses, reduction)


@hinge.def_forward
def _hinge_forward(logits, labels, *, squared, reduction):
    dtype = jnp.result_type(logits, labels)
    z, y = upcast_alike(logits, labels)
    margin = 1 - y * z
    # Not a maximum, of which XLA on CPU would write the operands to memory.
    losses = jnp.where(margin <= 0, jnp.zeros_like(margin), margin)
    return reduce(losses * losses if squared else losses, reduction).astype(dtype), (logits, labels)


@hinge.def_backward
def _hinge_backward(residuals, dy, *, squared, reduction):
    logits, labels = residuals
    z, y = upcast_alike(logits, labels)
    margin = 1 - y * z
    inside, zeros = margin > 0, jnp.zeros_like(z)
    per_margin = weight_of_each(dy, reduction, z.shape, z.dtype)
    per_margin = per_margin * (2 * jnp.where(inside, margin, zeros)) if squared else per_margin
    # The factors are selected, not the products: forward mode would multiply a selected 0 by an infinite logit.
    dz, dlabels = (per_margin * jnp.where(inside, -other, zeros) for other in (y, z))
    return like(dz, jax.typeof(logits)), like(dlabels, jax.typeof(labels))


@hinge.def_check
def _hinge_check(logits, labels, *, squared, reduction):
    _check("hinge", logits, labels, reduction)
    require_values("hinge", "labels", labels, jnp.abs(labels) == 1, "-1 or 1; pass 2 * labels - 1 for 0 and 1")
    if not isinstance(squared, bool):
        raise InputError(f"hinge: squared is {squared!r}, and must be True or False")


def _check(op, logits, labels, reduction):
    require_float(op, "logits", logits)
    require_float(op, "labels", labels)
    require_same_shape(op, "logits", logits, "labels", labels)
    check_reduction(op, reduction, logits.shape)


def _check_probabilities(op, labels):
    slack = float(jnp.finfo(labels.dtype).eps) ** 0.5  # for probabilities that were rounded as sums or by interpolation
    inside = (labels >= -slack) & (labels <= 1 + slack)
    require_values(op, "labels", labels, inside, "in [0, 1]; pass (labels + 1) / 2 for -1 and 1")


def _shares(z):
    """e = exp(-|z|), and sigmoid(z) and sigmoid(-z) times 1 + e."""
    # Not jnp.abs: its derivative at 0 is that of z > 0, where the selects below take the other side.
    e = jnp.exp(jnp.where(z > 0, -z, z))
    one = jnp.ones_like(e)
    return e, jnp.where(z > 0, one, e), jnp.where(z > 0, e, one)


def _cross_entropy(z, y, e, times):
    """The loss of every entry, given e = exp(-|z|) and a product that is 0 where its first factor is."""
    # softplus(z) - max(z, 0) is log1p(exp(-|z|)), for z and -z alike.
    return times(jnp.where(z > 0, 1 - y, -y), z) + jnp.log1p(e)


def _class_weight(y, alpha):
    return jnp.ones_like(y) if alpha is None else alpha * y + (1 - alpha) * (1 - y)


def _selected(factor, x):
    """factor * x, and 0 where the factor is 0, even if x is infinite. For values that are not differentiated."""
    return jnp.where(factor == 0, jnp.zeros_like(x), factor * x)


def _times(factor, x):
    """The same product for what is differentiated once more. Here x is selected: if it were the product, its derivative
    would still have the infinite x as a factor."""
    return factor * jnp.where((factor == 0) & jnp.isinf(x), jnp.zeros_like(x), x)
