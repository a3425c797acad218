r"""Complex numbers and Fourier transforms.

A cotangent :math:`\bar z` is such that the result moves by :math:`\mathrm{Re}(\bar z\, dz)`, without a conjugate, which
is JAX's convention. A function with a complex derivative then has the rule of its real namesake, and the Fourier
transform, a symmetric matrix, is its own transpose.
"""

import math

import jax.numpy as jnp
from jax import lax

from dlfn.core.rules.table import elementwise, is_complex, rule

elementwise("complex", lambda g, z, x, y: g.real, lambda g, z, x, y: -g.imag)
elementwise("real", lambda g, y, z: lax.complex(g, jnp.zeros_like(g)))
elementwise("imag", lambda g, y, z: lax.complex(jnp.zeros_like(g), -g))
elementwise("conj", lambda g, y, z: jnp.conj(g) if is_complex(z) else g.real)  # which of a real number is complex


def _abs(g, y, z):
    """d|z| = Re(z* dz) / |z|, where JAX takes 0 at z = 0. Of a real number it takes 1 there."""
    if not is_complex(z):
        return jnp.where(z < 0, -g, g)
    g, size = g.astype(z.dtype), jnp.where(y == 0, 1, y).astype(z.dtype)
    return g * (jnp.conj(z) / size)


def _sign(g, y, z):
    """z / |z| turns by the part of dz across z: dy = (dz − y Re(y* dz)) / |z|. The sign of a real number is flat."""
    if not is_complex(z):
        return None
    along = (g * y).real.astype(z.dtype)
    return jnp.where(z == 0, 0, (g - jnp.conj(y) * along) / jnp.where(z == 0, 1, jnp.abs(z).astype(z.dtype)))


elementwise("abs", _abs)
elementwise("sign", _sign)


@rule("fft")
def _fft(g, y, x, *, fft_type, fft_lengths):
    """A real transform keeps one of each pair of conjugate frequencies: the other's part is added to its cotangent, or
    taken from it."""
    if fft_type not in (lax.FftType.RFFT, lax.FftType.IRFFT):
        return lax.fft(g, fft_type, fft_lengths)
    last, size = fft_lengths[-1], math.prod(fft_lengths)
    frequency = lax.broadcasted_iota(jnp.int32, (1,) * (g.ndim - 1) + (last // 2 + 1,), g.ndim - 1)
    alone = (frequency == 0) | (2 * frequency == last)
    if fft_type == lax.FftType.RFFT:
        return size * lax.fft(jnp.where(alone, 1, 0.5) * jnp.conj(g), lax.FftType.IRFFT, fft_lengths)
    return jnp.where(alone, 1, 2) * jnp.conj(lax.fft(g, lax.FftType.RFFT, fft_lengths)) / size
