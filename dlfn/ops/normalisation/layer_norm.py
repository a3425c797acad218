r"""Normalisation of each example by itself: layer norm and RMS norm.

Both compute half types in float32 and sum the gradients of their parameters in float32.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.normalisation._moments import Cells, affine, check_eps, check_parameter, dtypes, moments
from dlfn.ops.support.arguments import describe, require_float, require_int, require_rank
from dlfn.ops.support.compiled import made_anew
from dlfn.ops.support.dtypes import Static
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import inverse_length, sum_of_products
from dlfn.ops.support.sharding import is_explicit, like, upcast_alike

__all__ = ["layer_norm", "rms_norm"]


@Op
def layer_norm(
    x: Float[ArrayLike, "*shape"],
    scale: Float[ArrayLike, "*features"] | None = None,
    bias: Float[ArrayLike, "*features"] | None = None,
    *,
    eps: float = 1e-5,
    axes: int = 1,
) -> Float[Array, "*shape"]:
    r"""Layer norm over the last axes, :math:`y = \gamma \hat x + \beta` with :math:`\hat x = (x - \mu)\, r` and
    :math:`r = (\sigma^2 + \epsilon)^{-1/2}`.

    :math:`\mu` and :math:`\sigma^2` (with 1/n) are those of each example's n features. With
    :math:`g = \gamma \bar y` and means over the features,

    .. math::
        \frac{\partial L}{\partial x} = r \Big( g - \mathrm E\,g - \hat x\, \mathrm E[g \hat x] \Big), \qquad
        \frac{\partial L}{\partial \gamma} = \sum \bar y \hat x, \qquad
        \frac{\partial L}{\partial \beta} = \sum \bar y,

    the sums over examples: from :math:`d\mu = \mathrm E\,dx` and
    :math:`d\sigma^2 = 2\, \mathrm E[(x - \mu)\, dx]` follows :math:`dr = -r^2\, \mathrm E[\hat x\, dx]`, so that
    :math:`d\hat x = r\,(dx - \mathrm E\,dx - \hat x\, \mathrm E[\hat x\, dx])`, a symmetric map, which is its own
    transpose.

    The mean is held as a sum of two numbers. Rows far from 0, such as N(3000, 1) in float32, keep their digits, where
    autodiff of the formula loses two of them, or all if the variance is :math:`\mathrm E\,x^2 - \mu^2`. The backward
    pass keeps x and three numbers per row. A constant row gives :math:`\hat x = 0`, with eps = 0 too. Differences of
    entries beyond 1e18 overflow when squared in float32, and such a row gives 0.

    Args:
        x: (..., *features).
        scale: of the shape of the features, or None for 1.
        bias: of the shape of the features, or None for 0.
        eps: a number >= 0. 1e-5, as in PyTorch and Equinox; Flax has 1e-6.
        axes: how many of the last axes are features.

    Returns:
        Of the shape of x, in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, an x with too few axes or without features, and a scale
            or bias of another shape than the features.

    Source: Ba, Kiros & Hinton 2016, *Layer Normalization*; 002 section 3.2.

    >>> import jax.numpy as jnp
    >>> print(layer_norm(jnp.array([[3000.0, 3001.0, 3002.0]])).round(3))
    [[-1.225  0.     1.225]]
    """
    x, over = jnp.asarray(x), tuple(range(-axes, 0))
    mean = jnp.mean(x, over, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, over, keepdims=True)
    y = (x - mean) / jnp.sqrt(variance + eps)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


@layer_norm.def_forward
def _layer_norm_forward(x, scale, bias, *, eps, axes):
    dtype, wide = dtypes(x, scale, bias)
    z = x.astype(wide)
    pivot, shift, variance = moments(z, _last(x, axes))
    centred = (z - pivot) - shift
    rstd = inverse_length(_last(x, axes).average, lambda r: r, centred, variance + eps)
    y = affine(centred * rstd, scale, bias)
    kind = None if bias is None else jax.typeof(bias)
    return y.astype(dtype), (x, pivot, shift, rstd, scale, Static(kind))


@layer_norm.def_backward
def _layer_norm_backward(residuals, dy, *, axes):
    x, pivot, shift, rstd, scale, bias = residuals
    z, dy = (array.astype(rstd.dtype) for array in upcast_alike(x, dy))

    def normal_and_g(pivot, shift, rstd, scale):
        return ((z - pivot) - shift) * rstd, affine(dy, scale, None)

    given = (pivot, shift, rstd, scale)
    copies = made_anew(given, given, given) if _is_long(x, axes) else (given,) * 3
    normal, g = normal_and_g(*given)
    # One copy for each of the three sums: of g, of g * normal_2 and of dy * normal_3.
    (_, g_1), (normal_2, g_2), (normal_3, _) = (normal_and_g(*copy) for copy in copies)
    average = _last(x, axes).average
    # Negated and added rather than subtracted, because XLA on CPU then fuses better, as in softmax.
    dx = rstd * ((g + -average(g_1)) + -(normal * average(g_2 * normal_2)))
    examples = tuple(range(x.ndim - axes))
    dscale = None if scale is None else like(jnp.sum(dy * normal_3, examples), jax.typeof(scale))
    dbias = None if bias.value is None else like(jnp.sum(dy, examples), bias.value)
    return like(dx, jax.typeof(x)), dscale, dbias


@layer_norm.def_check
def _layer_norm_check(x, scale, bias, *, eps, axes):
    require_float("layer_norm", "x", x)
    must_be = "the number of axes to normalise over, such as 1"
    require_int("layer_norm", "axes", axes, must_be, lambda number: number >= 1)
    if x.ndim < axes:
        raise InputError(f"layer_norm: x is {describe(x)}, and must have {axes} axes of features, as axes is {axes}")
    features = x.shape[-axes:]
    if math.prod(features) == 0:
        raise InputError(f"layer_norm: x is {describe(x)}, and the mean over features of shape {list(features)} is 0/0")
    check_eps("layer_norm", eps)
    check_parameter("layer_norm", "scale", scale, features, x)
    check_parameter("layer_norm", "bias", bias, features, x)


@Op
def rms_norm(
    x: Float[ArrayLike, "*batch features"], scale: Float[ArrayLike, " features"] | None = None, *, eps: float = 1e-6
) -> Float[Array, "*batch features"]:
    r"""Root-mean-square norm over the last axis, :math:`y = \gamma \hat x` with :math:`\hat x = x r`,
    :math:`r = (\mathrm E\,x^2 + \epsilon)^{-1/2}`.

    Layer norm without the mean. With :math:`g = \gamma \bar y`, from :math:`dr = -r^2\, \mathrm E[\hat x\, dx]`

    .. math::
        \frac{\partial L}{\partial x} = r \Big( g - \hat x\, \mathrm E[g \hat x] \Big), \qquad
        \frac{\partial L}{\partial \gamma} = \sum \bar y \hat x

    The backward pass keeps x and one number per row. A row of zeros gives 0, with eps = 0 too. Entries beyond 1e18
    overflow when squared in float32, and such a row gives 0.

    Args:
        x: (..., features).
        scale: (features,), or None for 1.
        eps: a number >= 0. 1e-6, as in Flax; PyTorch's default is the spacing of x's dtype at 1.

    Returns:
        Of the shape of x, in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, a scalar x or one without features, and a scale of
            another shape than the features.

    Source: Zhang & Sennrich 2019, *Root Mean Square Layer Normalization*.

    >>> import jax.numpy as jnp
    >>> print(rms_norm(jnp.array([[3.0, 4.0, 0.0, 0.0]])).round(3))
    [[1.2 1.6 0.  0. ]]
    """
    x = jnp.asarray(x)
    y = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + eps)
    return y if scale is None else y * scale


@rms_norm.def_forward
def _rms_norm_forward(x, scale, *, eps):
    dtype, wide = dtypes(x, scale)
    z = x.astype(wide)
    r = inverse_length(_last(x, 1).average, lambda r: r, z, jnp.mean(z * z, -1, keepdims=True) + eps)
    return affine(z * r, scale, None).astype(dtype), (x, r, scale)


@rms_norm.def_backward
def _rms_norm_backward(residuals, dy):
    x, r, scale = residuals
    z, dy = (array.astype(r.dtype) for array in upcast_alike(x, dy))
    along, dscale = _weighted(dy, z, r, scale)
    dx = r * (affine(dy, scale, None) + -(z * (r * (along / x.shape[-1]))))
    return like(dx, jax.typeof(x)), None if dscale is None else like(dscale, jax.typeof(scale))


@rms_norm.def_check
def _rms_norm_check(x, scale, *, eps):
    require_float("rms_norm", "x", x)
    require_rank("rms_norm", "x", x, "a feature axis")
    if x.shape[-1] == 0:
        raise InputError(f"rms_norm: x is {describe(x)}, and the mean over no features is 0/0")
    check_eps("rms_norm", eps)
    check_parameter("rms_norm", "scale", scale, x.shape[-1:], x)


def _last(x, axes):
    return Cells(tuple(range(x.ndim - axes, x.ndim)))


def _weighted(dy, z, r, scale):
    """The products of dy and r z: weighted by scale and summed over features, and summed over examples."""
    if scale is None:
        return sum_of_products(-1, dy, z, r), None
    scale = scale.astype(r.dtype)
    if _is_long(z, 1) or is_explicit(z):  # a contraction over sharded axes has to be given the sharding of its result
        scale, r = made_anew(scale, r)
        return sum_of_products(-1, dy * scale, z, r), jnp.sum(dy * (z * r), tuple(range(r.ndim - 1)))
    # Computed once for both sums. These are matrix products, which XLA on CPU computes faster than short sums.
    products = dy * (z * r)
    along = jnp.matmul(products, scale, precision="highest")[..., None]
    return along, jnp.tensordot(jnp.ones_like(r[..., 0]), products, r.ndim - 1, precision="highest")


def _is_long(x, axes):
    """Whether rows are so long that XLA on CPU is faster when it computes the terms of each sum while summing them than
    when it reads them from memory."""
    features = x.shape[x.ndim - axes :]
    return all(isinstance(size, int) for size in features) and math.prod(features) >= 256
