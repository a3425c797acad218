r"""Initial weights whose variance keeps a signal's size through a deep network.

Every initialiser is ``init(key, shape, dtype)``; ``zeros`` too. With :math:`n_{in}` and :math:`n_{out}` the number of
inputs that one output sums over and the number of outputs that one input reaches, ``(in, out)`` matrices have
:math:`n_{in}` = in and :math:`n_{out}` = out, and convolution kernels ``(*window, in, out)`` of 1-D to 3-D
:math:`n_{in}` = in · ∏ window, :math:`n_{out}` = out · ∏ window.

=================== ===================================================================================================
Xavier              :math:`\mathrm{Var}\,W = g^2 \cdot 2 / (n_{in} + n_{out})`: Glorot & Bengio 2010, *Understanding
                    the difficulty of training deep feedforward neural networks*
He                  :math:`\mathrm{Var}\,W = g^2 \cdot 2 / n_{in}`: He et al. 2015, *Delving Deep into Rectifiers:
                    Surpassing Human-Level Performance on ImageNet Classification*. ReLU halves the second moment and
                    the 2 restores it. :math:`\sqrt{2/n}` is the standard deviation.
LeCun               :math:`\mathrm{Var}\,W = g^2 / n_{in}`: LeCun et al. 1998, *Efficient BackProp*
orthogonal          :math:`W^\top W = g^2 I`: Saxe et al. 2014, *Exact solutions to the nonlinear dynamics of learning
                    in deep linear neural networks*
=================== ===================================================================================================

A uniform distribution on :math:`[-a, a]` has the variance :math:`a^2/3`, so :math:`a = \sqrt{3 \,\mathrm{Var}\,W}`. The
gain :math:`g` is 1 unless given: ``functools.partial(xavier_normal, gain=5 / 3)``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.support.dtypes import sum_dtype

__all__ = [
    "Initializer", "constant", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "ones", "orthogonal",
    "small_normal", "truncated_normal", "xavier_normal", "xavier_uniform", "zeros",
]  # fmt: skip

Initializer = Callable[[jax.Array, Sequence[int], Any], jax.Array]


def xavier_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""Uniform on :math:`\pm g \sqrt{6 / (n_{in} + n_{out})}`."""
    return _uniform(key, shape, dtype, gain**2 * 2 / sum(_fans(shape)))


def xavier_normal(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""Normal with standard deviation :math:`g \sqrt{2 / (n_{in} + n_{out})}`."""
    return _normal(key, shape, dtype, gain**2 * 2 / sum(_fans(shape)))


def he_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""Uniform on :math:`\pm g \sqrt{6 / n_{in}}`."""
    return _uniform(key, shape, dtype, gain**2 * 2 / _fans(shape)[0])


def he_normal(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""Normal with standard deviation :math:`g \sqrt{2 / n_{in}}`.

    >>> w = he_normal(jax.random.key(0), (3, 3, 16, 32))
    >>> print(f"{w.std() / (2 / (3 * 3 * 16)) ** 0.5:.1f}")
    1.0
    """
    return _normal(key, shape, dtype, gain**2 * 2 / _fans(shape)[0])


def lecun_uniform(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""Uniform on :math:`\pm g \sqrt{3 / n_{in}}`."""
    return _uniform(key, shape, dtype, gain**2 / _fans(shape)[0])


def lecun_normal(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""Normal with standard deviation :math:`g / \sqrt{n_{in}}`, which SELU asks for."""
    return _normal(key, shape, dtype, gain**2 / _fans(shape)[0])


def truncated_normal(
    key: jax.Array, shape: Sequence[int], dtype: Any = float, *, std: float = 1.0, bound: float = 2.0
) -> jax.Array:
    r"""Normal, drawn again where it is more than ``bound`` deviations from 0, and widened to a standard deviation of
    exactly ``std``.

    Truncation leaves the variance :math:`1 - 2 b \varphi(b) / (2 \Phi(b) - 1)` of 1, 0.774 at b = 2; dividing by its
    root restores it, and widens the interval to :math:`\pm 2.27` std. PyTorch's ``trunc_normal_`` does not.

    >>> w = truncated_normal(jax.random.key(0), (100, 100), std=0.02)
    >>> print(f"{w.std():.3f} {abs(w).max():.3f}")
    0.020 0.045
    """
    if not bound > 0:
        raise InputError(f"truncated_normal: bound is {bound!r}, and must be a positive number of standard deviations")
    inside = math.erf(bound / math.sqrt(2))
    variance = 1 - bound * math.sqrt(2 / math.pi) * math.exp(-(bound**2) / 2) / inside
    draw = jax.random.truncated_normal(key, -bound, bound, shape, dtype)
    return draw * jnp.asarray(std / math.sqrt(variance), dtype)


def orthogonal(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, gain: float = 1.0) -> jax.Array:
    r"""A random matrix with :math:`W^\top W = g^2 I`, or where it has more columns than rows
    :math:`W W^\top = g^2 I`; of a kernel, the matrix with a row for each of the :math:`n_{in}` inputs.

    It is the Q of a normal matrix, every column with the sign that makes the diagonal of R positive: without that, Q is
    not uniformly distributed. Half types are drawn in float32.

    >>> w = orthogonal(jax.random.key(0), (3, 2), gain=2.0)
    >>> print(abs(w.T @ w - 4 * jnp.eye(2)).max() < 1e-5)
    True
    """
    rows, columns = _fans(shape)[0], shape[-1]
    wide = sum_dtype(jax.dtypes.canonicalize_dtype(dtype))
    q, r = jnp.linalg.qr(jax.random.normal(key, (max(rows, columns), min(rows, columns)), wide))
    q = gain * q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(wide)
    return (q if rows >= columns else q.T).reshape(shape).astype(dtype)


def ones(key: jax.Array, shape: Sequence[int], dtype: Any = float) -> jax.Array:
    """All one, whatever the key."""
    del key
    return jnp.ones(shape, dtype)


def constant(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, value: float) -> jax.Array:
    """All ``value``, whatever the key: ``functools.partial(constant, value=0.1)``."""
    del key
    return jnp.full(shape, value, dtype)


def small_normal(key: jax.Array, shape: Sequence[int], dtype: Any = float, *, std: float = 0.02) -> jax.Array:
    """Normal with standard deviation 0.02 or ``std``, whatever the shape: for tables of embeddings, as in GPT-2."""
    return _normal(key, shape, dtype, std**2)


def zeros(key: jax.Array, shape: Sequence[int], dtype: Any = float) -> jax.Array:
    """All zero, whatever the key."""
    del key
    return jnp.zeros(shape, dtype)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2 or 0 in shape:
        raise InputError(
            f"weights of shape {tuple(shape)} have no fan-in: expected (in, out) or (*window, in, out), "
            "none of them 0; for a vector use zeros"
        )
    *window, inputs, outputs = shape
    return inputs * math.prod(window), outputs * math.prod(window)


def _uniform(key: jax.Array, shape: Sequence[int], dtype: Any, variance: float) -> jax.Array:
    limit = math.sqrt(3 * variance)
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def _normal(key: jax.Array, shape: Sequence[int], dtype: Any, variance: float) -> jax.Array:
    return jax.random.normal(key, shape, dtype) * jnp.asarray(math.sqrt(variance), dtype)
