r"""The focal loss of several classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.core import InputError
from dlfn.ops.losses._class_ids import check_ids, class_ids, counting, counting_losses, logits_gradient, reduce_valid
from dlfn.ops.losses._focus import power, require_focus
from dlfn.ops.losses._reductions import Reduction
from dlfn.ops.support.arguments import describe, require_float, require_rank
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op

__all__ = ["softmax_focal_loss"]


@Op
def softmax_focal_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
    ignore_label: int = -100,
) -> Float[Array, ""] | Float[Array, "*batch"]:
    r"""Softmax cross-entropy :math:`\ell` in which a row weighs less the better it is classified,
    :math:`r^\gamma \ell`, with :math:`r = 1 - p_k` and k the class of the row.

    Since :math:`\partial r / \partial z = p_k\, \partial \ell / \partial z`, the gradient is that of the cross-entropy
    times a number for each row,

    .. math::
        \frac{\partial L}{\partial z_j} =
            \Big( r^\gamma + \gamma\, r^{\gamma - 1} p_k\, \ell \Big) (p_j - y_j) .

    Args:
        logits: (..., K).
        labels: class ids (...), integers from 0 to K - 1.
        gamma: the focus, 0 or more; 0 is plain cross-entropy.
        reduction: "mean" over the rows, "sum" or "none".
        ignore_label: as in :func:`~dlfn.ops.softmax_cross_entropy`.

    Returns:
        A scalar, or with "none" one loss per row.

    Raises:
        InputError: on scalar or integer logits, labels that are not class ids, a negative gamma, an unknown reduction,
            and a mean over nothing.

    Source: Lin et al. 2017, *Focal Loss for Dense Object Detection*.

    >>> import jax, jax.numpy as jnp
    >>> logits = jnp.array([[2.0, 0.0, 0.0]])
    >>> print(softmax_focal_loss(logits, jnp.array([0])))
    0.010869332
    >>> print(jax.grad(softmax_focal_loss)(logits, jnp.array([0])))
    [[-0.02677352  0.01338676  0.01338676]]
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    index, valid, wrong = class_ids(labels, logits, logits.shape[-1], ignore_label)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), index[..., None], axis=-1)[..., 0]
    losses = -((1 - jnp.exp(log_p)) ** gamma) * log_p
    return reduce_valid(jnp.where(wrong, jnp.nan, losses), valid, reduction)[0]


@softmax_focal_loss.def_forward
def _softmax_focal_loss_forward(logits, labels, *, gamma, reduction, ignore_label):
    z = upcast(logits)
    index, valid, wrong = class_ids(labels, z, z.shape[-1], ignore_label)
    losses, statistics = counting_losses(z, index, valid, wrong, 0.0)
    r = statistics.others * statistics.inverse
    focus = power(r, gamma)
    # p_k times the loss, over r. At r = 0 it does not matter, as it is multiplied by gamma r^gamma; at r = 1, p_k is 0,
    # and the loss may be inf.
    per_r = jnp.where((r == 0) | (r == 1), jnp.zeros_like(r), (1 - r) * losses / jnp.where(r == 0, jnp.ones_like(r), r))
    y, n = reduce_valid(focus * losses, valid, reduction)
    weights = jnp.where(valid, focus * (1 + gamma * per_r), jnp.zeros_like(r))
    return y.astype(logits.dtype), (logits, labels, statistics, weights / n)


@softmax_focal_loss.def_backward
def _softmax_focal_loss_backward(residuals, dy, *, ignore_label):
    logits, labels, statistics, weights = residuals
    z = upcast(logits)
    index, valid, _ = class_ids(labels, z, z.shape[-1], ignore_label)
    dy = jnp.where(valid, dy.astype(z.dtype) * weights, jnp.zeros_like(weights))
    return logits_gradient(counting(z, valid), index, statistics, dy, 0.0).astype(logits.dtype), None


@softmax_focal_loss.def_check
def _softmax_focal_loss_check(logits, labels, *, gamma, reduction, ignore_label):
    require_float("softmax_focal_loss", "logits", logits)
    require_rank("softmax_focal_loss", "logits", logits, "an axis of classes")
    if logits.shape[-1] == 0:
        raise InputError(f"softmax_focal_loss: logits is {describe(logits)}, and must have at least one class")
    check_ids("softmax_focal_loss", labels, "logits", logits, reduction, ignore_label)
    require_focus("softmax_focal_loss", gamma)
