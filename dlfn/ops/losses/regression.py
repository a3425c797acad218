r"""Elementwise losses of a prediction and a target: functions of their difference :math:`d = \hat y - y`.

All take ``reduction``: ``"mean"`` over the entries, their ``"sum"``, or ``"none"``. With f the function, the gradient
in the prediction is :math:`f'(d)`, over the number of entries for the mean, and in the target it is the same with the
other sign. The residual is d. They compute half types in float32 and return the common dtype of their arguments.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import require_float, require_number, require_same_shape
from dlfn.ops.support.dtypes import Static
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["huber", "log_cosh", "mae", "mse"]


@Op
def mse(
    prediction: Float[ArrayLike, "*shape"],
    target: Float[ArrayLike, "*shape"],
    *,
    half: bool = False,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""Squared error over all N entries, :math:`\frac1N \sum_i (\hat y_i - y_i)^2`, or with ``half`` 1/(2N) of the sum.

    .. math::
        \frac{\partial L}{\partial \hat y_i} = \frac2N (\hat y_i - y_i) = -\frac{\partial L}{\partial y_i},

    or :math:`\frac1N (\hat y_i - y_i)` with ``half``. 002 section 13.1 writes :math:`\frac2N (y_i - \hat y_i)`, with
    the wrong sign. The loss has the factor 1/N there and 1/(2N) in 001 section 2; hence the option.

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
    losses = (jnp.asarray(prediction) - jnp.asarray(target)) ** 2
    return reduce(losses / 2 if half else losses, reduction)


@mse.def_forward
def _mse_forward(prediction, target, *, half, reduction):
    return _forward(lambda d: d * d * (0.5 if half else 1.0), prediction, target, reduction)


@mse.def_backward
def _mse_backward(residuals, dy, *, half, reduction):
    return _backward(lambda d, weight: weight * (d * (1.0 if half else 2.0)), residuals, dy, reduction)


@mse.def_check
def _mse_check(prediction, target, *, half, reduction):
    _check("mse", prediction, target, reduction)
    if not isinstance(half, bool):
        raise InputError(f"mse: half is {half!r}, and must be True or False")


@Op
def mae(
    prediction: Float[ArrayLike, "*shape"], target: Float[ArrayLike, "*shape"], *, reduction: Reduction = "mean"
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""Absolute error, :math:`\frac1N \sum_i |d_i|`.

    Derivative: :math:`\operatorname{sign} d`, and 0 at d = 0.

    Args:
        prediction: :math:`\hat y`.
        target: :math:`y`, of the same shape.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, an unknown reduction, and a mean over nothing.

    Source: peers.

    >>> import jax, jax.numpy as jnp
    >>> prediction, target = jnp.array([1.0, 4.0]), jnp.array([1.0, 6.0])
    >>> print(mae(prediction, target), jax.grad(mae)(prediction, target))
    1.0 [ 0.  -0.5]
    """
    return reduce(jnp.abs(jnp.asarray(prediction) - jnp.asarray(target)), reduction)


@mae.def_forward
def _mae_forward(prediction, target, *, reduction):
    return _forward(jnp.abs, prediction, target, reduction)


@mae.def_backward
def _mae_backward(residuals, dy, *, reduction):
    return _backward(lambda d, weight: weight * jnp.sign(d), residuals, dy, reduction)


@mae.def_check
def _mae_check(prediction, target, *, reduction):
    _check("mae", prediction, target, reduction)


@Op
def huber(
    prediction: Float[ArrayLike, "*shape"],
    target: Float[ArrayLike, "*shape"],
    *,
    delta: float = 1.0,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""Huber's loss: :math:`\tfrac12 d^2` where :math:`|d| \le \delta`, else :math:`\delta (|d| - \tfrac12 \delta)`.

    Derivative: d, cut to :math:`[-\delta, \delta]`.

    Args:
        prediction: :math:`\hat y`.
        target: :math:`y`, of the same shape.
        delta: where the parabola becomes a line.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, a delta that is not positive, an unknown reduction, and a mean over
            nothing.

    Source: Huber 1964, *Robust Estimation of a Location Parameter*.

    >>> import jax, jax.numpy as jnp
    >>> prediction, target = jnp.array([0.5, 4.0]), jnp.zeros(2)
    >>> print(huber(prediction, target, reduction="none"), jax.grad(huber)(prediction, target))
    [0.125 3.5  ] [0.25 0.5 ]
    """
    d = jnp.abs(jnp.asarray(prediction) - jnp.asarray(target))
    return reduce(jnp.where(d <= delta, d**2 / 2, delta * (d - delta / 2)), reduction)


@huber.def_forward
def _huber_forward(prediction, target, *, delta, reduction):
    def value(d):
        t = jnp.abs(d)
        c = jnp.minimum(t, delta)
        return c * (t - 0.5 * c)

    return _forward(value, prediction, target, reduction)


@huber.def_backward
def _huber_backward(residuals, dy, *, delta, reduction):
    return _backward(lambda d, weight: weight * jnp.clip(d, -delta, delta), residuals, dy, reduction)


@huber.def_check
def _huber_check(prediction, target, *, delta, reduction):
    _check("huber", prediction, target, reduction)
    require_number("huber", "delta", delta, "a positive number", lambda number: 0 < number < math.inf)


@Op
def log_cosh(
    prediction: Float[ArrayLike, "*shape"], target: Float[ArrayLike, "*shape"], *, reduction: Reduction = "mean"
) -> Float[Array, ""] | Float[Array, "*shape"]:
    r"""The mean of :math:`\log \cosh d`, which is :math:`d^2 / 2` near 0 and :math:`|d| - \log 2` far from it.

    Derivative: :math:`\tanh d`.

    Args:
        prediction: :math:`\hat y`.
        target: :math:`y`, of the same shape.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the shape of the arguments.

    Raises:
        InputError: on different shapes, integers, an unknown reduction, and a mean over nothing.

    Source: peers.

    >>> import jax, jax.numpy as jnp
    >>> prediction, target = jnp.array([1e-2, 1000.0]), jnp.zeros(2)
    >>> print(log_cosh(prediction, target, reduction="none"), jax.grad(log_cosh)(prediction, target))
    [4.9999147e-05 9.9930682e+02] [0.00499983 0.5       ]
    """
    return reduce(jnp.log(jnp.cosh(jnp.asarray(prediction) - jnp.asarray(target))), reduction)


@log_cosh.def_forward
def _log_cosh_forward(prediction, target, *, reduction):
    def value(d):
        # cosh t is 1 + u²/2e and e^t (1 + e²)/2, with e = exp(-t) and u = 1 - e. The first keeps the digits of a small
        # t, the second does not overflow.
        _, t, u = _log_cosh_parts(d)
        e = 1 - u
        small = t < 1
        rest = jnp.log1p(jnp.where(small, u * u / (2 * e), e * e))
        return jnp.where(small, rest, (t - math.log(2)) + rest)

    return _forward(value, prediction, target, reduction)


@log_cosh.def_backward
def _log_cosh_backward(residuals, dy, *, reduction):
    def slope(d, weight):
        # tanh t is (1 - e²) / (1 + e²). The quotient comes last, since XLA on CPU does not compute a quotient twice,
        # but writes it to memory.
        side, _, u = _log_cosh_parts(d)
        return weight * side * (u * (2 - u)) / (1 + jnp.square(1 - u))

    return _backward(slope, residuals, dy, reduction)


@log_cosh.def_check
def _log_cosh_check(prediction, target, *, reduction):
    _check("log_cosh", prediction, target, reduction)


def _log_cosh_parts(d):
    """The sign of d as ±1; |d|; and 1 - exp(-|d|), which XLA computes once for value and gradient."""
    side = jnp.where(d < 0, -jnp.ones_like(d), jnp.ones_like(d))
    t = side * d  # unlike jnp.abs(d), this has a second derivative at 0
    return side, t, -jnp.expm1(-t)


def _forward(value, prediction, target, reduction):
    """The forward pass of the loss that is ``value(d)`` for the difference d."""
    kinds = jax.typeof(prediction), jax.typeof(target)
    dtype = jnp.result_type(prediction, target)
    prediction, target = upcast_alike(prediction, target)
    difference = prediction - target
    return reduce(value(difference), reduction).astype(dtype), (difference, Static(kinds))


def _backward(slope, residuals, dy, reduction):
    """The backward pass of the loss with ``slope(d, weight)``, its derivative times a weight."""
    difference, kinds = residuals
    weight = weight_of_each(dy, reduction, difference.shape, difference.dtype)
    dx = slope(difference, weight)
    return like(dx, kinds.value[0]), like(-dx, kinds.value[1])


def _check(op, prediction, target, reduction):
    require_float(op, "prediction", prediction)
    require_float(op, "target", target)
    require_same_shape(op, "prediction", prediction, "target", target)
    check_reduction(op, reduction, prediction.shape)
