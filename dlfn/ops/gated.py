r"""Gated linear units: an array times an activation of another, :math:`y = v \odot f(g)`.

.. math::
    \frac{\partial L}{\partial v} = \bar y \odot f(g), \qquad
    \frac{\partial L}{\partial g} = \bar y \odot v \odot f'(g)

The residuals are the two arguments; f and :math:`f'` share one exponential. Where both come out of one linear map,
split its output: the layers of :mod:`dlfn.nn.gated` do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.core import Op
from dlfn.ops import _elementwise as kernels
from dlfn.ops._common import like, require_float, require_same_shape, upcast_alike

__all__ = ["geglu", "glu", "swiglu"]


def _gated(activation: Callable[..., Any], slope: Callable[..., Any]) -> Callable[[Callable[..., Any]], Op]:
    def decorate(definition: Callable[..., Any]) -> Op:
        def forward(value, gate, **static):
            v, g = upcast_alike(value, gate)
            return (v * activation(g, **static)).astype(jnp.result_type(value, gate)), (value, gate)

        def backward(residuals, dy, **static):
            value, gate = residuals
            v, g = upcast_alike(value, gate)
            dy = dy.astype(v.dtype)
            dv, dg = dy * activation(g, **static), dy * v * slope(g, **static)
            return like(dv, jax.typeof(value)), like(dg, jax.typeof(gate))

        def check(value, gate):
            require_float(definition.__name__, "value", value)
            require_float(definition.__name__, "gate", gate)
            require_same_shape(definition.__name__, "value", value, "gate", gate)

        return Op(definition, forward, backward, check=check)

    return decorate


@_gated(kernels.sigmoid_value, kernels.sigmoid_slope)
def glu(value, gate):
    r"""Gated linear unit, :math:`v \odot \sigma(g)`.

    Args:
        value: floating point, any shape.
        gate: of the same shape.

    Returns:
        Of that shape, in the common dtype.

    Raises:
        InputError: on different shapes, and integers.

    Source: Dauphin, Fan, Auli, Grangier, "Language Modeling with Gated Convolutional Networks", 2017.

    >>> glu(jnp.array([2.0, 2.0]), jnp.array([0.0, 100.0]))
    Array([1., 2.], dtype=float32)
    """
    return value / (1 + jnp.exp(-gate))


@_gated(kernels.gelu_value, kernels.gelu_slope)
def geglu(value, gate, *, approximate=False):
    r"""Gated linear unit with GELU, :math:`v \odot g\,\Phi(g)`.

    Args:
        value: floating point, any shape.
        gate: of the same shape.
        approximate: GELU in its tanh form, as for ``gelu``.

    Returns:
        Of that shape, in the common dtype.

    Raises:
        InputError: on different shapes, and integers.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020.

    >>> print(f"{geglu(2.0, 1.0):.6f} {geglu(2.0, 1.0, approximate=True):.6f}")
    1.682689 1.682384
    """
    if approximate:
        return value * 0.5 * gate * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (gate + 0.044715 * gate**3)))
    return value * 0.5 * gate * (1 + jax.scipy.special.erf(gate / jnp.sqrt(2)))


@_gated(kernels.silu_value, kernels.silu_slope)
def swiglu(value, gate):
    r"""Gated linear unit with SiLU (swish), :math:`v \odot g\,\sigma(g)`.

    Args:
        value: floating point, any shape.
        gate: of the same shape.

    Returns:
        Of that shape, in the common dtype.

    Raises:
        InputError: on different shapes, and integers.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020.

    >>> print(f"{swiglu(2.0, 1.0):.6f}")
    1.462117
    """
    return value * gate / (1 + jnp.exp(-gate))
