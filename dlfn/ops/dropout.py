r"""Dropout: each entry is kept with a given probability."""

import jax
import jax.numpy as jnp

from dlfn.core import InputError, Op
from dlfn.ops._common import describe, is_explicit, require_float, upcast

__all__ = ["dropout"]


@Op
def dropout(x, key, *, keep_prob):
    r"""Inverted dropout, :math:`y = m \odot x / q` with :math:`m_i \sim \mathrm{Bernoulli}(q)` and q = ``keep_prob``.

    For a given key this is linear in x, with a diagonal matrix, so that

    .. math::
        \frac{\partial L}{\partial x} = m \odot \bar y / q.

    The expectation of y is x. At inference, leave the op out. The document's p is ``keep_prob``; the ``rate`` of other
    libraries is ``1 - keep_prob``.

    The backward pass keeps m, one byte per entry: drawing it takes most of the time, and drawing it again from the key
    would take as much once more. Entries are dropped, not multiplied by 0: an infinite one cannot give nan.

    Args:
        x: an array.
        key: one key, from :func:`jax.random.key` or :func:`jax.random.PRNGKey`.
        keep_prob: a number, 0 < keep_prob <= 1.

    Returns:
        Of the shape and dtype of x.

    Raises:
        InputError: on an integer x, a missing key or one that is no key, and a keep_prob outside (0, 1].

    Source: 002 section 4.

    >>> import jax, jax.numpy as jnp
    >>> dropout(jnp.ones(8), jax.random.key(1), keep_prob=0.5)
    Array([2., 0., 2., 2., 0., 0., 0., 0.], dtype=float32)
    """
    return jnp.where(_mask(x, key, keep_prob), x, jnp.zeros_like(x)) / keep_prob


def _mask(x, key, keep_prob):
    # float32 whatever x is: the same mask in every dtype, and no 64 random bits per entry.
    mask = jax.random.bernoulli(key, jnp.float32(keep_prob), x.shape)
    return jax.sharding.reshard(mask, jax.typeof(x).sharding) if is_explicit(x) else mask


@dropout.def_forward
def _dropout_forward(x, key, *, keep_prob):
    if keep_prob == 1:
        return x, None
    mask = _mask(x, key, keep_prob)
    return _keep(mask, x, keep_prob), mask


@dropout.def_backward
def _dropout_backward(mask, dy, *, keep_prob):
    return dy if mask is None else _keep(mask, dy, keep_prob), None


def _keep(mask, x, keep_prob):
    scaled = upcast(x) / keep_prob
    return jnp.where(mask, scaled, jnp.zeros_like(scaled)).astype(x.dtype)


@dropout.def_check
def _dropout_check(x, key, *, keep_prob):
    require_float("dropout", "x", x)
    if not isinstance(keep_prob, (int, float)) or not 0 < keep_prob <= 1:
        raise InputError(
            f"dropout: keep_prob is {keep_prob!r}, and must be a number with 0 < keep_prob <= 1: it is the probability "
            "to keep an entry, 1 minus the rate of other libraries"
        )
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and not (isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.ndim == 1):
        raise InputError(f"dropout: key is {describe(key)}, and must be a random key: pass jax.random.key(0)")
    if typed and key.ndim:
        raise InputError(f"dropout: key is {describe(key)}, and must be one key: pass one of them, or use jax.vmap")
