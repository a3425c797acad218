"""Examples for the rules of special functions, complex numbers, windows and ragged products."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special

from rule_cases_matrices import on_complex, parts
from rule_cases_real import IMAGE, INDEX, KERNEL, POSITIVE, X, Y, conv

WINDOW = ((1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0)))
RAGGED = np.array([2, 0, 3, 1], np.int32)  # one row is of no group


def ragged(a, b):
    return lax.ragged_dot(a.reshape(7, 48)[:, :4], b.reshape(-1)[:48].reshape(4, 4, 3), RAGGED)


def ragged_batch(a, b):
    """Two batches, of which each has the same groups, and a matrix whose axes have another order."""
    numbers = lax.RaggedDotDimensionNumbers((([2], [3]), ([0], [1])), [1], [0])
    experts = b.reshape(-1)[: 4 * 2 * 3 * 6].reshape(4, 2, 3, 6)
    return lax.ragged_dot_general(a[..., 0], experts, jnp.stack([RAGGED, RAGGED[::-1]]), numbers)


def reduced(a, b):
    """A reduction of two arrays at once."""
    both = lambda x, y: (jnp.logaddexp(x[0], y[0]), x[1] + y[1] + x[1] * y[1])  # noqa: E731
    return jnp.stack(lax.reduce((a, b), (-np.inf, 0.0), both, (1,)))


def convolved(x, y):
    return jnp.fft.irfft(jnp.fft.rfft(x, axis=0) * jnp.fft.rfft(y, axis=0), 3, axis=0)


def jvp_of(f):
    """The forward derivative of f in the direction of its second argument, in which it is linear."""
    return lambda x, dx: jax.jvp(f, (x,), (dx,))[1]


def pool(x):
    return lax.reduce_window(x, -np.inf, lax.max, *WINDOW)


CASES = {
    "polygamma": [(lambda x: special.polygamma(2, x), POSITIVE)],
    "igamma": [(special.gammainc, POSITIVE, np.abs(Y)), (special.gammainc, POSITIVE[:, :1], np.abs(Y))],
    "igammac": [(special.gammaincc, POSITIVE, np.abs(Y))],
    "regularized_incomplete_beta": [(lambda x: special.betainc(1.3, 0.7, x), POSITIVE / 3)],
    "bessel_i0e": [(special.i0e, X), (special.i0, X)],
    "bessel_i1e": [(special.i1e, X), (special.i1, X)],
    "complex": [(lambda x, y: parts(lax.complex(x, y) * (1 + 2j)), X, Y)],
    "real": [(on_complex(lambda z: (z * z).real), X, Y)],
    "imag": [(on_complex(lambda z: (z * z).imag), X, Y)],
    "conj": [(on_complex(lambda z: jnp.conj(z) * z**2), X, Y), (lambda x: parts(lax.conj(x) * 1j), X)],
    "abs": [
        (jnp.abs, X), (on_complex(jnp.abs), X, Y), (on_complex(jnp.abs), X * 0, X * 0), (on_complex(jnp.angle), X, Y),
    ],
    "fft": [
        *((on_complex(lambda z, f=f: f(z)), X, Y) for f in (jnp.fft.fft, jnp.fft.ifft, jnp.fft.fft2, jnp.fft.ifft2)),
        *((lambda x, n=n: parts(jnp.fft.rfft(x, n)), X) for n in (4, 5)),
        *((on_complex(lambda z, n=n: jnp.fft.irfft(z, n)), X, Y) for n in (5, 6)),
        (lambda x: parts(jnp.fft.rfftn(x)), IMAGE[0]), (on_complex(jnp.fft.irfftn), IMAGE[0], IMAGE[1]),
        (convolved, X, Y), (lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, X), (lambda x: jnp.fft.hfft(x), X),
    ],
    "scatter-mul": [
        (lambda x, y: x.at[INDEX[:2]].multiply(y[:2], unique_indices=True), X, Y),
        (lambda x: x.at[INDEX].multiply(2.5), X),
    ],
    "scatter-min": [
        (lambda x, y: x.at[INDEX].min(y), X, Y), (lambda x, y: x.at[INDEX].min(x[:1] - 1), X, Y),
        (lambda x, y: x.at[INDEX, INDEX].min(y[0, :3]), X, Y),
    ],
    "scatter-max": [
        (lambda x, y: x.at[INDEX].max(y), X, Y), (lambda x, y: x.at[:, INDEX].max(y[:, :3], mode="drop"), X, Y),
    ],
    "select_and_gather_add": [(lambda dx: jvp_of(pool)(IMAGE, dx), IMAGE[::-1])],
    "select_and_scatter_add": [(lambda g: jax.vjp(pool, IMAGE)[1](g)[0], IMAGE[:, 1:5])],
    "reduce": [
        (lambda x: lax.reduce(x, np.inf, lambda a, b: jnp.where(a < b, a, b), (0, 2)), IMAGE[0]),
        (reduced, X, Y), (lambda x: lax.reduce(x[:, :0], 1.0, lambda a, b: a * b + a + b, (1,)) * x[:, 0], X),
    ],
    "ragged_dot_general": [(ragged, IMAGE, KERNEL), (ragged_batch, IMAGE, IMAGE)],
    "approx_top_k": [(lambda x: lax.approx_max_k(x, 2)[0], X), (lambda x: lax.approx_min_k(x, 1, 0)[0], X)],
}  # fmt: skip

# The rules of real numbers, of complex ones.
COMPLEX = {
    "arithmetic": lambda z: (z * z[::-1] + 2 - z / (z + 3), -z, jnp.square(z), z**3, z**-2, 1 / z),
    "powers": lambda z: (jnp.sqrt(z), lax.rsqrt(z), jnp.power(z, 1.5), jnp.power(z, z[::-1]), jnp.power(2.0, z)),
    "exponentials": lambda z: (jnp.exp(z), jnp.expm1(z), jnp.log(z), jnp.log1p(z), lax.logistic(z), jnp.log2(z)),
    "trigonometric": lambda z: (jnp.sin(z), jnp.cos(z), jnp.tan(z), jnp.asin(z), jnp.acos(z), jnp.atan(z)),
    "hyperbolic": lambda z: (jnp.sinh(z), jnp.cosh(z), jnp.tanh(z), jnp.asinh(z), jnp.atanh(z)),
    "reductions": lambda z: (jnp.sum(z, 0), jnp.prod(z, 1), jnp.cumsum(z, 1), jnp.cumprod(z, 0), jnp.max(z), z.mean()),
    "choices": lambda z: (jnp.sort(z, 1), jnp.where(z.real > 0, z, 1j * z), z[INDEX].T, z.at[INDEX].set(z + 1)),
    "products": lambda z: (z @ z.T, jnp.einsum("ab,cb->a", z, jnp.conj(z)), jnp.vdot(z, z[::-1])),
    "kinds": lambda z: (z.real.astype(complex) * z, lax.convert_element_type(z.imag, complex), jnp.linalg.norm(z)),
    "convolution": lambda z: conv(window_strides=(1, 1), padding="SAME")(z[None, ..., None], z[:2, :2, None, None]),
}  # fmt: skip

BEYOND_JAX = {
    "reduce_window": [
        (lambda x: lax.reduce_window(x, 1.0, lax.mul, *WINDOW), IMAGE),
        (lambda x: lax.reduce_window(x, -np.inf, jnp.logaddexp, *WINDOW, base_dilation=(1, 1, 2, 1),
                                     window_dilation=(1, 2, 1, 1)), IMAGE),
    ],
    "reduce_window_max": [
        (lambda x: lax.reduce_window(x, -np.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1),
                                     ((0, 0), (1, 2), (-1, 1), (0, 0))), IMAGE),
        (lambda x: lax.reduce_window(x, -np.inf, lax.max, *WINDOW, base_dilation=(1, 1, 2, 1),
                                     window_dilation=(1, 2, 1, 1)), IMAGE),
    ],
    "zeta": [(lambda x: lax.zeta(jnp.full_like(x, 2.5), x), POSITIVE)],
    "igamma_grad_a": [(lambda x: lax.igamma_grad_a(jnp.asarray(POSITIVE), x), np.abs(Y))],
    "sign": [(on_complex(jnp.sign), X, Y)],
    "acosh": [(on_complex(jnp.acosh), X, Y)],
    "scatter-mul": [
        (lambda x, y: x.at[INDEX].multiply(y), X, Y),
        (lambda x, y: x.at[INDEX, 0].multiply(y[0, :3] * np.array([0.0, 1.0, 1.0])), X, Y),
    ],
}  # fmt: skip
