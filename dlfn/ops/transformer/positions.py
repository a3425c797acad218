r"""Positions for attention, which by itself sees a set: sinusoidal tables, rotary embeddings, linear biases."""

import math
import numbers

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Float64, Integer

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float, require_number
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op

__all__ = ["alibi_bias", "alibi_slopes", "rope", "sinusoidal_positions"]


def sinusoidal_positions(
    length: int, dim: int, *, base: float = 10000.0, dtype: DTypeLike = jnp.float32
) -> Float[Array, "{length} {dim}"]:
    r"""The table :math:`PE_{p, 2i} = \sin(p / b^{2i/d})`, :math:`PE_{p, 2i+1} = \cos(p / b^{2i/d})`.

    It is computed in float64 and rounded once: a float32 angle of 10,000 has an error of 5e-4.

    Args:
        length: positions 0 to length - 1.
        dim: d, an even number.
        base: b.
        dtype: that of the table.

    Returns:
        (length, dim).

    Raises:
        InputError: on an odd dim.

    Source: Vaswani et al. 2017, *Attention Is All You Need*; 002 section 11.1.

    >>> print(sinusoidal_positions(2, 4).round(3))
    [[0.    1.    0.    1.   ]
     [0.841 0.54  0.01  1.   ]]
    """
    angles = np.arange(length)[:, None] * _frequencies("sinusoidal_positions", dim, base)
    return jnp.asarray(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, dim), dtype)


@Op
def rope(
    x: Float[ArrayLike, "*batch time heads dim"],
    positions: Integer[ArrayLike, "*#batch #time"] | None = None,
    *,
    base: float = 10000.0,
    interleaved: bool = False,
    frequencies: tuple[float, ...] | None = None,
    scale: float = 1.0,
) -> Float[Array, "*batch time heads dim"]:
    r"""Rotary embedding: the pair i of features at position p is turned by the angle :math:`\theta = p / b^{2i/d}`.

    .. math::
        y = R_\theta x = \begin{bmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{bmatrix}
        \begin{bmatrix} x_1 \\ x_2 \end{bmatrix}, \qquad \frac{\partial L}{\partial x} = R_{-\theta}\, \bar y,

    as the transpose of a rotation is the rotation back. The product of a query and a key depends on their positions
    through the difference alone.

    With ``frequencies`` :math:`f_0, \dots, f_{n-1}` the angles are :math:`\theta = p f_i`, and the first 2n features
    are turned; the others stay as they are. With a ``scale`` s, what is turned is multiplied by it:
    :math:`y = s R_\theta x` and :math:`\partial L / \partial x = s R_{-\theta} \bar y`.

    Args:
        x: (..., time, heads, dim), dim even, or with ``frequencies`` at least twice as many as these.
        positions: integers that broadcast to (..., time); None for 0, 1, …. Angles are exact up to the
            rounding of one turn, however large the position; multiplied in float32, that of position 4095 would be off
            by 3e-4.
        base: b.
        interleaved: whether pairs are neighbours, (0, 1), (2, 3), …, as in the paper; by default they are
            (0, d/2), (1, d/2 + 1), …, as most models have it. With ``frequencies`` d is twice as many as these.
        frequencies: radians per position for each pair, a tuple of numbers, in the place of those of ``base``.
        scale: the number s.

    Returns:
        Of the shape and dtype of x.

    Raises:
        InputError: on an integer x, fewer than three axes, an odd dim, more frequencies than pairs, and positions that
            are not integers or do not broadcast.

    Source: Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 0.0]).reshape(1, 1, 2)
    >>> print(rope(x, jnp.array([1])).ravel().round(4))  # cos 1, sin 1
    [0.5403 0.8415]
    """
    x = jnp.asarray(x)
    time, dim = x.shape[-3], x.shape[-1] if frequencies is None else 2 * len(frequencies)
    p = jnp.arange(time) if positions is None else jnp.asarray(positions)
    f = base ** (-2.0 * jnp.arange(dim // 2, dtype=float) / dim) if frequencies is None else jnp.array(frequencies)
    angles = p[..., None, None].astype(x.dtype) * f.astype(x.dtype)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned, others = x[..., :dim], x[..., dim:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        y = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(turned.shape)
    else:
        a, b = turned[..., : dim // 2], turned[..., dim // 2 :]
        y = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return jnp.concatenate([y * scale, others], axis=-1)


@rope.def_forward
def _rope_forward(x, positions, **settings):
    return _rotated(x, positions, 1, **settings), positions


@rope.def_backward
def _rope_backward(positions, dy, **settings):
    return _rotated(dy, positions, -1, **settings), None


@rope.def_check
def _rope_check(x, positions, *, base, frequencies, scale):
    require_float("rope", "x", x)
    if x.ndim < 3:
        raise InputError(f"rope: x is {describe(x)}, and must have three axes at least, (time, heads, dim)")
    require_number("rope", "scale", scale, "a finite number")
    if frequencies is None:
        _frequencies("rope", x.shape[-1], base)
    else:
        require_number("rope", "base", base, "a positive number", lambda number: number > 0)
        if not isinstance(frequencies, tuple) or not 0 < 2 * len(frequencies) <= x.shape[-1]:
            given = f"{len(frequencies)} of them" if isinstance(frequencies, tuple) else repr(frequencies)
            raise InputError(
                f"rope: frequencies is {given:.60}, and must be a tuple of 1 to {x.shape[-1] // 2} numbers, one for "
                f"each pair of features that is turned, as x is {describe(x)}"
            )
        for frequency in frequencies:
            require_number("rope", "an entry of frequencies", frequency, "a finite number")
    if positions is None:
        return
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise InputError(f"rope: positions is {describe(positions)}, and must be integers, one for each time")
    try:
        fits = jnp.broadcast_shapes(positions.shape, x.shape[:-2]) == x.shape[:-2]
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"rope: positions is {describe(positions)}, and must broadcast to {list(x.shape[:-2])}, as x is "
            f"{describe(x)}"
        )


def alibi_slopes(heads: int) -> Float64[np.ndarray, " {heads}"]:
    r"""The slope m of each head: :math:`2^{-8/n}, 2^{-16/n}, \dots, 2^{-8}` for n heads, a power of two.

    For another n they are those of the next lower power of two, and then every second one of the next higher.

    Source: Press, Smith & Lewis 2022, *Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation*.

    >>> print(alibi_slopes(4))
    [0.25       0.0625     0.015625   0.00390625]
    """
    if isinstance(heads, bool) or not isinstance(heads, numbers.Integral) or heads < 1:
        raise InputError(f"alibi_slopes: heads is {heads!r}, and must be a positive integer")
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / below) for i in range(below)]
    between = [2.0 ** (-4 * (i + 1) / below) for i in range(0, 2 * below, 2)]
    return np.array((slopes + between)[:heads])


def alibi_bias(
    heads: int,
    queries: int | Integer[ArrayLike, " queries"],
    keys: int | Integer[ArrayLike, " keys"],
    *,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "{heads} queries keys"]:
    r"""A bias for :func:`attention`, :math:`B_{hij} = -m_h |i - j|` with the slopes m of :func:`alibi_slopes`.

    Args:
        heads: how many.
        queries: how many, of which the last is at the place of the last key; or their positions, an array of integers,
            which they must be where those of the keys are.
        keys: how many, at the positions 0, 1, …; or their positions.
        dtype: that of the bias.

    Returns:
        (heads, queries, keys).

    Source: Press, Smith & Lewis 2022, *Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation*.

    >>> print(alibi_bias(1, 2, 3)[0] * 256)
    [[-1. -0. -1.]
     [-2. -1. -0.]]
    """
    j = jnp.arange(keys) if isinstance(keys, numbers.Integral) else jnp.asarray(keys)
    i = jnp.arange(len(j) - queries, len(j)) if isinstance(queries, numbers.Integral) else jnp.asarray(queries)
    distance = jnp.abs(i[:, None] - j[None, :]).astype(dtype)
    return -jnp.asarray(alibi_slopes(heads), dtype)[:, None, None] * distance[None]


def _rotated(x, positions, direction, *, base, interleaved, frequencies, scale):
    dtype = x.dtype
    frequencies = _frequencies("rope", x.shape[-1], base) if frequencies is None else np.array(frequencies, float)
    dim = 2 * len(frequencies)
    x, others = upcast(x[..., :dim]), x[..., dim:]
    if positions is None:
        angles = np.arange(x.shape[-3])[:, None, None] * frequencies
        cos, sin = (jnp.asarray(scale * f(angles), x.dtype) for f in (np.cos, np.sin))
    else:
        angles = _angles(positions[..., None, None], frequencies, x.dtype)
        cos, sin = scale * jnp.cos(angles), scale * jnp.sin(angles)
    pairs = x.reshape(*x.shape[:-1], dim // 2, 2) if interleaved else x.reshape(*x.shape[:-1], 2, dim // 2)
    axis = -1 if interleaved else -2
    a, b = jnp.split(pairs, 2, axis=axis)
    cos, sin = jnp.expand_dims(cos, axis), direction * jnp.expand_dims(sin, axis)
    y = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=axis).reshape(x.shape).astype(dtype)
    return jnp.concatenate([y, others], axis=-1) if others.shape[-1] else y


def _angles(positions, frequencies, dtype):
    """positions * frequencies, without whole turns. The product with the leading 32 bits of a frequency, in turns, is
    one of integers, whose overflow drops whole turns and nothing else."""
    turns = frequencies / (2 * np.pi)
    turns -= np.round(turns)
    leading = np.round(turns * 2**32)
    rest = jnp.asarray(turns - leading / 2**32, dtype)
    product = positions.astype(jnp.uint32) * jnp.asarray(leading.astype(np.int64) % 2**32, jnp.uint32)
    part = jnp.asarray(lax.bitcast_convert_type(product, jnp.int32)).astype(dtype) * 2.0**-32
    return (part + positions.astype(dtype) * rest) * (2 * np.pi)


def _frequencies(op, dim, base):
    if dim % 2:
        raise InputError(f"{op}: dim is {dim}, and must be even: features are turned in pairs")
    require_number(op, "base", base, "a positive number", lambda number: number > 0)
    return base ** (-np.arange(0, dim, 2) / dim)
