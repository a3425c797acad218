r"""Activations made of straight lines (and one parabola): rectifiers with a slope or a ceiling, and hard versions.

Derivatives at kinks are conventions, which each function states. Like that of ``relu`` they are one-sided limits, never
the mean of both. They are computed from x or, where the output determines them too, from the output, which the next
layer keeps anyway.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.activations._builder import elementwise
from dlfn.ops.support.arguments import describe, require_float
from dlfn.ops.support.compiled import below_zero
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = ["hard_sigmoid", "hard_swish", "hard_tanh", "leaky_relu", "prelu", "relu6"]


def _leaky_relu_value(x, *, negative_slope):
    # With a slope of 0 the limit at -inf is 0, but 0 * -inf is nan.
    return jnp.where(x >= 0, x, negative_slope * x) if negative_slope else jnp.maximum(x, 0.0)


def _leaky_relu_slope(x, *, negative_slope):
    return jnp.where(x >= 0, jnp.ones_like(x), negative_slope)


@elementwise(_leaky_relu_value, _leaky_relu_slope)
def leaky_relu(x: Float[ArrayLike, "*shape"], *, negative_slope: float = 0.01) -> Float[Array, "*shape"]:
    r"""Leaky ReLU, x for x >= 0, else :math:`\alpha x` with :math:`\alpha` = ``negative_slope``.

    Derivative: 1 where x >= 0, else :math:`\alpha`; at x = 0 it is 1, as the document chooses (for ``relu`` it is 0).

    Args:
        x: floating point, any shape.
        negative_slope: a number.

    Raises:
        InputError: on a negative_slope that is no finite number.

    Source: Maas, Hannun & Ng 2013, *Rectifier Nonlinearities Improve Neural Network Acoustic Models*; 002 section 2.4.

    >>> leaky_relu(jnp.array([-2.0, 3.0])), jax.grad(leaky_relu)(0.0)
    (Array([-0.02,  3.  ], dtype=float32), Array(1., dtype=float32))
    """
    x = jnp.asarray(x)
    return jnp.where(x >= 0, x, negative_slope * x)


@Op
def prelu(x: Float[ArrayLike, "*shape"], alpha: Float[ArrayLike, "*#shape"]) -> Float[Array, "*shape"]:
    r"""Parametric ReLU, x for x >= 0, else :math:`\alpha x`, with a learned :math:`\alpha`.

    .. math::
        \frac{\partial L}{\partial x} = \begin{cases} \bar y & x \ge 0 \\ \alpha \bar y & x < 0 \end{cases}, \qquad
        \frac{\partial L}{\partial \alpha} = \sum \bar y \min(x, 0),

    the sum over the entries of x that share an :math:`\alpha`, accumulated in float32 at least. At x = 0 the
    derivative in x is 1, as for ``leaky_relu``.

    Args:
        x: an array.
        alpha: a scalar, an array (channels,) with one :math:`\alpha` for each entry of the last axis of x, or any
            other array that broadcasts to the shape of x.

    Returns:
        Of the shape of x, in the common dtype of the arguments.

    Raises:
        InputError: on integers, and an alpha that does not broadcast to the shape of x.

    Source: He, Zhang, Ren & Sun 2015, *Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
    Classification*; 002 section 2.5.

    >>> x, alpha = jnp.array([[-2.0, 3.0], [-4.0, -1.0]]), jnp.array([0.25, 0.5])
    >>> prelu(x, alpha)
    Array([[-0.5,  3. ],
           [-1. , -0.5]], dtype=float32)
    >>> jax.grad(lambda alpha: prelu(x, alpha).sum())(alpha)
    Array([-6., -1.], dtype=float32)
    """
    x, alpha = jnp.asarray(x), jnp.asarray(alpha)
    return jnp.where(x >= 0, x, alpha * x)


@prelu.def_forward
def _prelu_forward(x, alpha):
    z, a = upcast(x, alpha)
    return jnp.where(z >= 0, z, a * z).astype(jnp.result_type(x, alpha)), (x, alpha)


@prelu.def_backward
def _prelu_backward(residuals, dy):
    x, alpha = residuals
    z, a = upcast(x, alpha)
    dy = dy.astype(z.dtype)
    dx = jnp.where(z >= 0, dy, a * dy)
    da = in_shape_of(dy * below_zero(z), alpha.shape)
    return like(dx, jax.typeof(x)), like(da, jax.typeof(alpha))


@prelu.def_check
def _prelu_check(x, alpha):
    require_float("prelu", "x", x)
    require_float("prelu", "alpha", alpha)
    try:
        fits = jnp.broadcast_shapes(x.shape, alpha.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"prelu: alpha is {describe(alpha)}, and must broadcast to the shape of x, which is {describe(x)}; "
            "pass a scalar, or one alpha for each entry of the last axis"
        )


@elementwise(lambda x: jnp.clip(x, 0.0, 6.0), lambda y: _between(y, 0.0, 6.0), of_output=True)
def relu6(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""ReLU with a ceiling, :math:`\min(\max(x, 0), 6)`.

    Derivative: 1 where 0 < x < 6, else 0, also at both kinks.

    Args:
        x: floating point, any shape.

    Source: Krizhevsky 2010, *Convolutional Deep Belief Networks on CIFAR-10*; ``jax.nn.relu6``, ``torch.nn.ReLU6``.

    >>> relu6(jnp.array([-1.0, 2.0, 8.0])), jax.grad(relu6)(6.0)
    (Array([0., 2., 6.], dtype=float32), Array(0., dtype=float32))
    """
    x = jnp.asarray(x)
    return jnp.where(x > 0, jnp.where(x < 6, x, 6), 0)


@elementwise(lambda x: jnp.clip(x, -1.0, 1.0), lambda y: _between(y, -1.0, 1.0), of_output=True)
def hard_tanh(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Straight-line tanh, :math:`\min(\max(x, -1), 1)`.

    Derivative: 1 where -1 < x < 1, else 0, also at both kinks.

    Args:
        x: floating point, any shape.

    Source: ``jax.nn.hard_tanh``, ``torch.nn.Hardtanh``.

    >>> hard_tanh(jnp.array([-3.0, 0.5, 3.0])), jax.grad(hard_tanh)(1.0)
    (Array([-1. ,  0.5,  1. ], dtype=float32), Array(0., dtype=float32))
    """
    x = jnp.asarray(x)
    return jnp.where(x > -1, jnp.where(x < 1, x, 1), -1)


@elementwise(lambda x: jnp.clip(x + 3.0, 0.0, 6.0) / 6.0, lambda x: _between(x, -3.0, 3.0) * (1 / 6))
def hard_sigmoid(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Straight-line sigmoid, :math:`\min(\max(x + 3, 0), 6) / 6`.

    Derivative: 1/6 where -3 < x < 3, else 0, also at both kinks.

    Args:
        x: floating point, any shape.

    Source: Howard et al. 2019, *Searching for MobileNetV3*; ``jax.nn.hard_sigmoid``, ``torch.nn.Hardsigmoid``.

    >>> hard_sigmoid(jnp.array([-4.0, 0.0, 4.0])), jax.grad(hard_sigmoid)(3.0)
    (Array([0. , 0.5, 1. ], dtype=float32), Array(0., dtype=float32))
    """
    x = jnp.asarray(x)
    return jnp.where(x > -3, jnp.where(x < 3, (x + 3) / 6, 1), 0)


def _hard_swish_value(x):
    # x * hard_sigmoid(x) would be -inf * 0, which is nan, at -inf.
    return jnp.where(x <= -3.0, 0.0, x * (jnp.clip(x + 3.0, 0.0, 6.0) / 6.0))


def _hard_swish_slope(x):
    return jnp.where(x <= -3.0, 0.0, jnp.where(x >= 3.0, 1.0, (2.0 * x + 3.0) / 6.0))


@elementwise(_hard_swish_value, _hard_swish_slope)
def hard_swish(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Swish with the straight-line sigmoid, :math:`x \min(\max(x + 3, 0), 6) / 6`.

    Derivative: :math:`(2x + 3) / 6` where -3 < x < 3, else 0 on the left and 1 on the right, also at the kinks
    (where the limits from inside are -1/2 and 3/2).

    Args:
        x: floating point, any shape.

    Source: Howard et al. 2019, *Searching for MobileNetV3*; ``jax.nn.hard_swish``, ``torch.nn.Hardswish``.

    >>> hard_swish(jnp.array([-4.0, 1.5, 4.0])), jax.grad(hard_swish)(0.0)
    (Array([0.   , 1.125, 4.   ], dtype=float32), Array(0.5, dtype=float32))
    """
    x = jnp.asarray(x)
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, x, x * (x + 3) / 6))


def _between(y, low, high):
    return ((y > low) & (y < high)).astype(y.dtype)
