r"""Batch norm, in training by the statistics of the batch and at inference by given ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.normalisation._moments import Cells, affine, check_eps, check_parameter, dtypes
from dlfn.ops.normalisation.channel_norm import backward, normalise
from dlfn.ops.support.arguments import describe, require_float, require_rank
from dlfn.ops.support.dtypes import Static
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import inverse_root
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["batch_norm", "batch_norm_inference"]


@Op
def batch_norm(
    x: Float[ArrayLike, "*batch channels"],
    scale: Float[ArrayLike, " channels"] | None = None,
    bias: Float[ArrayLike, " channels"] | None = None,
    *,
    eps: float = 1e-5,
    stats_dtype: DTypeLike | None = None,
) -> tuple[Float[Array, "*batch channels"], Float[Array, " channels"], Float[Array, " channels"]]:
    r"""Batch norm in training: each channel by its mean and variance over all other axes, which are returned too.

    :math:`y = \gamma \hat x + \beta`, :math:`\hat x = (x - \mu)\, r`, :math:`r = (\sigma^2 + \epsilon)^{-1/2}`, with
    :math:`\sigma^2 = \frac1n \sum (x - \mu)^2` over the n entries of a channel. For images these are all
    pixels of all images. (In document 002 :math:`\mu_c` averages over the examples only, which is a slip.)

    All three outputs are differentiable. As :math:`\partial \mu / \partial x = 1/n` and
    :math:`\partial \sigma^2 / \partial x = 2 (x - \mu)/n`, the cotangents of mean and variance add a term to the
    backward pass of layer norm, here over a channel:

    .. math::
        \frac{\partial L}{\partial x} = r \Big( g - \mathrm E\,g - \hat x\, \mathrm E[g \hat x] \Big)
            + \frac1n \Big( \bar\mu + 2 (x - \mu)\, \overline{\sigma^2} \Big), \qquad g = \gamma \bar y,

    and :math:`\partial L/\partial \gamma = \sum \bar y \hat x`, :math:`\partial L/\partial \beta = \sum \bar y`.

    The mean is held as a sum of two numbers, so that channels far from 0 keep their digits. Half types are computed in
    float32. The backward pass keeps x and three numbers per channel. A constant channel gives :math:`\hat x = 0`.

    Args:
        x: (..., channels), with one other axis at least.
        scale: (channels,), or None for 1.
        bias: (channels,), or None for 0.
        eps: a number >= 0.
        stats_dtype: the dtype of mean and variance; None for the dtype of y. Pass float32 if x has a half type and the
            statistics are accumulated: a float16 variance is inf from 65520 on.

    Returns:
        y, of the shape of x, in the common dtype of the arguments; mean and variance (with 1/n), of shape (channels,).
        For running statistics as PyTorch keeps them, multiply the variance by n/(n-1).

    Raises:
        InputError: on arguments that are not floating point, an x with one axis or no entries, a scale or bias of
            another shape than (channels,), and a stats_dtype that is no floating-point type.

    Source: Ioffe & Szegedy 2015, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift*; 002 section 3.1.

    >>> import jax.numpy as jnp
    >>> y, mean, var = batch_norm(jnp.array([[1.0, 10.0], [3.0, 30.0]]), eps=0)
    >>> print(y, mean, var)
    [[-1. -1.]
     [ 1.  1.]] [ 2. 20.] [  1. 100.]
    """
    x = jnp.asarray(x)
    over = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, over)
    var = jnp.mean((x - mean) ** 2, over)
    y = (x - mean) / jnp.sqrt(var + eps)
    y = y if scale is None else y * scale
    y = y if bias is None else y + bias
    return y, mean.astype(stats_dtype or y.dtype), var.astype(stats_dtype or y.dtype)


@batch_norm.def_forward
def _batch_norm_forward(x, scale, bias, *, eps, stats_dtype):
    cells = _channels(x)
    y, variance, residuals = normalise(x, scale, bias, cells, eps)
    _, pivot, shift, *_ = residuals
    dtype = dtypes(x, scale, bias)[0]
    mean, variance = (jnp.squeeze(a, cells.axes).astype(stats_dtype or dtype) for a in (pivot + shift, variance))
    return (y.astype(dtype), mean, variance), residuals


@batch_norm.def_backward
def _batch_norm_backward(residuals, cotangents):
    x, *_, rstd, _, _ = residuals
    cells, (dy, *rest) = _channels(x), cotangents
    return backward(residuals, dy, cells, *(jnp.expand_dims(d.astype(rstd.dtype), cells.axes) for d in rest))


@batch_norm.def_check
def _batch_norm_check(x, scale, bias, *, eps, stats_dtype):
    require_float("batch_norm", "x", x)
    if x.ndim < 2:
        raise InputError(f"batch_norm: x is {describe(x)}, and must be (..., channels) with one other axis at least")
    if any(size == 0 for size in x.shape[:-1]):
        raise InputError(f"batch_norm: x is {describe(x)}, and the mean over no entries is 0/0; skip empty batches")
    if stats_dtype is not None and not jnp.issubdtype(stats_dtype, jnp.floating):
        raise InputError(f"batch_norm: stats_dtype is {stats_dtype!r}, and must be a floating-point type or None")
    check_eps("batch_norm", eps)
    check_parameter("batch_norm", "scale", scale, x.shape[-1:], x)
    check_parameter("batch_norm", "bias", bias, x.shape[-1:], x)


@Op
def batch_norm_inference(
    x: Float[ArrayLike, "*batch channels"],
    mean: Float[ArrayLike, " channels"],
    var: Float[ArrayLike, " channels"],
    scale: Float[ArrayLike, " channels"] | None = None,
    bias: Float[ArrayLike, " channels"] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Array, "*batch channels"]:
    r"""Batch norm by given statistics, :math:`y = \gamma (x - \mu)\, r + \beta`,
    :math:`r = (\sigma^2 + \epsilon)^{-1/2}`.

    With sums over all axes but the last,

    .. math::
        \frac{\partial L}{\partial x} = r \gamma \bar y, \quad
        \frac{\partial L}{\partial \mu} = - r \gamma \sum \bar y, \quad
        \frac{\partial L}{\partial \sigma^2} = - \tfrac12 r^3 \gamma \sum \bar y (x - \mu), \quad
        \frac{\partial L}{\partial \gamma} = r \sum \bar y (x - \mu), \quad
        \frac{\partial L}{\partial \beta} = \sum \bar y.

    Args:
        x: (..., channels).
        mean: (channels,).
        var: (channels,), not negative.
        scale: (channels,), or None for 1.
        bias: (channels,), or None for 0.
        eps: a number >= 0, that of training.

    Returns:
        Of the shape of x, in the common dtype of x, scale and bias: statistics kept in float32 do not widen a half
        type.

    Raises:
        InputError: on arguments that are not floating point, a scalar x, and others of another shape than (channels,).

    Source: Ioffe & Szegedy 2015, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift*; 002 section 3.1.

    >>> import jax.numpy as jnp
    >>> print(batch_norm_inference(jnp.array([[1.0, 10.0]]), jnp.array([2.0, 20.0]), jnp.array([1.0, 100.0]), eps=0))
    [[-1. -1.]]
    """
    x, mean, var = jnp.asarray(x), jnp.asarray(mean), jnp.asarray(var)
    y = (x - mean) / jnp.sqrt(var + eps)
    y = y if scale is None else y * scale
    y = y if bias is None else y + bias
    return y.astype(dtypes(x, scale, bias)[0])


@batch_norm_inference.def_forward
def _batch_norm_inference_forward(x, mean, var, scale, bias, *, eps):
    centred, _, slope = _inference(x, mean, var, scale, bias, eps)
    y = affine(centred * slope, None, bias).astype(dtypes(x, scale, bias)[0])
    return y, (x, mean, var, scale, Static(None if bias is None else jax.typeof(bias)))


@batch_norm_inference.def_backward
def _batch_norm_inference_backward(residuals, dy, *, eps):
    x, mean, var, scale, bias = residuals
    centred, r, slope = _inference(x, mean, var, scale, None, eps)
    dy = upcast_alike(x, dy)[1].astype(r.dtype)
    over = tuple(range(x.ndim - 1))
    s, t = jnp.sum(dy, over), jnp.sum(dy * centred, over)
    return (
        like(slope * dy, jax.typeof(x)),
        like(-slope * s, jax.typeof(mean)),
        like(-0.5 * r * r * slope * t, jax.typeof(var)),
        None if scale is None else like(r * t, jax.typeof(scale)),
        None if bias.value is None else like(s, bias.value),
    )


@batch_norm_inference.def_check
def _batch_norm_inference_check(x, mean, var, scale, bias, *, eps):
    op = "batch_norm_inference"
    require_float(op, "x", x)
    require_rank(op, "x", x, "a channel axis")
    check_eps(op, eps)
    for name, value in (("mean", mean), ("var", var)):
        if value is None:
            raise InputError(
                f"{op}: {name} is None, and must be the running statistics; batch_norm computes the batch's"
            )
    for name, value in (("mean", mean), ("var", var), ("scale", scale), ("bias", bias)):
        check_parameter(op, name, value, x.shape[-1:], x)


def _channels(x):
    return Cells(tuple(range(x.ndim - 1)))


def _inference(x, mean, var, scale, bias, eps) -> tuple[Any, Any, Any]:
    """x - mean, r, and r times scale, in the dtype to compute in."""
    wide = dtypes(x, scale, bias)[1]
    r = inverse_root(var.astype(wide) + eps)
    return x.astype(wide) - mean.astype(wide), r, affine(r, scale, None)
