r"""Dropout: each entry, or each group of entries, is kept with a given probability."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, UInt32

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, is_int, require_float, require_key, require_number
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import is_explicit

__all__ = ["dropout"]


@Op
def dropout(
    x: Float[ArrayLike, "*shape"],
    key: Key[ArrayLike, ""] | UInt32[ArrayLike, " words"],
    *,
    keep_prob: float,
    shared_axes: tuple[int, ...] = (),
) -> Float[Array, "*shape"]:
    r"""Inverted dropout, :math:`y = m \odot x / q` with :math:`m_i \sim \mathrm{Bernoulli}(q)` and q = ``keep_prob``.

    For a given key this is linear in x, with a diagonal matrix, so that

    .. math::
        \frac{\partial L}{\partial x} = m \odot \bar y / q.

    The expectation of y is x. At inference, leave the op out. What document 002 calls p is ``keep_prob``; the ``rate``
    of other libraries is ``1 - keep_prob``.

    With ``shared_axes`` one :math:`m_i` is drawn for all entries along those axes: for images (N, H, W, C) and
    ``shared_axes=(1, 2)`` whole channels are kept or dropped, which is spatial dropout. Dropout of the weights of a
    linear map is DropConnect, a layer of :mod:`dlfn.nn`.

    The backward pass keeps m, one byte per number drawn, because most of the op's time goes into drawing m, and drawing
    it again from the key would take that time twice. Dropped entries are replaced by 0, not multiplied by it, so that
    an infinite one does not become nan.

    Args:
        x: an array.
        key: one key, from :func:`jax.random.key` or :func:`jax.random.PRNGKey`.
        keep_prob: a number, 0 < keep_prob <= 1.
        shared_axes: a tuple of ints, axes of x.

    Returns:
        Of the shape and dtype of x.

    Raises:
        InputError: on an integer x, a missing key or one that is no key, a keep_prob outside (0, 1], and axes that x
            does not have.

    Source: Srivastava et al. 2014, *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*; 002 section 4.
    The variants: Tompson et al. 2015, *Efficient Object Localization Using Convolutional Networks*, and Wan et al.
    2013, *Regularization of Neural Networks using DropConnect*.

    >>> import jax, jax.numpy as jnp
    >>> dropout(jnp.ones(8), jax.random.key(1), keep_prob=0.5)
    Array([2., 0., 2., 2., 0., 0., 0., 0.], dtype=float32)
    >>> dropout(jnp.ones((2, 3)), jax.random.key(1), keep_prob=0.5, shared_axes=(0,))
    Array([[2., 0., 2.],
           [2., 0., 2.]], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(_mask(x, key, keep_prob, shared_axes), x, jnp.zeros_like(x)) / keep_prob


@dropout.def_forward
def _dropout_forward(x, key, *, keep_prob, shared_axes):
    if keep_prob == 1:
        return x, None
    mask = _mask(x, key, keep_prob, shared_axes)
    return _keep(mask, x, keep_prob), mask


@dropout.def_backward
def _dropout_backward(mask, dy, *, keep_prob):
    return dy if mask is None else _keep(mask, dy, keep_prob), None


@dropout.def_check
def _dropout_check(x, key, *, keep_prob, shared_axes):
    require_float("dropout", "x", x)
    if not isinstance(shared_axes, tuple) or not all(is_int(axis) and -x.ndim <= axis < x.ndim for axis in shared_axes):
        raise InputError(
            f"dropout: shared_axes is {shared_axes!r}, and must be a tuple of ints from {-x.ndim} to {x.ndim - 1}, "
            f"as x is {describe(x)}"
        )
    must_be = (
        "a number with 0 < keep_prob <= 1: it is the probability to keep an entry, 1 minus the rate of other libraries"
    )
    require_number("dropout", "keep_prob", keep_prob, must_be, lambda q: 0 < q <= 1)
    require_key("dropout", key)


def _mask(x, key, keep_prob, shared_axes):
    shared = {axis % x.ndim for axis in shared_axes}
    shape = tuple(1 if i in shared else size for i, size in enumerate(x.shape))
    # The probability is a float32 whatever x is: the mask is then the same for every dtype of x, and a float64 x does
    # not take 64 random bits per entry.
    mask = jax.random.bernoulli(key, jnp.float32(keep_prob), shape)
    if not is_explicit(x):
        return mask
    sharding: Any = jax.typeof(x).sharding
    spec = [None if i in shared else axes for i, axes in enumerate(sharding.spec)]
    return jax.sharding.reshard(mask, jax.NamedSharding(sharding.mesh, jax.P(*spec)))


def _keep(mask, x, keep_prob):
    scaled = upcast(x) / keep_prob
    return jnp.where(mask, scaled, jnp.zeros_like(scaled)).astype(x.dtype)
