r"""Normalisation of channels, the last axis: over space (instance norm, group norm) or over the batch (batch norm).

All compute :math:`y = \gamma \hat x + \beta`, :math:`\hat x = (x - \mu)\, r`, :math:`r = (\sigma^2 + \epsilon)^{-1/2}`,
and differ in the cells, which are the sets of entries that share :math:`\mu` and :math:`\sigma^2`. As :math:`\gamma`
and :math:`\beta` vary only along the channels, all gradients follow from two sums over the other axes of a cell,
:math:`s = \sum \bar y` and :math:`t = \sum \bar y \hat x`. With means E over the n entries of a cell,

.. math::
    \frac{\partial L}{\partial x} = r \gamma \bar y - r\, \mathrm E[\gamma \bar y]
        - \hat x\, r\, \mathrm E[\gamma \bar y \hat x], \qquad
    \frac{\partial L}{\partial \gamma} = \sum t, \qquad \frac{\partial L}{\partial \beta} = \sum s,

which is the backward pass of layer norm, where it is derived. The means are held as sums of two numbers, half types are
computed in float32, and the backward pass keeps x and three numbers per cell. Constant cells give :math:`\hat x = 0`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.normalisation._moments import Cells, affine, check_eps, check_parameter, dtypes, moments
from dlfn.ops.support.arguments import describe, require_float, require_int
from dlfn.ops.support.dtypes import Static
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import inverse_length, product
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["group_norm", "instance_norm"]


@Op
def instance_norm(
    x: Float[ArrayLike, "*leading channels"],
    scale: Float[ArrayLike, " channels"] | None = None,
    bias: Float[ArrayLike, " channels"] | None = None,
    *,
    eps: float = 1e-5,
    spatial: int = 2,
) -> Float[Array, "*leading channels"]:
    r"""Instance norm: each channel of each example by its own mean and variance (with 1/n) over space.

    With :math:`\hat x = (x - \mu)\, r` and :math:`r = (\sigma^2 + \epsilon)^{-1/2}` it is
    :math:`y = \gamma \hat x + \beta`. With :math:`g = \gamma \bar y` and means over what shares a mean,

    .. math::
        \frac{\partial L}{\partial x} = r \Big( g - \mathrm E\,g - \hat x\, \mathrm E[g \hat x] \Big), \qquad
        \frac{\partial L}{\partial \gamma} = \sum \bar y \hat x, \qquad
        \frac{\partial L}{\partial \beta} = \sum \bar y.

    Args:
        x: (..., *space, channels).
        scale: (channels,), or None for 1.
        bias: (channels,), or None for 0.
        eps: a number >= 0.
        spatial: how many axes space has: 2 for images.

    Returns:
        Of the shape of x, in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, an x with too few axes or without entries in space, and
            a scale or bias of another shape than (channels,).

    Source: Ulyanov, Vedaldi & Lempitsky 2016, *Instance Normalization: The Missing Ingredient for Fast Stylization*;
    002 section 3.3.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[1.0, 10.0], [3.0, 30.0]]]])  # one image of 1 × 2 pixels and two channels
    >>> print(instance_norm(x, eps=0))
    [[[[-1. -1.]
       [ 1.  1.]]]]
    """
    x, over = jnp.asarray(x), tuple(range(-spatial - 1, -1))
    mean = jnp.mean(x, over, keepdims=True)
    y = (x - mean) / jnp.sqrt(jnp.mean((x - mean) ** 2, over, keepdims=True) + eps)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


@instance_norm.def_forward
def _instance_norm_forward(x, scale, bias, *, eps, spatial):
    y, _, residuals = normalise(x, scale, bias, _space(x, spatial), eps)
    return y.astype(dtypes(x, scale, bias)[0]), residuals


@instance_norm.def_backward
def _instance_norm_backward(residuals, dy, *, spatial):
    return backward(residuals, dy, _space(residuals[0], spatial))


@instance_norm.def_check
def _instance_norm_check(x, scale, bias, *, eps, spatial):
    _check("instance_norm", x, scale, bias, eps, spatial, 1)


@Op
def group_norm(
    x: Float[ArrayLike, "*leading channels"],
    scale: Float[ArrayLike, " channels"] | None = None,
    bias: Float[ArrayLike, " channels"] | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
    spatial: int = 2,
) -> Float[Array, "*leading channels"]:
    r"""Group norm: each group of channels of each example by its own mean and variance (with 1/n) over space.

    With :math:`\hat x = (x - \mu)\, r` and :math:`r = (\sigma^2 + \epsilon)^{-1/2}` it is
    :math:`y = \gamma \hat x + \beta`. With :math:`g = \gamma \bar y` and means over what shares a mean,

    .. math::
        \frac{\partial L}{\partial x} = r \Big( g - \mathrm E\,g - \hat x\, \mathrm E[g \hat x] \Big), \qquad
        \frac{\partial L}{\partial \gamma} = \sum \bar y \hat x, \qquad
        \frac{\partial L}{\partial \beta} = \sum \bar y.

    One group is layer norm over space and channels, with a scale and bias per channel; as many groups as channels is
    instance norm.

    Args:
        x: (..., *space, channels).
        scale: (channels,), or None for 1.
        bias: (channels,), or None for 0.
        groups: into how many groups of consecutive channels to divide them.
        eps: a number >= 0.
        spatial: how many axes space has: 2 for images, 0 for none.

    Returns:
        Of the shape of x, in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, an x with too few axes or without entries in space, a
            number of channels that groups does not divide, and a scale or bias of another shape than (channels,).

    Source: Wu & He 2018, *Group Normalization*; 002 section 3.4.

    >>> import jax.numpy as jnp
    >>> print(group_norm(jnp.array([[1.0, 3.0, 10.0, 30.0]]), groups=2, spatial=0, eps=0))
    [[-1.  1. -1.  1.]]
    """
    x = jnp.asarray(x)
    z = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    over = (*range(-spatial - 2, -2), -1)
    mean = jnp.mean(z, over, keepdims=True)
    y = ((z - mean) / jnp.sqrt(jnp.mean((z - mean) ** 2, over, keepdims=True) + eps)).reshape(x.shape)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


@group_norm.def_forward
def _group_norm_forward(x, scale, bias, *, groups, eps, spatial):
    y, _, residuals = normalise(x, scale, bias, _space(x, spatial, groups), eps)
    return y.astype(dtypes(x, scale, bias)[0]), residuals


@group_norm.def_backward
def _group_norm_backward(residuals, dy, *, groups, spatial):
    return backward(residuals, dy, _space(residuals[0], spatial, groups))


@group_norm.def_check
def _group_norm_check(x, scale, bias, *, groups, eps, spatial):
    _check("group_norm", x, scale, bias, eps, spatial, 0)
    must_be = f"a whole number that divides the {x.shape[-1]} channels of x, which is {describe(x)}"
    require_int("group_norm", "groups", groups, must_be, lambda number: number >= 1 and x.shape[-1] % number == 0)


def _check(op, x, scale, bias, eps, spatial, least):
    require_float(op, "x", x)
    must_be = f"the number of axes of space, at least {least}"
    require_int(op, "spatial", spatial, must_be, lambda number: number >= least)
    if x.ndim < spatial + 1:
        raise InputError(
            f"{op}: x is {describe(x)}, and must have {spatial} axes of space and one of channels, as spatial is "
            f"{spatial}"
        )
    if math.prod(x.shape[x.ndim - 1 - spatial :]) == 0:
        raise InputError(f"{op}: x is {describe(x)}, and the mean over no entries is 0/0")
    check_eps(op, eps)
    check_parameter(op, "scale", scale, x.shape[-1:], x)
    check_parameter(op, "bias", bias, x.shape[-1:], x)


def _space(x, spatial, groups=None):
    return Cells(tuple(range(x.ndim - 1 - spatial, x.ndim - 1)), groups)


def normalise(x: jax.Array, scale: Any, bias: Any, cells: Cells, eps: float) -> tuple[Any, Any, Any]:
    """y in the dtype that it is computed in, the variances of the cells, and the residuals for :func:`backward`."""
    z = x.astype(dtypes(x, scale, bias)[1])
    pivot, shift, variance = moments(z, cells)
    centred = (z - cells.spread(pivot, z)) - cells.spread(shift, z)
    kind = jax.typeof(z)
    rstd = inverse_length(cells.average, lambda r: cells.spread(r, kind), centred, variance + eps)
    y = affine(centred * affine(cells.spread(rstd, z), scale, None), None, bias)
    return y, variance, (x, pivot, shift, rstd, scale, Static(None if bias is None else jax.typeof(bias)))


def backward(residuals: Any, dy: jax.Array, cells: Cells, dmean: Any = None, dvariance: Any = None) -> Any:
    """Cotangents of x, scale and bias, given those of y and, in shapes that broadcast to x, of mean and variance."""
    x, pivot, shift, rstd, scale, bias = residuals
    z, dy = (array.astype(rstd.dtype) for array in upcast_alike(x, dy))
    n = cells.size(x, rstd.dtype)
    r = cells.spread(rstd, z)
    slope = affine(r, scale, None)
    centred = (z - cells.spread(pivot, z)) - cells.spread(shift, z)
    s = jnp.sum(dy, cells.axes, keepdims=True)
    t = jnp.sum(dy * (centred * r), cells.axes, keepdims=True)
    offset, tilt = (cells.spread(cells.pool(slope * sums), z) / n for sums in (s, t))
    more = jnp.zeros((), tilt.dtype)
    if dmean is not None:
        # The mean has the slope 1/n in each of the n entries, and the variance 2 (x - mean)/n.
        offset, more = offset - dmean / n, -2 * dvariance / n
    dx = (slope * dy + -offset) + -product(centred, r, tilt, more)
    rest = tuple(range(x.ndim - 1))
    dscale = None if scale is None else like(jnp.sum(t, rest), jax.typeof(scale))
    dbias = None if bias.value is None else like(jnp.sum(s, rest), bias.value)
    return like(dx, jax.typeof(x)), dscale, dbias
