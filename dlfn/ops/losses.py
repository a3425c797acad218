r"""Elementwise losses: squared error, and binary cross-entropy from logits.

Both take ``reduction``: ``"mean"`` over the entries, their ``"sum"``, or ``"none"``. They compute half types in float32
and return the common dtype of their arguments.
"""

import jax
import jax.numpy as jnp

from dlfn.core import Op
from dlfn.ops._common import (
    Static,
    check_reduction,
    like,
    reduce,
    require_float,
    require_same_shape,
    upcast_alike,
    weight_of_each,
)

__all__ = ["binary_cross_entropy", "mse"]


@Op
def mse(prediction, target, *, half=False, reduction="mean"):
    r"""Squared error over all N entries, :math:`\frac1N \sum_i (\hat y_i - y_i)^2`, or with ``half`` 1/(2N) of the sum.

    .. math::
        \frac{\partial L}{\partial \hat y_i} = \frac2N (\hat y_i - y_i) = -\frac{\partial L}{\partial y_i},

    or :math:`\frac1N (\hat y_i - y_i)` with ``half``. 002 section 13.1 writes :math:`\frac2N (y_i - \hat y_i)`: the
    sign is flipped. Its factor is 1/N, that of 001 section 2 is 1/(2N); hence the option.

    Args:
        prediction: :math:`\hat y`.
        target: :math:`y`, of the same shape.
        half: whether each square is halved.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, an unknown reduction, and a mean over nothing.

    Source: 001 section 2, 002 section 13.1.

    >>> import jax, jax.numpy as jnp
    >>> prediction, target = jnp.array([1.0, 4.0]), jnp.array([0.0, 2.0])
    >>> print(mse(prediction, target), mse(prediction, target, half=True))
    2.5 1.25
    >>> jax.grad(mse)(prediction, target)
    Array([1., 2.], dtype=float32)
    """
    losses = (prediction - target) ** 2
    return reduce(losses / 2 if half else losses, reduction)


@mse.def_check
def _mse_check(prediction, target, *, half, reduction):
    require_float("mse", "prediction", prediction)
    require_float("mse", "target", target)
    require_same_shape("mse", "prediction", prediction, "target", target)
    check_reduction("mse", reduction, prediction.shape)


@mse.def_forward
def _mse_forward(prediction, target, *, half, reduction):
    kinds = jax.typeof(prediction), jax.typeof(target)
    dtype = jnp.result_type(prediction, target)
    prediction, target = upcast_alike(prediction, target)
    difference = prediction - target
    losses = difference * difference * (0.5 if half else 1.0)
    return reduce(losses, reduction).astype(dtype), (difference, Static(kinds))


@mse.def_backward
def _mse_backward(residuals, dy, *, half, reduction):
    difference, kinds = residuals
    dx = difference * (weight_of_each(dy, reduction, difference.shape, difference.dtype) * (1.0 if half else 2.0))
    return like(dx, kinds.value[0]), like(-dx, kinds.value[1])


@Op
def binary_cross_entropy(logits, labels, *, reduction="mean"):
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
        InputError: on different shapes, integers, an unknown reduction, and a mean over nothing.

    Source: 001 section 4, 002 section 13.3.

    >>> import jax, jax.numpy as jnp
    >>> logits, labels = jnp.array([17.0, -90.0]), jnp.array([0.0, 1.0])
    >>> binary_cross_entropy(logits, labels, reduction="none")
    Array([17., 90.], dtype=float32)
    >>> jax.grad(binary_cross_entropy)(logits, labels)
    Array([ 0.5, -0.5], dtype=float32)
    """
    softplus, softplus_of_minus = jnp.logaddexp(logits, 0.0), jnp.logaddexp(-logits, 0.0)
    return reduce((1 - labels) * softplus + labels * softplus_of_minus, reduction)


@binary_cross_entropy.def_check
def _binary_cross_entropy_check(logits, labels, *, reduction):
    require_float("binary_cross_entropy", "logits", logits)
    require_float("binary_cross_entropy", "labels", labels)
    require_same_shape("binary_cross_entropy", "logits", logits, "labels", labels)
    check_reduction("binary_cross_entropy", reduction, logits.shape)


@binary_cross_entropy.def_forward
def _binary_cross_entropy_forward(logits, labels, *, reduction):
    dtype = jnp.result_type(logits, labels)
    z, y = upcast_alike(logits, labels)
    # softplus(z) - max(z, 0) is log1p(exp(-|z|)), for z and -z alike. The rest is 0 where its factor is, even at inf.
    factor = jnp.where(z > 0, 1 - y, -y)
    linear = jnp.where(factor == 0, jnp.zeros_like(z), factor * z)
    losses = linear + jnp.log1p(jnp.exp(-jnp.abs(z)))
    return reduce(losses, reduction).astype(dtype), (logits, labels)


@binary_cross_entropy.def_backward
def _binary_cross_entropy_backward(residuals, dy, *, reduction):
    logits, labels = residuals
    z, y = upcast_alike(logits, labels)
    dy = weight_of_each(dy, reduction, z.shape, z.dtype)
    # Not of -|z|, whose derivative at 0 is that of z > 0: the selects below take the other side.
    e = jnp.exp(jnp.where(z > 0, -z, z))
    one = jnp.ones_like(e)
    dz = ((1 - y) * jnp.where(z > 0, one, e) - y * jnp.where(z > 0, e, one)) / (1 + e)
    return like(dy * dz, jax.typeof(logits)), like(-dy * z, jax.typeof(labels))
