r"""Exponential linear units: the identity for x > 0, and an exponential that saturates for x < 0.

The derivative of the exponential part is computed from x as :math:`\alpha e^x`. From the output it would be
``alpha + y``, which has lost its digits where y is close to :math:`-\alpha`.
"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.activations._builder import elementwise
from dlfn.ops.support.exponential import bound, exp_neg, expm1_neg, headroom, quotient

__all__ = ["celu", "elu", "selu"]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934


def _elu_value(x, *, alpha):
    t = _negative_part(x, bound(x))
    return jnp.where(x > 0, x, alpha * expm1_neg(t))


def _elu_slope(x, *, alpha):
    t = _negative_part(x, bound(x))
    # exp(-t) is taken times headroom, since alpha * exp(-t) can be a normal number where exp(-t) is none.
    return jnp.where(x > 0, 1.0, exp_neg(t)[1] * (alpha / headroom(x)))


@elementwise(_elu_value, _elu_slope)
def elu(x: Float[ArrayLike, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    r"""Exponential linear unit, x for x > 0, else :math:`\alpha (e^x - 1)`.

    Derivative: 1 for x > 0, else :math:`\alpha e^x`; at x = 0 it is :math:`\alpha`, as in PyTorch.

    Args:
        x: floating point, any shape.
        alpha: a number. The limit at :math:`-\infty` is minus this.

    Raises:
        InputError: on an alpha that is no finite number.

    Source: Clevert, Unterthiner & Hochreiter 2016, *Fast and Accurate Deep Network Learning by Exponential Linear
    Units (ELUs)*.

    >>> import jax
    >>> print(f"{elu(-1.0):.6f} {jax.grad(elu)(-20.0):.4e} {jax.grad(elu)(0.0):.0f}")
    -0.632121 2.0612e-09 1
    """
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, alpha * (jnp.exp(jnp.minimum(x, 0)) - 1))


def _selu_value(x):
    t = _negative_part(x, bound(x))
    return jnp.where(x > 0, _SELU_SCALE * x, (_SELU_SCALE * _SELU_ALPHA) * expm1_neg(t))


def _selu_slope(x):
    t = _negative_part(x, bound(x))
    return jnp.where(x > 0, _SELU_SCALE, exp_neg(t)[1] * (_SELU_SCALE * _SELU_ALPHA / headroom(x)))


@elementwise(_selu_value, _selu_slope)
def selu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Scaled exponential linear unit, :math:`\lambda x` for x > 0, else :math:`\lambda \alpha (e^x - 1)`.

    The constants :math:`\lambda = 1.0507009873554805` and :math:`\alpha = 1.6732632423543772` keep zero mean and unit
    variance from layer to layer. Derivative: :math:`\lambda` for x > 0, else :math:`\lambda \alpha e^x`, also at x = 0.

    Args:
        x: floating point, any shape.

    Source: Klambauer, Unterthiner, Mayr & Hochreiter 2017, *Self-Normalizing Neural Networks*.

    >>> import jax, jax.numpy as jnp
    >>> print(f"{selu(1.0):.6f} {selu(-jnp.inf):.6f} {jax.grad(selu)(-1.0):.6f}")
    1.050701 -1.758099 0.646769
    """
    x = jnp.asarray(x)
    return _SELU_SCALE * jnp.where(x > 0, x, _SELU_ALPHA * (jnp.exp(jnp.minimum(x, 0)) - 1))


def _celu_value(x, *, alpha):
    t = _negative_part(x, bound(x) * alpha)
    return jnp.where(x > 0, x, alpha * expm1_neg(*quotient(t, alpha)))


def _celu_slope(x, *, alpha):
    t = _negative_part(x, bound(x) * alpha)
    return jnp.where(x > 0, 1.0, exp_neg(*quotient(t, alpha))[0])


@elementwise(_celu_value, _celu_slope, positive="its limit at 0 is relu")
def celu(x: Float[ArrayLike, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    r"""Continuously differentiable exponential linear unit, x for x > 0, else :math:`\alpha (e^{x / \alpha} - 1)`.

    Derivative: 1 for x > 0, else :math:`e^{x / \alpha}`. The quotient :math:`x / \alpha` is held as a sum of two
    numbers, because its rounding error, which grows with it, would become the relative error of the exponential.

    Args:
        x: floating point, any shape.
        alpha: a positive number.

    Raises:
        InputError: on an alpha that is no positive number. At alpha = 0 this would be ``relu``.

    Source: Barron 2017, *Continuously Differentiable Exponential Linear Units*.

    >>> import jax
    >>> print(f"{celu(-1.0, alpha=2.0):.6f} {jax.grad(celu)(-1.0):.6f}")
    -0.786939 0.367879
    """
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, alpha * (jnp.exp(jnp.minimum(x, 0) / alpha) - 1))


def _negative_part(x, limit):
    """-x where x is negative, up to the limit, and 0 elsewhere."""
    return jnp.minimum(jnp.where(x < 0, -x, 0.0), limit)
