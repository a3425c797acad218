r"""Euclidean norms and the cosine of an angle, safe at 0 and at the ends of the range.

Where squares over- or underflow, arrays are first divided by a power of two near their largest entry; half types are
squared and summed in float32. A vector of zeros has no direction, and its gradient is 0 by convention.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PyTree

from dlfn.core import InputError
from dlfn.ops.support.arguments import axes_of, require_axes, require_float, require_rank, require_same_shape
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import direction, finite, fitting, in_range, largest, lengths, or_one, root
from dlfn.ops.support.sharding import like, upcast_alike

__all__ = ["cosine_similarity", "global_norm", "norm"]


@Op
def norm(
    x: Float[ArrayLike, "*shape"], *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Float[Array, "..."]:
    r"""Euclidean norm, :math:`y = \sqrt{\sum_i x_i^2}`.

    .. math::
        \frac{\partial L}{\partial x} = \bar y\, \frac{x}{y}, \qquad 0 \text{ where } y = 0.

    The backward pass keeps x and two numbers per norm. Where one entry is infinite the gradients are the limits: 1 or
    -1 for that entry, and 0 for the finite ones.

    Args:
        x: floating point, any shape.
        axis: an int, a tuple of them, or None for all axes.
        keepdims: whether to keep the reduced axes, with size 1.

    Returns:
        Of the shape of x without the axes that it is taken over, or with size 1 there.

    Raises:
        InputError: on integers, and an axis that x does not have.

    Source: 004 numerical stability; peers.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([0.0, -4e20])
    >>> print(norm(x), jax.grad(norm)(x), jax.grad(norm)(jnp.zeros(2)))
    4e+20 [ 0. -1.] [0. 0.]
    """
    x = jnp.asarray(x)
    return jnp.sqrt(jnp.sum(x**2, axis, keepdims=keepdims))


@norm.def_forward
def _norm_forward(x, *, axis, keepdims):
    axes = axes_of(axis, x.ndim)
    y, k, r = lengths([upcast(x)], axes)
    y = y.astype(x.dtype)
    return y if keepdims else jnp.squeeze(y, axes), (x, k, r)


@norm.def_backward
def _norm_backward(residuals, dy, *, axis, keepdims):
    x, k, r = residuals
    dy = upcast(dy)
    dy = dy if keepdims else jnp.expand_dims(dy, axes_of(axis, x.ndim))
    return (like(dy * direction(upcast(x), k, r), jax.typeof(x)),)


@norm.def_check
def _norm_check(x, *, axis):
    require_float("norm", "x", x)
    require_axes("norm", x, axis)


@Op
def global_norm(tree: PyTree[Float[ArrayLike, "..."]]) -> Float[Array, ""]:
    r"""Euclidean norm of all entries of all arrays of a pytree, as of a gradient, :math:`y = \sqrt{\sum_i x_i^2}`.

    The gradient is :math:`\bar y\, x / y`, that of :func:`norm` of all entries as one vector, and 0 where they all
    are 0.

    Args:
        tree: floating-point arrays.

    Returns:
        A scalar in the arrays' common dtype.

    Raises:
        InputError: on a tree without arrays, and an array that is not floating point.

    Source: Pascanu, Mikolov & Bengio 2013, *On the Difficulty of Training Recurrent Neural Networks* (gradient
    clipping); 004 optimization.

    >>> import jax, jax.numpy as jnp
    >>> tree = {"w": jnp.array([[3.0, 0.0]]), "b": jnp.array([4.0])}
    >>> print(global_norm(tree), jax.grad(global_norm)(tree)["w"])
    5.0 [[0.6 0. ]]
    """
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


@global_norm.def_forward
def _global_norm_forward(tree):
    leaves = jax.tree.leaves(tree)
    y, k, r = lengths(_wide(leaves), None)
    return y.astype(jnp.result_type(*leaves)), (tree, k, r)


@global_norm.def_backward
def _global_norm_backward(residuals, dy):
    tree, k, r = residuals
    leaves, structure = jax.tree.flatten(tree)
    dy = dy.astype(k.dtype)
    gradients = [like(dy * direction(x, k, r), jax.typeof(leaf)) for x, leaf in zip(_wide(leaves), leaves)]
    return (jax.tree.unflatten(structure, gradients),)


@global_norm.def_check
def _global_norm_check(tree):
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    if not found:
        raise InputError("global_norm: tree has no arrays, and must have one or more")
    for path, leaf in found:
        require_float("global_norm", f"tree{jax.tree_util.keystr(path)}", leaf)


@Op
def cosine_similarity(
    x: Float[ArrayLike, "*shape"], y: Float[ArrayLike, "*shape"], *, axis: int | tuple[int, ...] = -1
) -> Float[Array, "..."]:
    r"""Cosine of the angle between vectors, :math:`c = \frac{x \cdot y}{\|x\| \|y\|}`, and 0 where one of them is 0.

    .. math::
        \frac{\partial L}{\partial x} = \frac{\bar c}{\|x\|} \Big( \frac{y}{\|y\|} - c\, \frac{x}{\|x\|} \Big),

    and likewise in y. Both are 0 where one of the vectors is 0, by convention.

    Args:
        x: (..., n).
        y: of the shape of x.
        axis: an int or a tuple of them, the axes along which the entries of a vector lie.

    Returns:
        Of the shape of x without these axes, in the common dtype of x and y.

    Raises:
        InputError: on scalars, integers, different shapes, and an axis that x does not have.

    Source: peers.

    >>> import jax, jax.numpy as jnp
    >>> x, y = jnp.array([1e-30, 0.0]), jnp.array([1e30, 1e30])
    >>> print(f"{cosine_similarity(x, y):.4f}", jax.grad(cosine_similarity, argnums=1)(x, jnp.zeros(2)))
    0.7071 [0. 0.]
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    return jnp.sum(x * y, axis) / jnp.sqrt(jnp.sum(x**2, axis) * jnp.sum(y**2, axis))


@cosine_similarity.def_forward
def _cosine_similarity_forward(x, y, *, axis):
    axes = axes_of(axis, x.ndim)
    u, v = upcast_alike(x, y)

    def total(z):
        return jnp.sum(z, axes, keepdims=True)

    def products(u, v):
        return total(u * u), total(v * v), total(u * v)

    def usual():
        return jnp.ones_like(first), jnp.ones_like(first), first, second, both

    def scaled():
        k, h = fitting(largest(u, axes)), fitting(largest(v, axes))
        return k, h, *products(finite(u) * k, finite(v) * h)

    first, second, both = products(u, v)
    usually = in_range(first, x.size) & in_range(second, x.size)
    k, h, first, second, both = lax.cond(jnp.all(usually), usual, scaled)
    r, s = root(first), root(second)
    none = (r == 0) | (s == 0)
    c = jnp.where(none, jnp.zeros_like(both), both / jnp.where(none, 1, r) / jnp.where(none, 1, s))
    return jnp.squeeze(c, axes).astype(jnp.result_type(x, y)), (x, y, k, h, r, s, c)


@cosine_similarity.def_backward
def _cosine_similarity_backward(residuals, dc, *, axis):
    x, y, k, h, r, s, c = residuals
    u, v = upcast_alike(x, y)
    u, v = direction(u, k, r), direction(v, h, s)
    dc = jnp.expand_dims(dc.astype(c.dtype), axes_of(axis, x.ndim))
    none = (r == 0) | (s == 0)
    dc = jnp.where(none, jnp.zeros_like(c), dc)
    # k and h are multiplied last, because (dc / r) k by itself may leave the range of the dtype.
    dx = (v - c * u) * (dc / or_one(r)) * k
    dy = (u - c * v) * (dc / or_one(s)) * h
    return like(dx, jax.typeof(x)), like(dy, jax.typeof(y))


@cosine_similarity.def_check
def _cosine_similarity_check(x, y, *, axis):
    op = "cosine_similarity"
    require_float(op, "x", x)
    require_float(op, "y", y)
    require_rank(op, "x", x, "an axis of entries")
    require_same_shape(op, "x", x, "y", y)
    require_axes(op, x, axis, all_by_none=False)


def _wide(leaves):
    """The arrays in their common dtype, in float32 where that is a half type; a tuple also where there is one."""
    return upcast(*leaves) if len(leaves) > 1 else (upcast(*leaves),)
