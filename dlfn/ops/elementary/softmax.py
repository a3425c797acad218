r"""Softmax, its logarithm and its normaliser.

All three shift by the largest entry, :math:`e_j = \exp(x_j - m)`, so that no exponential overflows, and compute half
types in float32. Infinite entries have their limits: a single +inf has probability 1, and a row of -inf, which has no
distribution, has softmax 0, log-sum-exp -inf and gradient 0. The same holds for an empty row.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_axes, require_axis, require_float, require_rank
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.platforms import ByPlatform
from dlfn.ops.support.scaled import or_one
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = ["log_softmax", "logsumexp", "softmax", "softmax_jacobian"]


@Op
def softmax(x: Float[ArrayLike, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    r"""Softmax along an axis, :math:`y_i = e^{x_i} / \sum_j e^{x_j}`.

    .. math::
        \frac{\partial y_i}{\partial x_j} = y_i (\delta_{ij} - y_j), \qquad
        \frac{\partial L}{\partial x} = y \odot \Big(\bar y - \sum_j \bar y_j y_j\Big)

    The backward pass keeps only y, even the smallest entries of which have all their digits. Where y is rounded to a
    half type, so that it does not sum to 1 exactly, dx is corrected to sum to 0. Where one entry of y is nearly 1, dx
    is far smaller than :math:`\bar y`, and its error is that of a rounding of :math:`\bar y`, as with
    :func:`jax.nn.softmax`. The loss ``softmax_cross_entropy`` keeps the digits there.

    Args:
        x: an array of at least one axis.
        axis: an int.

    Returns:
        Of the shape and dtype of x. A row of -inf gives 0.

    Raises:
        InputError: on a scalar or integer x, and an axis that x does not have.

    Source: Bridle 1990, *Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships
    to Statistical Pattern Recognition*; 000 sections 6 and 10, 001 section 5, 002 section 2.9, 004 numerical stability.

    >>> import jax.numpy as jnp
    >>> softmax(jnp.array([1000.0, 1000.0, -jnp.inf]))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    x = jnp.asarray(x)
    e = jnp.exp(x - jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmax.def_forward
def _softmax_forward(x, *, axis):
    y = _SOFTMAX(x, axis=axis)
    return y, y


@softmax.def_backward
def _softmax_backward(y, dy, *, axis):
    return (_SOFTMAX_GRADIENT(y, dy, axis=axis),)


@softmax.def_check
def _softmax_check(x, *, axis):
    _check("softmax", x)
    require_axis("softmax", x, axis)


def _softmax_on_cpus(x, *, axis):
    e = _exponentials(upcast(x), axis)[0]
    # There is one division per row: a division per entry would take a tenth of the time of the whole.
    return (e * (1 / or_one(jnp.sum(e, axis=axis, keepdims=True)))).astype(x.dtype)


def _softmax_on_accelerators(x, *, axis):
    """The same, with the cases of infinite entries decided entry by entry: XLA for GPUs makes one kernel of it, which
    reads x once, as long as nothing but reductions and their broadcasts is computed by rows."""
    if x.shape[axis] == 0:
        return NotImplemented
    z = jnp.minimum(upcast(x), jnp.finfo(upcast(x).dtype).max)
    e = jnp.where(z == -jnp.inf, 0, jnp.exp(z - jnp.max(z, axis=axis, keepdims=True)))
    # The largest exponential is 1, so that only the sum of a row of -inf is less.
    return (e / jnp.maximum(jnp.sum(e, axis=axis, keepdims=True), 1)).astype(x.dtype)


def _gradient_on_cpus(y, dy, *, axis):
    dtype = y.dtype
    y, dy = upcast(y, dy)
    # The sum is negated and added, because XLA on CPU then makes two loops, one for the sum and one for what follows.
    # Of a subtraction it makes a single loop, which is slower.
    dx = y * (dy + -jnp.sum(y * dy, axis=axis, keepdims=True))
    if y.dtype != dtype:
        # Rounded to few bits, y does not sum to 1 exactly, and so dx, as computed so far, not to 0.
        dx = dx - y * jnp.sum(dx, axis=axis, keepdims=True)
    return dx.astype(dtype)


def _gradient_on_accelerators(y, dy, *, axis):
    dtype = y.dtype
    y, dy = upcast(y, dy)
    along = jnp.sum(y * dy, axis=axis, keepdims=True)
    if y.dtype != dtype:  # the correction from above without another pass; a row of zeros stays one
        along = along * (2 - jnp.sum(y, axis=axis, keepdims=True))
    return (y * (dy - along)).astype(dtype)


_SOFTMAX = ByPlatform(_softmax_on_cpus, accelerator=_softmax_on_accelerators)
_SOFTMAX_GRADIENT = ByPlatform(_gradient_on_cpus, accelerator=_gradient_on_accelerators)


def softmax_jacobian(y: Float[ArrayLike, "*batch n"]) -> Float[Array, "*batch n n"]:
    r"""The Jacobian of softmax at its output, :math:`\operatorname{diag}(y) - y y^\top`.

    Args:
        y: (..., n), probabilities along the last axis.

    Returns:
        (..., n, n).

    Raises:
        InputError: on a scalar or integer y.

    Source: 000 section 6, 001 section 5.

    >>> import jax.numpy as jnp
    >>> softmax_jacobian(jnp.array([0.5, 0.5]))
    Array([[ 0.25, -0.25],
           [-0.25,  0.25]], dtype=float32)
    """
    y = jnp.asarray(y)
    require_float("softmax_jacobian", "y", y)
    require_rank("softmax_jacobian", "y", y, "an axis of probabilities")
    identity = jnp.expand_dims(jnp.eye(y.shape[-1], dtype=y.dtype), range(y.ndim - 1))
    return y[..., :, None] * (identity - y[..., None, :])


@Op
def log_softmax(x: Float[ArrayLike, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    r"""Logarithm of softmax along an axis, :math:`y_i = x_i - \log \sum_j e^{x_j}`.

    .. math::
        \frac{\partial L}{\partial x} = \bar y - \operatorname{softmax}(x) \sum_j \bar y_j

    The backward pass keeps x and two numbers per row, m and :math:`s = \sum_j e_j`. If it kept y alone, softmax would
    be :math:`e^y`, whose relative error is the rounding error of y: 3 % at y = -8 in bfloat16.

    Args:
        x: an array of at least one axis.
        axis: an int.

    Returns:
        Of the shape and dtype of x. A row of -inf gives -inf.

    Raises:
        InputError: on a scalar or integer x, and an axis that x does not have.

    Source: Blanchard, Higham & Higham 2021, *Accurately Computing the Log-Sum-Exp and Softmax Functions*; 000 sections
    7 and 11, 004 numerical stability.

    >>> import jax.numpy as jnp
    >>> log_softmax(jnp.array([1000.0, 0.0]))
    Array([    0., -1000.], dtype=float32)
    """
    x = jnp.asarray(x)
    shifted = x - jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=axis, keepdims=True))


@log_softmax.def_forward
def _log_softmax_forward(x, *, axis):
    z = upcast(x)
    e, m, top = _exponentials(z, axis)
    s = or_one(jnp.sum(e, axis=axis, keepdims=True))
    shifted = jnp.where(z == top, jnp.where(top == -jnp.inf, top, jnp.zeros_like(top)), z - top)
    return (shifted - jnp.log(s)).astype(x.dtype), (x, m, s)


@log_softmax.def_backward
def _log_softmax_backward(residuals, dy, *, axis):
    x, m, s = residuals
    z, dy = upcast(x, dy)
    e = jnp.exp(jnp.minimum(z, jnp.finfo(z.dtype).max) - m)
    dx = dy - e * (jnp.sum(dy, axis=axis, keepdims=True) / s)
    return (jnp.where(m == jnp.inf, jnp.zeros_like(dx), dx).astype(x.dtype),)


@log_softmax.def_check
def _log_softmax_check(x, *, axis):
    _check("log_softmax", x)
    require_axis("log_softmax", x, axis)


@Op
def logsumexp(
    x: Float[ArrayLike, "*shape"],
    weights: Float[ArrayLike, "*#shape"] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    keepdims: bool = False,
) -> Float[Array, "..."]:
    r"""Weighted log-sum-exp along axes, :math:`L = \log \sum_j b_j e^{x_j}`.

    .. math::
        \frac{\partial L}{\partial x_i} = b_i e^{x_i - L}, \qquad \frac{\partial L}{\partial b_i} = e^{x_i - L}

    Without weights every :math:`b_j = 1`, and the gradient is softmax. The backward pass keeps x, the weights, and per
    row m and :math:`s = \sum_j b_j e_j`, and not L, whose rounding error would become a relative error of
    :math:`e^{x - L}`.

    Entries of weight 0 do not count towards the maximum, but their weights do have gradients. Where the sum is 0, the
    value is -inf and all gradients are 0, by convention. A negative sum gives nan.

    Args:
        x: an array of at least one axis.
        weights: an array that broadcasts to the shape of x, or None.
        axis: an int, or a tuple of them.
        keepdims: whether to keep the reduced axes, with size 1.

    Returns:
        The shape of x without the axes, in the common dtype of x and weights.

    Raises:
        InputError: on a scalar or integer x, integer weights or ones that do not broadcast to x, and an axis that x
            does not have.

    Source: Blanchard, Higham & Higham 2021, *Accurately Computing the Log-Sum-Exp and Softmax Functions*; 000 sections
    7 and 11, 004 numerical stability.

    >>> import jax, jax.numpy as jnp
    >>> logsumexp(jnp.array([1000.0, 0.0]))
    Array(1000., dtype=float32)
    >>> jax.grad(logsumexp, argnums=1)(jnp.zeros(3), jnp.array([2.0, 0.0, 5.0]))
    Array([0.14285715, 0.14285715, 0.14285715], dtype=float32)
    """
    x = jnp.asarray(x)
    m = jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)
    e = jnp.exp(x - m) if weights is None else weights * jnp.exp(x - m)
    y = jnp.log(jnp.sum(e, axis=axis, keepdims=True)) + m
    return y if keepdims else jnp.squeeze(y, axis)


@logsumexp.def_forward
def _logsumexp_forward(x, weights, *, axis, keepdims):
    dtype = x.dtype if weights is None else jnp.result_type(x, weights)
    z, b = (upcast(x), None) if weights is None else upcast(x, weights)
    e, m, top = _exponentials(z, axis, None if b is None else b != 0)
    s = jnp.sum(e if b is None else b * _finite(e), axis=axis, keepdims=True)
    y = jnp.where(s == 0, -jnp.inf, top + jnp.log(or_one(s))).astype(dtype)
    return y if keepdims else jnp.squeeze(y, axis), (x, weights, m, or_one(s))


@logsumexp.def_backward
def _logsumexp_backward(residuals, dy, *, axis, keepdims):
    x, weights, m, s = residuals
    z, b = (upcast(x), None) if weights is None else upcast(x, weights)
    dy = dy.astype(z.dtype) if keepdims else jnp.expand_dims(dy.astype(z.dtype), axis)
    p = _finite(jnp.exp(jnp.minimum(z, jnp.finfo(z.dtype).max) - m)) * (dy / s)
    if weights is None:
        return p.astype(x.dtype), None
    return like(b * p, jax.typeof(x)), like(in_shape_of(p, weights.shape), jax.typeof(weights))


@logsumexp.def_check
def _logsumexp_check(x, weights, *, axis, keepdims):
    _check("logsumexp", x)
    require_axes("logsumexp", x, axis, all_by_none=False)
    if weights is None:
        return
    require_float("logsumexp", "weights", weights)
    try:
        fits = jnp.broadcast_shapes(x.shape, weights.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"logsumexp: weights is {describe(weights)}, and must broadcast to the shape of x, which is {describe(x)}"
        )


def _check(op, x):
    require_float(op, "x", x)
    require_rank(op, "x", x, "an axis to normalise over")


def _exponentials(x, axis, support=None):
    """exp(x - m), m, and the largest entry itself, of those in ``support`` if that is given.

    m is the largest entry, but x and m are cut to the largest finite number, as inf - inf would be nan, and m is inf
    where all entries are -inf, so that the exponentials are 0.
    """
    big = jnp.finfo(x.dtype).max
    top = x if support is None else jnp.where(support, x, -jnp.inf)
    top = lax.stop_gradient(jnp.max(top, axis=axis, keepdims=True, initial=-jnp.inf))
    m = jnp.where(top == -jnp.inf, jnp.inf, jnp.minimum(top, big))
    return jnp.exp(jnp.minimum(x, big) - m), m, top


def _finite(e):
    return jnp.minimum(e, jnp.finfo(e.dtype).max)
