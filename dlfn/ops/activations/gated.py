r"""Gated linear units: an array times an activation of another, :math:`y = v \odot f(g)`.

.. math::
    \frac{\partial L}{\partial v} = \bar y \odot f(g), \qquad
    \frac{\partial L}{\partial g} = \bar y \odot v \odot f'(g)

The residuals are the two arguments. y, :math:`\bar v` and :math:`\bar g` share one exponential, and the quotient in
which it appears. Where value and gate are computed by one linear map, split its output in two, as the layers of
:mod:`dlfn.nn.gated` do.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.activations import kernels
from dlfn.ops.support.arguments import require_float, require_same_shape
from dlfn.ops.support.exponential import bound, by_dtype, headroom, magnitude
from dlfn.ops.support.op import Op, P, R
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["geglu", "glu", "swiglu"]

Kernel = Callable[..., jax.Array]


def _gated(
    tail: Callable[..., jax.Array | None], activation: Kernel, slope: Kernel
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """A decorator that makes an Op of a definition, given f and f′. Both take g and ``tail(g)``, the part they share.

    A tail ends with a division. XLA on CPU does not repeat a division for each of its uses, so that the division, and
    the exponential in it, is computed once for y and both gradients.
    """

    def decorate(definition: Callable[P, R]) -> Op[P, R]:
        def forward(value, gate, **static):
            v, g = upcast_alike(value, gate)
            y = v * activation(g, tail(g, **static), **static)
            return y.astype(jnp.result_type(value, gate)), (value, gate)

        def backward(residuals, dy, **static):
            value, gate = residuals
            v, g = upcast_alike(value, gate)
            dy, shared = dy.astype(v.dtype), tail(g, **static)
            dv, dg = dy * activation(g, shared, **static), dy * v * slope(g, shared, **static)
            return like(dv, jax.typeof(value)), like(dg, jax.typeof(gate))

        def check(value, gate):
            require_float(definition.__name__, "value", value)
            require_float(definition.__name__, "gate", gate)
            require_same_shape(definition.__name__, "value", value, "gate", gate)

        return Op(definition, forward, backward, check=check)

    return decorate


def _signed_tail(g):
    """sigmoid(-|g|) with the sign bit of -g, which tells the sign of g even where this is 0, without g being read."""
    _, _, e = kernels.sigmoid_parts(g)
    return jnp.where(g < 0, e, -e) / (1.0 + e)


def _sigmoid(_, tail):
    bits = lax.bitcast_convert_type(tail, by_dtype(tail, jnp.int32, jnp.int64))
    return jnp.where(bits < 0, 1.0 + tail, tail)


def _sigmoid_slope(_, tail):
    tail = jnp.abs(tail)
    return tail * (1.0 - tail)


@_gated(_signed_tail, _sigmoid, _sigmoid_slope)
def glu(value: Float[ArrayLike, "*shape"], gate: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Gated linear unit, :math:`v \odot \sigma(g)`.

    .. math::
        \frac{\partial L}{\partial v} = \bar y \odot \sigma(g), \qquad
        \frac{\partial L}{\partial g} = \bar y \odot v \odot \sigma(g) \odot \sigma(-g)

    Args:
        value: floating point, any shape.
        gate: of the same shape.

    Returns:
        Of that shape, in the common dtype.

    Raises:
        InputError: on different shapes, and integers.

    Source: Dauphin, Fan, Auli & Grangier 2017, *Language Modeling with Gated Convolutional Networks*.

    >>> glu(jnp.array([2.0, 2.0]), jnp.array([0.0, 100.0]))
    Array([1., 2.], dtype=float32)
    """
    value, gate = jnp.asarray(value), jnp.asarray(gate)
    return value / (1 + jnp.exp(-gate))


def _gelu_tail(g, *, approximate):
    return kernels.gelu_tanh_tail(g) if approximate else None


def _gelu(g, tail, *, approximate):
    if not approximate:
        return kernels.gelu_erf_value(g)
    return kernels.gated_by(g, kernels.gelu_tanh_size(g), tail)


def _gelu_slope(g, tail, *, approximate):
    if not approximate:
        return kernels.gelu_erf_slope(g)
    # With q = sigmoid(-u) and u = t * (a + b*t*t), f'(-t) = q * (1 - growth * (1 - q)), where growth = t * du/dt.
    a, b = kernels.GELU_TANH
    t, q = kernels.gelu_tanh_size(g), tail * (1.0 / headroom(g))
    growth = t * (a + (3.0 * b) * (t * t))
    return kernels.mirrored(g, tail * ((1.0 - growth) + growth * q))


@_gated(_gelu_tail, _gelu, _gelu_slope)
def geglu(
    value: Float[ArrayLike, "*shape"], gate: Float[ArrayLike, "*shape"], *, approximate: bool = False
) -> Float[Array, "*shape"]:
    r"""Gated linear unit with GELU, :math:`v \odot g\,\Phi(g)`.

    .. math::
        \frac{\partial L}{\partial v} = \bar y \odot g\,\Phi(g), \qquad
        \frac{\partial L}{\partial g} = \bar y \odot v \odot (\Phi(g) + g \varphi(g))

    Args:
        value: floating point, any shape.
        gate: of the same shape.
        approximate: whether to use GELU in its tanh form, as in ``gelu``. For speed, here the exponent is rounded to
            one number: where the gate is nearly shut, results are off by up to 30 ULP at g = -5, 200 at -12, and more
            beyond.

    Returns:
        Of that shape, in the common dtype.

    Raises:
        InputError: on different shapes, and integers.

    Source: Shazeer 2020, *GLU Variants Improve Transformer*.

    >>> print(f"{geglu(2.0, 1.0):.6f} {geglu(2.0, 1.0, approximate=True):.6f}")
    1.682689 1.682384
    """
    value, gate = jnp.asarray(value), jnp.asarray(gate)
    if approximate:
        return value * 0.5 * gate * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (gate + 0.044715 * gate**3)))
    return value * 0.5 * gate * (1 + jax.scipy.special.erf(gate / jnp.sqrt(2)))


def _silu(g, tail):
    return kernels.gated_by(g, magnitude(g, bound(g)), tail)


def _silu_slope(g, tail):
    # f'(-t) = q * (1 - t * (1 - q)) with q = sigmoid(-t); 1 - t is exact near the zero of f'.
    t, q = magnitude(g, bound(g)), tail * (1.0 / headroom(g))
    return kernels.mirrored(g, tail * ((1.0 - t) + t * q))


@_gated(kernels.silu_tail, _silu, _silu_slope)
def swiglu(value: Float[ArrayLike, "*shape"], gate: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Gated linear unit with SiLU (swish), :math:`v \odot g\,\sigma(g)`.

    .. math::
        \frac{\partial L}{\partial v} = \bar y \odot g\,\sigma(g), \qquad
        \frac{\partial L}{\partial g} = \bar y \odot v \odot \sigma(g) (1 + g \sigma(-g))

    Args:
        value: floating point, any shape.
        gate: of the same shape.

    Returns:
        Of that shape, in the common dtype.

    Raises:
        InputError: on different shapes, and integers.

    Source: Shazeer 2020, *GLU Variants Improve Transformer*.

    >>> print(f"{swiglu(2.0, 1.0):.6f}")
    1.462117
    """
    value, gate = jnp.asarray(value), jnp.asarray(gate)
    return value * gate / (1 + jnp.exp(-gate))
