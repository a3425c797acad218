"""Activations and their derivatives as plain jax.numpy, accurate to a few ULP up to the ends of the range.

`<name>_value(x)` is f(x) and `<name>_slope(x)` is f'(x). Both take float32 or float64 and return the same dtype;
callers upcast half types. Derivatives are computed from x, never from the rounded output: 1 - sigmoid(x) and
1 - tanh(x)**2 lose every digit once the output saturates. Slopes can be differentiated by JAX, which gives f'' (in
float32 to about 1e-6).

silu, gelu and gelu_tanh are x * q(x) with q(x) + q(-x) = 1, so f'(x) = 1 - f'(-x): only x <= 0 needs a formula, in
t = |x|. There every term has a factor exp(-u), so that one exponential per function is enough.

XLA on CPU flushes numbers below the smallest normal one to 0. Exponentials are therefore also held times headroom, a
power of two of dlfn.ops.support.exponential, which is divided out at the end.
"""

import math

import jax.numpy as jnp
from jax import lax

from dlfn.ops.support.exponential import bound, by_dtype, exp_neg, halve, headroom, horner, magnitude, pick

# P and Q with exp(t*t/2) * Phi(-t) = P(t)/Q(t), where Phi is the normal distribution function. No coefficient is
# negative, so that no sums cancel. For float32 the error is 9e-9 on t <= 14.5, with the rounding of the coefficients
# included (P and Q were multiplied by a common factor chosen to make it small); for float64 it is 6e-17 on t <= 40.
_MILLS_32 = (
    (0.7890264391899109, 0.6916525959968567, 0.2891547679901123, 0.06412139534950256, 0.00649575749412179),
    (1.5780528783798218, 2.6424098014831543, 1.8976136445999146, 0.7408495545387268, 0.16073867678642273,
     0.016282260417938232),
)  # fmt: skip
_MILLS_64 = (
    (0.5, 0.7753126299997458, 0.5946777525607826, 0.2897809919441286, 0.09789934125517091, 0.023683111102470723,
     0.004102103680621806, 0.0004922502079685848, 3.741876762069748e-05, 1.3929217922427394e-06),
    (1.0, 2.348509820802347, 2.5631952320339835, 1.716402495714107, 0.7833053602777141, 0.2554921047080176,
     0.06059166154451488, 0.010376244001583509, 0.0012373798268236127, 9.379494091789949e-05, 3.491537148794812e-06),
)  # fmt: skip

# P and Q with log1p(e)/e = P(e)/Q(e) on 0 <= e <= 1, for float32, with an error of 1e-9. XLA's log1p takes as long as
# two exponentials.
_LOG1P = (
    (1.0, 1.0662184953689575, 0.2381575107574463, 0.003417281899601221),
    (1.0, 1.5662182569503784, 0.6879362463951111, 0.07528728246688843),
)

_SQRT_2_OVER_PI = 0.7978845608028654

# a and b of gelu's tanh form, x * sigmoid(u) with u = x * (a + b*x*x).
GELU_TANH = 2.0 * _SQRT_2_OVER_PI, 2.0 * _SQRT_2_OVER_PI * 0.044715


def _square_1p(e):
    """(1 + e)**2 with less rounding than the product of two rounded sums."""
    return 1.0 + e * (2.0 + e)


# gated_by and mirrored use their q and g once, in products and sums with constants selected by the sign of x. In
# where(x < 0, g, 1 - g) g would be used twice, and XLA on CPU would then end the fused loop at the division in g and
# write g to memory.


def gated_by(x, t, q):
    """x * q(x), given t = |x|, bounded, and q(-t) * headroom."""
    # max(x, 0) - t*q would be twice what it should be where t*q underflows.
    k = 1.0 / headroom(x)
    q = q * pick(x < 0, 1.0, -k, x) + pick(x < 0, 0.0, 1.0, x)
    return q * jnp.where(x < 0, -t, x) * pick(x < 0, k, 1.0, x)


def mirrored(x, g):
    """f'(x), given f'(-|x|) * headroom."""
    k = 1.0 / headroom(x)
    return g * pick(x < 0, k, -k, x) + pick(x < 0, 0.0, 1.0, x)


def sigmoid_parts(x):
    """t = |x|, bounded; exp(-t) * headroom; exp(-t)."""
    t = magnitude(x, bound(x))
    e, s = exp_neg(t)
    return t, s, e


def _gelu_parts(x):
    """t = |x|, bounded; exp(-t*t/2) * headroom, its exponent the sum of an exact and a small part; and
    exp(t*t/2) * Phi(-t)."""
    t = magnitude(x, by_dtype(x, 15.0, 40.0))
    th = halve(t)
    _, s = exp_neg(0.5 * (th * th), 0.5 * ((t - th) * (t + th)))
    p, q = by_dtype(x, _MILLS_32, _MILLS_64)
    return t, s, horner(p, t) / horner(q, t)


def gelu_tanh_size(x):
    """t = |x|, bounded."""
    return magnitude(x, by_dtype(x, 11.0, 22.0))


def _gelu_tanh_parts(x):
    """For x * sigmoid(u): t = |x|, bounded; exp(-u) * headroom; exp(-u); and t * du/dt as a sum of two parts."""
    t = gelu_tanh_size(x)
    # u is split like t*t/2 above. ah and bh hold half the bits of a and b.
    a, b = GELU_TANH
    half = by_dtype(x, 2.0**11, 2.0**25)
    ah, bh = round(a * half) / half, round(b * 16.0 * half) / (16.0 * half)
    th = halve(t)
    tl = t - th
    z = th * th  # exact; t*t is z + zl
    zh = halve(z)
    zl = tl * (t + th)
    w = b * (t * t) + a
    wh = halve(w)
    # wl = a + b*t*t - wh. ah - wh and bh*zh are exact, and so is their sum unless b*t*t is too small to matter.
    wl = (bh * zh + (ah - wh)) + (b * ((z - zh) + zl) + ((b - bh) * zh + (a - ah)))
    e, s = exp_neg(th * wh, th * wl + tl * w)
    # du/dt = a + 3*b*t*t = 3*(wh + wl) - 2*a.
    dh, dl = 3.0 * wh - 2.0 * ah, 3.0 * wl - 2.0 * (a - ah)
    return t, s, e, (th * dh, tl * dh + t * dl)


def sigmoid_value(x):
    _, _, e = sigmoid_parts(x)
    return jnp.where(x < 0, e, 1.0) / (1.0 + e)


def sigmoid_slope(x):
    _, _, e = sigmoid_parts(x)
    return e / _square_1p(e)


def tanh_value(x):
    return lax.tanh(x)


def tanh_slope(x):
    _, s, e = sigmoid_parts(2.0 * x)
    # The constant is selected, so that XLA does not multiply it into those of exp_neg, which says why.
    return s * jnp.where(x != x, x, x.dtype.type(4.0 / headroom(x))) / _square_1p(e)


def silu_tail(x):
    """sigmoid(-|x|) * headroom."""
    _, s, _ = sigmoid_parts(x)
    return s / (1.0 + s * (1.0 / headroom(x)))


def silu_value(x):
    return gated_by(x, magnitude(x, bound(x)), silu_tail(x))


def silu_slope(x):
    t, s, e = sigmoid_parts(x)
    return mirrored(x, s * ((1.0 - t) + e) / _square_1p(e))


def softplus_value(x):
    _, _, e = sigmoid_parts(x)
    tail = horner(_LOG1P[0], e) / horner(_LOG1P[1], e) * e if x.dtype.itemsize == 4 else lax.log1p(e)
    return jnp.maximum(x, 0.0) + tail


def softplus_slope(x):
    return sigmoid_value(x)


def log_sigmoid_value(x):
    return -softplus_value(-x)


def log_sigmoid_slope(x):
    return sigmoid_value(-x)


def mish_value(x):
    # tanh(softplus(x)) = ((1 + e**x)**2 - 1) / ((1 + e**x)**2 + 1), where for x >= 0 numerator and denominator are
    # multiplied by e**(-2x).
    t, s, e = sigmoid_parts(x)
    above = jnp.where(x < 0, s * (2.0 + e), 1.0 + 2.0 * e)
    below = pick(x < 0, 2.0, 1.0, x) + e * jnp.where(x < 0, 2.0 + e, 2.0 + 2.0 * e)
    return above / below * jnp.where(x < 0, -t, x) * pick(x < 0, 1.0 / headroom(x), 1.0, x)


def mish_slope(x):
    # With d the square of the denominator in mish_value, f' is e * ((1 - t) + e * left / d) for x < 0, and
    # 1 + e * right / d for x >= 0. The quotients are small, so that their rounding errors hardly count.
    t, s, e = sigmoid_parts(x)
    left = (4.0 * t - 2.0) + e * ((8.0 * t - 4.0) + e * ((4.0 * t - 3.0) + e * (t - 1.0)))
    right = e * ((4.0 * t - 2.0) + e * ((4.0 * t - 4.0) - 4.0 * e))
    c0, c1, c3, c4 = (pick(x < 0, a, b, x) for a, b in ((4.0, 1.0), (8.0, 4.0), (4.0, 8.0), (1.0, 4.0)))
    rest = e * jnp.where(x < 0, left, right) / (c0 + e * (c1 + e * (8.0 + e * (c3 + e * c4))))
    return jnp.where(x < 0, s, 1.0) * (jnp.where(x < 0, 1.0 - t, 1.0) + rest) * pick(x < 0, 1.0 / headroom(x), 1.0, x)


def softsign_value(x):
    big = jnp.finfo(x.dtype).max
    x = jnp.clip(x, -big, big)
    return x / (1.0 + jnp.abs(x))


def softsign_slope(x):
    r = 1.0 / (1.0 + jnp.where(x < 0, -x, x))
    return r * r


def _squareplus_parts(x, b):
    """k, a power of two near sqrt(b); t = |x|/k; c = b/k**2; t, limited; and the square of that plus c.

    The formulas are those for k = 1, with t in place of |x| and c in place of b. t**2 does not overflow, and where it
    underflows, c is so much larger that this does not matter."""
    k = 2.0 ** round(math.log2(b) / 2)
    c = b / k / k
    t = jnp.where(x < 0, -x, x) * (1.0 / k)
    limited = jnp.minimum(t, by_dtype(x, 1e19, 1e154))
    return k, t, c, limited, limited * limited + c


def squareplus_value(x, *, b):
    # With r = sqrt(x*x + b), (x + r)/2 = max(x, 0) + (r - |x|)/2, and the difference r - |x| is b / (r + |x|).
    k, t, c, _, square = _squareplus_parts(x, b)
    return jnp.maximum(x, 0.0) + (0.5 * c * k) / (t + jnp.maximum(t, jnp.sqrt(square)))


def squareplus_slope(x, *, b):
    # (1 + x/r)/2 for x < 0 is b / (2*r*(r + t)), and 1 minus that for x > 0.
    _, _, c, t, square = _squareplus_parts(x, b)
    g = (0.5 * c) / (square + t * jnp.sqrt(square))
    return jnp.where(x < 0, g, 1.0 - g)


def gelu_erf_value(x):
    t, s, m = _gelu_parts(x)
    return gated_by(x, t, s * m)


def gelu_erf_slope(x):
    t, s, m = _gelu_parts(x)
    return mirrored(x, s * (m - (0.5 * _SQRT_2_OVER_PI) * t))


def gelu_tanh_tail(x):
    """sigmoid(-u) * headroom, for u of |x|."""
    # u is a single number: its rounding costs 40 ULP at x = -5 and 200 at -10, but with two parts this would take twice
    # as long.
    t = gelu_tanh_size(x)
    a, b = GELU_TANH
    _, s = exp_neg(t * (a + b * (t * t)))
    return s / (1.0 + s * (1.0 / headroom(x)))


def gelu_tanh_value(x):
    return gated_by(x, gelu_tanh_size(x), gelu_tanh_tail(x))


def gelu_tanh_slope(x):
    _, s, e, (hi, lo) = _gelu_tanh_parts(x)
    return mirrored(x, s * ((1.0 - hi) + (e - lo)) / _square_1p(e))


def gelu_value(x, *, approximate):
    return gelu_tanh_value(x) if approximate else gelu_erf_value(x)


def gelu_slope(x, *, approximate):
    return gelu_tanh_slope(x) if approximate else gelu_erf_slope(x)
