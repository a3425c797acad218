r"""Sigmoid, tanh, ReLU, GELU and their relatives, with derivatives exact to a few units in the last place.

Every backward pass is :math:`\bar x = \bar y f'(x)`. The residual is x (but for ``relu``), because the output of a
saturated sigmoid or tanh no longer has the digits of its derivative. The formulas for the values and for :math:`f'` are
in :mod:`dlfn.ops.activations.kernels`. Half types are computed in float32.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.activations import kernels
from dlfn.ops.activations._builder import elementwise
from dlfn.ops.support.arguments import require_float
from dlfn.ops.support.op import Op

__all__ = ["gelu", "log_sigmoid", "mish", "relu", "sigmoid", "silu", "softplus", "softsign", "squareplus", "tanh"]


@elementwise(kernels.sigmoid_value, kernels.sigmoid_slope)
def sigmoid(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Logistic sigmoid, :math:`\sigma(x) = 1 / (1 + e^{-x})`.

    Derivative: :math:`\sigma'(x) = \sigma(x)(1 - \sigma(x))`, computed as :math:`e / (1 + e)^2` with
    :math:`e = e^{-|x|}`, because the difference is 0 in float32 from x = 17 on.

    Args:
        x: floating point, any shape.

    Source: 000 section 3, 001 section 3, 002 section 2.1, 003 section 2.

    >>> print(f"{sigmoid(1.0):.3f} {jax.grad(sigmoid)(1.0):.3f} {jax.grad(sigmoid)(20.0):.3e}")
    0.731 0.197 2.061e-09
    """
    x = jnp.asarray(x)
    return 1 / (1 + jnp.exp(-x))


@elementwise(kernels.tanh_value, kernels.tanh_slope)
def tanh(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Hyperbolic tangent, :math:`\tanh x = (e^x - e^{-x}) / (e^x + e^{-x}) = 2 \sigma(2x) - 1`.

    Derivative: :math:`1 - \tanh^2 x`, computed without that difference as :math:`4 e / (1 + e)^2` with
    :math:`e = e^{-2|x|}`.

    Args:
        x: floating point, any shape.

    Source: 000 section 3, 002 section 2.2.

    >>> print(f"{tanh(0.5):.6f} {jax.grad(tanh)(8.0):.3e}")
    0.462117 4.501e-07
    """
    x = jnp.asarray(x)
    return 2 / (1 + jnp.exp(-2 * x)) - 1


@Op
def relu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Rectified linear unit, :math:`\max(0, x)`.

    Derivative: 1 where x > 0, else 0; at x = 0 it is 0, as the documents choose. The residual is the output, which the
    next layer keeps anyway.

    Args:
        x: floating point, any shape.

    Source: Nair & Hinton 2010, *Rectified Linear Units Improve Restricted Boltzmann Machines*; 000 section 3, 001
    section 8, 002 section 2.3, 003 section 2.

    >>> relu(jnp.array([-1.0, 0.0, 2.0])), jax.grad(relu)(0.0)
    (Array([0., 0., 2.], dtype=float32), Array(0., dtype=float32))
    """
    x = jnp.asarray(x)
    return jnp.where(x > 0, x, 0)


@relu.def_forward
def _relu_forward(x):
    y = jnp.maximum(x, 0.0)
    return y, y


@relu.def_backward
def _relu_backward(y, dy):
    return (jnp.where(y > 0, dy, 0),)


@relu.def_check
def _relu_check(x):
    require_float("relu", "x", x)


@elementwise(kernels.silu_value, kernels.silu_slope)
def silu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Sigmoid linear unit (swish), :math:`x \, \sigma(x)`.

    Derivative: :math:`\sigma(x) + x \sigma(x) (1 - \sigma(x)) = \sigma(x) (1 + x \sigma(-x))`. It is finite at
    :math:`\pm\infty`, where it is 0 and 1.

    Args:
        x: floating point, any shape.

    Source: Hendrycks & Gimpel 2016, *Gaussian Error Linear Units (GELUs)*, which names it, and Elfwing, Uchibe & Doya
    2018, *Sigmoid-Weighted Linear Units for Neural Network Function Approximation in Reinforcement Learning*; 002
    section 2.7.

    >>> print(f"{silu(1.0):.4f} {jax.grad(silu)(1.0):.4f} {jax.grad(silu)(jnp.inf):.0f}")
    0.7311 0.9277 1
    """
    x = jnp.asarray(x)
    return x / (1 + jnp.exp(-x))


@elementwise(kernels.softplus_value, kernels.softplus_slope)
def softplus(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Smooth ReLU, :math:`\ln(1 + e^x) = \max(x, 0) + \ln(1 + e^{-|x|})`.

    Derivative: :math:`\sigma(x)`.

    Args:
        x: floating point, any shape.

    Source: Dugas et al. 2000, *Incorporating Second-Order Functional Knowledge for Better Option Pricing*; 002 section
    2.8.

    >>> print(f"{softplus(0.0):.6f} {softplus(100.0):.0f} {jax.grad(softplus)(100.0):.0f}")
    0.693147 100 1
    """
    return jnp.log(1 + jnp.exp(x))


@elementwise(kernels.gelu_value, kernels.gelu_slope)
def gelu(x: Float[ArrayLike, "*shape"], *, approximate: bool = False) -> Float[Array, "*shape"]:
    r"""Gaussian error linear unit, :math:`x \Phi(x) = \tfrac x2 (1 + \operatorname{erf}(x / \sqrt 2))`.

    With ``approximate`` the tanh form, :math:`\tfrac x2 (1 + \tanh u)`, :math:`u = \sqrt{2 / \pi} (x + 0.044715 x^3)`.
    (Document 000 prints 0.0447; the published constant is 0.044715.)

    Derivative: :math:`\Phi(x) + x \varphi(x)`, and
    :math:`\tfrac12 (1 + \tanh u) + \tfrac x2 \operatorname{sech}^2(u) u'`.
    For x < 0 the two terms cancel; their common factor is taken out of the sum, so that the tail keeps its digits.

    Args:
        x: floating point, any shape.
        approximate: whether to use the tanh form. Off by default, as in PyTorch; in ``jax.nn.gelu`` it is on.

    Source: Hendrycks & Gimpel 2016, *Gaussian Error Linear Units (GELUs)*; 002 section 2.6, 000 section 3.

    >>> print(f"{gelu(1.0):.6f} {gelu(1.0, approximate=True):.6f} {jax.grad(gelu)(-10.0):.4e}")
    0.841345 0.841192 -7.6184e-22
    """
    x = jnp.asarray(x)
    if approximate:
        return 0.5 * x * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + jax.scipy.special.erf(x / jnp.sqrt(2)))


@elementwise(kernels.log_sigmoid_value, kernels.log_sigmoid_slope)
def log_sigmoid(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Logarithm of the sigmoid, :math:`\ln \sigma(x) = -\ln(1 + e^{-x}) = \min(x, 0) - \ln(1 + e^{-|x|})`.

    Derivative: :math:`\sigma(-x)`.

    Args:
        x: floating point, any shape.

    Source: ``jax.nn.log_sigmoid``, ``torch.nn.LogSigmoid``.

    >>> print(f"{log_sigmoid(0.0):.6f} {log_sigmoid(-100.0):.0f} {jax.grad(log_sigmoid)(20.0):.3e}")
    -0.693147 -100 2.061e-09
    """
    x = jnp.asarray(x)
    return -jnp.log(1 + jnp.exp(-x))


@elementwise(kernels.mish_value, kernels.mish_slope)
def mish(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Mish, :math:`x \tanh(\operatorname{softplus} x)`.

    With :math:`w = e^x`, :math:`\tanh(\operatorname{softplus} x) = (w^2 + 2w) / (w^2 + 2w + 2)`, and the derivative is

    .. math::
        f'(x) = \frac{w (w^3 + 4 w^2 + 6 w + 4 + 4 x (w + 1))}{(w^2 + 2 w + 2)^2},

    which for x > 0 is evaluated in powers of :math:`e^{-x}`. It is finite at :math:`\pm\infty`, where it is 0 and 1.

    Args:
        x: floating point, any shape.

    Source: Misra 2019, *Mish: A Self Regularized Non-Monotonic Activation Function*.

    >>> print(f"{mish(1.0):.6f} {jax.grad(mish)(1.0):.6f} {jax.grad(mish)(jnp.inf):.0f}")
    0.865098 1.049036 1
    """
    x = jnp.asarray(x)
    return x * jnp.tanh(jnp.log(1 + jnp.exp(x)))


@elementwise(kernels.softsign_value, kernels.softsign_slope)
def softsign(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Softsign, :math:`x / (1 + |x|)`.

    Derivative: :math:`1 / (1 + |x|)^2`. The numerator of the quotient rule is
    :math:`(1 + |x|) - x \operatorname{sign} x = 1`; computed as that difference it would have no correct digits for a
    large x.

    Args:
        x: floating point, any shape.

    Source: Turian, Bergstra & Bengio 2009, *Quadratic Features and Deep Architectures for Chunking*;
    ``jax.nn.soft_sign``, ``torch.nn.Softsign``.

    >>> print(f"{softsign(-3.0):.2f} {jax.grad(softsign)(-3.0):.4f} {jax.grad(softsign)(1e15):.0e}")
    -0.75 0.0625 1e-30
    """
    x = jnp.asarray(x)
    return x / (1 + jnp.abs(x))


@elementwise(kernels.squareplus_value, kernels.squareplus_slope, positive="its limit at 0 is relu")
def squareplus(x: Float[ArrayLike, "*shape"], *, b: float = 4.0) -> Float[Array, "*shape"]:
    r"""Squareplus, a smooth ReLU without exponentials, :math:`\tfrac12 (x + r)` with :math:`r = \sqrt{x^2 + b}`.

    Derivative: :math:`\tfrac12 (1 + x / r)`. For x < 0 this sum and that of the value cancel. Because
    :math:`r^2 - x^2 = b`, they equal :math:`b / (2 r (r - x))` and :math:`b / (2 (r - x))`.

    Args:
        x: floating point, any shape.
        b: a positive number: the square of twice the value at 0.

    Raises:
        InputError: on a b that is no positive number. At b = 0 this would be ``relu``.

    Source: Barron 2021, *Squareplus: A Softplus-Like Algebraic Rectifier*.

    >>> print(f"{squareplus(0.0):.0f} {jax.grad(squareplus)(-10.0):.6f} {jax.grad(squareplus)(1.9e19):.0f}")
    1 0.009710 1
    """
    x = jnp.asarray(x)
    return (x + jnp.sqrt(x * x + b)) / 2
