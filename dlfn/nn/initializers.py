r"""Initial weights whose variance keeps a signal's size through a deep network.

Every initialiser is ``init(key, shape, dtype)``; ``zeros`` too. With :math:`n_{in}` and :math:`n_{out}` the number of
inputs that one output sums over and the number of outputs that one input reaches, ``(in, out)`` matrices have
:math:`n_{in}` = in and :math:`n_{out}` = out, and ``H W I O`` kernels :math:`n_{in} = I k_h k_w`,
:math:`n_{out} = O k_h k_w`.

=================== ===================================================================================================
Xavier              :math:`\mathrm{Var}\,W = g^2 \cdot 2 / (n_{in} + n_{out})`: Glorot & Bengio 2010, *Understanding
                    the difficulty of training deep feedforward neural networks*
He                  :math:`\mathrm{Var}\,W = g^2 \cdot 2 / n_{in}`: He et al. 2015, *Delving Deep into Rectifiers*. ReLU
                    halves the second moment and the 2 restores it. :math:`\sqrt{2/n}` is the standard deviation.
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

__all__ = ["Initializer", "he_normal", "he_uniform", "xavier_normal", "xavier_uniform", "zeros"]

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


def zeros(key: jax.Array, shape: Sequence[int], dtype: Any = float) -> jax.Array:
    """All zero, whatever the key."""
    del key
    return jnp.zeros(shape, dtype)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2 or 0 in shape:
        raise InputError(
            f"weights of shape {tuple(shape)} have no fan-in: expected (in, out) or (height, width, in, out), "
            "none of them 0; for a vector use zeros"
        )
    *window, inputs, outputs = shape
    return inputs * math.prod(window), outputs * math.prod(window)


def _uniform(key: jax.Array, shape: Sequence[int], dtype: Any, variance: float) -> jax.Array:
    limit = math.sqrt(3 * variance)
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def _normal(key: jax.Array, shape: Sequence[int], dtype: Any, variance: float) -> jax.Array:
    return jax.random.normal(key, shape, dtype) * jnp.asarray(math.sqrt(variance), dtype)
