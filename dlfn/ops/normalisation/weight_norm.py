r"""Normalisation of weights: by their length (weight norm) and by their largest singular value (spectral norm)."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.normalisation._moments import check_eps, dtypes
from dlfn.ops.support.arguments import describe, require_float, require_int, require_rank
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import inverse, inverse_length, product, sum_of_products
from dlfn.ops.support.sharding import is_explicit, like, upcast_alike

__all__ = ["spectral_norm", "spectral_quotient", "weight_norm"]


@Op
def weight_norm(
    v: Float[ArrayLike, "*shape"], g: Float[ArrayLike, " lengths"] | Float[ArrayLike, ""], *, axis: int | None = -1
) -> Float[Array, "*shape"]:
    r"""Weight norm, :math:`w = g\, v / \|v\|`, the norm over all axes but one.

    With :math:`u = v / \|v\|`, from :math:`d\|v\| = u \cdot dv`

    .. math::
        \frac{\partial L}{\partial g} = \bar w \cdot u, \qquad
        \frac{\partial L}{\partial v} = \frac g{\|v\|} \big( \bar w - u\, (\bar w \cdot u) \big)

    where the products :math:`\cdot` sum over the axes of the norm. A v of length 0 has no direction, and w and all
    gradients are 0 there, by convention. They are also 0 where the squares of v are out of float32's range: if an
    entry is beyond 1e19, or all are below 1e-19.

    Args:
        v: (..., out), a weight; for kernels H W I O.
        g: (out,), the lengths; a scalar where axis is None.
        axis: the axis of v along which each entry has a length of its own; None for a single length of all of v. The
            default is the last axis, that of the outputs. In PyTorch, where weights are (out, in), it is the first.

    Returns:
        Of the shape of v, in the common dtype of v and g.

    Raises:
        InputError: on arguments that are not floating point, an axis that v does not have, and a g of another shape.

    Source: Salimans & Kingma 2016, *Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep
    Neural Networks*.

    >>> import jax.numpy as jnp
    >>> print(weight_norm(jnp.array([[3.0, 0.0], [4.0, 2.0]]), jnp.array([10.0, 1.0])))
    [[6. 0.]
     [8. 1.]]
    """
    v = jnp.asarray(v)
    over = _others(v, axis)
    return jnp.expand_dims(g, over) * v / jnp.sqrt(jnp.sum(v**2, over, keepdims=True))


@weight_norm.def_forward
def _weight_norm_forward(v, g, *, axis):
    dtype, wide = dtypes(v, g)
    over = _others(v, axis)
    z = v.astype(wide)

    def total(products):
        return jnp.sum(products, over, keepdims=True)

    per = inverse_length(total, lambda r: r, z, total(z * z))
    w = z * (jnp.expand_dims(g.astype(wide), over) * per)
    return w.astype(dtype), (v, g, per)


@weight_norm.def_backward
def _weight_norm_backward(residuals, dw, *, axis):
    v, g, per = residuals
    over = _others(v, axis)
    z, dw = (array.astype(per.dtype) for array in upcast_alike(v, dw))
    along = sum_of_products(over, dw, z, per)
    dv = (jnp.expand_dims(g.astype(per.dtype), over) * per) * (dw - product(z, per, along))
    return like(dv, jax.typeof(v)), like(jnp.squeeze(along, over), jax.typeof(g))


@weight_norm.def_check
def _weight_norm_check(v, g, *, axis):
    require_float("weight_norm", "v", v)
    require_float("weight_norm", "g", g)
    if axis is not None:
        must_be = f"None or an axis of v, which is {describe(v)}"
        require_int("weight_norm", "axis", axis, must_be, lambda a: -v.ndim <= a < v.ndim)
    expected = () if axis is None else (v.shape[axis],)
    if g.shape != expected:
        raise InputError(
            f"weight_norm: g is {describe(g)}, and must have the shape {list(expected)}: a length for each entry of "
            f"axis {axis} of v, which is {describe(v)}"
        )


@Op
def spectral_quotient(
    w: Float[ArrayLike, "*rows out"], u: Float[ArrayLike, " out"], v: Float[ArrayLike, "*rows"]
) -> Float[Array, "*rows out"]:
    r"""A matrix divided by its bilinear form, :math:`w / \sigma` with :math:`\sigma = v^\top w u`.

    With the singular vectors of the largest singular value as u and v, this is spectral norm: see
    :func:`spectral_norm`. With :math:`\bar\sigma = -\sum \bar y \odot w / \sigma^2`,

    .. math::
        \frac{\partial L}{\partial w} = \frac{\bar y}{\sigma} + \bar\sigma\, v u^\top, \qquad
        \frac{\partial L}{\partial u} = \bar\sigma\, w^\top v, \qquad
        \frac{\partial L}{\partial v} = \bar\sigma\, w u.

    Where :math:`\sigma = 0`, value and gradients are 0, by convention.

    Args:
        w: (..., out). The leading axes are the rows of the matrix: (in, out), or H W I O.
        u: (out,).
        v: of the shape of w without the last axis.

    Returns:
        Of the shape and dtype of w.

    Raises:
        InputError: on arguments that are not floating point, a scalar w, and shapes that do not fit.

    Source: Miyato, Kataoka, Koyama & Yoshida 2018, *Spectral Normalization for Generative Adversarial
    Networks*.

    >>> import jax.numpy as jnp
    >>> print(spectral_quotient(jnp.diag(jnp.array([2.0, 1.0])), jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0])))
    [[1.  0. ]
     [0.  0.5]]
    """
    w, u, v = jnp.asarray(w), jnp.asarray(u), jnp.asarray(v)
    return (w / jnp.sum(v[..., None] * w * u)).astype(w.dtype)


@spectral_quotient.def_forward
def _spectral_quotient_forward(w, u, v):
    wide = dtypes(w, u, v)[1]
    z = w.astype(wide)
    image = _times(z, u.astype(wide))
    sigma = jnp.sum(v.astype(wide) * image)
    per = inverse(sigma)
    return (z * per).astype(w.dtype), (w, u, v, image, per)


@spectral_quotient.def_backward
def _spectral_quotient_backward(residuals, dy):
    w, u, v, image, per = residuals
    z, dy = (array.astype(per.dtype) for array in upcast_alike(w, dy))
    right, left = u.astype(per.dtype), v.astype(per.dtype)
    slope = -jnp.squeeze(sum_of_products(None, dy, z, per)) * per
    return (
        like(dy * per + left[..., None] * (slope * right), jax.typeof(w)),
        like(slope * _transposed_times(z, left), jax.typeof(u)),
        like(slope * image, jax.typeof(v)),
    )


@spectral_quotient.def_check
def _spectral_quotient_check(w, u, v):
    op = "spectral_quotient"
    for name, value in (("w", w), ("u", u), ("v", v)):
        require_float(op, name, value)
    require_rank(op, "w", w, "an axis of outputs")
    for name, value, shape in (("u", u, w.shape[-1:]), ("v", v, w.shape[:-1])):
        if value.shape != shape:
            raise InputError(
                f"{op}: {name} is {describe(value)}, and must have the shape {list(shape)}, as w is {describe(w)}"
            )


def spectral_norm(
    w: Float[ArrayLike, "*rows out"], u: Float[ArrayLike, " out"], *, iterations: int = 1, eps: float = 1e-12
) -> tuple[Float[Array, "*rows out"], Float[Array, " out"]]:
    r"""Spectral norm: a weight divided by an estimate of its largest singular value. Also returns the next start of the
    estimate.

    Each iteration is :math:`v \leftarrow w u / \|w u\|`, :math:`u \leftarrow w^\top v / \|w^\top v\|`, and
    :math:`\sigma = v^\top w u`. u and v count as constants in gradients, as in the paper and in PyTorch. That is exact
    once they have converged: there the singular value does not change with them, to first order.

    Args:
        w: (..., out). The leading axes are the rows of the matrix: (in, out), or H W I O.
        u: (out,), of length 1: a random direction at first, then what the last call returned.
        iterations: how many to make in this call; 0 to use u as it is, at inference.
        eps: a lower bound for the lengths that are divided by.

    Returns:
        w/σ of the shape and dtype of w, and the new u.

    Raises:
        InputError: on arguments that are not floating point, a scalar w, a u of another shape than (out,), and
            iterations that are no number of times.

    Source: Miyato, Kataoka, Koyama & Yoshida 2018, *Spectral Normalization for Generative Adversarial
    Networks*.

    >>> import jax.numpy as jnp
    >>> w, u = spectral_norm(jnp.array([[3.0, 0.0], [0.0, 1.0]]), jnp.array([0.6, 0.8]), iterations=20)
    >>> print(w.round(4), u.round(4))
    [[1.     0.    ]
     [0.     0.3333]] [1. 0.]
    """
    w, u = jnp.asarray(w), jnp.asarray(u)
    require_float("spectral_norm", "w", w)
    require_float("spectral_norm", "u", u)
    require_rank("spectral_norm", "w", w, "an axis of outputs")
    if u.shape != w.shape[-1:]:
        raise InputError(
            f"spectral_norm: u is {describe(u)}, and must have the shape {list(w.shape[-1:])}, as w is {describe(w)}"
        )
    require_int("spectral_norm", "iterations", iterations, "a whole number >= 0", lambda number: number >= 0)
    check_eps("spectral_norm", eps)
    wide = dtypes(w, u)[1]
    matrix, right = lax.stop_gradient((w.astype(wide), u.astype(wide)))
    left = _direction(_times(matrix, right), eps)
    for i in range(iterations):
        left = left if i == 0 else _direction(_times(matrix, right), eps)
        right = _direction(_transposed_times(matrix, left), eps)
    return spectral_quotient(w, right, left), right.astype(u.dtype)


def _others(v, axis):
    return tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)


def _times(w, u):
    return jnp.matmul(w, u, precision="highest")


def _transposed_times(w, v):
    if is_explicit(w, v):  # a contraction over sharded axes has to be given the sharding of its result
        return jnp.sum(w * v[..., None], tuple(range(v.ndim)))
    return jnp.tensordot(v, w, v.ndim, precision="highest")


def _direction(x, eps):
    return x / jnp.maximum(jnp.sqrt(jnp.sum(x * x)), eps)
