"""Activations and their derivatives as plain jax.numpy, accurate to a few ULP up to the ends of the range.

`<name>_value(x)` is f(x) and `<name>_slope(x)` is f'(x). Both take float32 or float64 and return the same dtype; callers
upcast half types. Derivatives are computed from x, never from the rounded output: 1 - sigmoid(x) and 1 - tanh(x)**2 lose
every digit once the output saturates.

silu, gelu and gelu_tanh are x * q(x) with q(x) + q(-x) = 1, so f'(x) = 1 - f'(-x): only x <= 0 needs a formula, in t = |x|.
There every term carries a factor exp(-u), and one exponential per function is all that is spent.
"""

import jax.numpy as jnp
from jax import lax

# exp(-u) drops below the smallest normal number, which XLA on CPU flushes to 0, before t * exp(-u) or 4 * exp(-u) does. So
# beyond _FAR the exponential is exp(_SHIFT - u), and the finished result is multiplied by exp(-_SHIFT). _SHIFT - u is exact
# there, and exp(_SHIFT - _FAR) is below half an ULP of 1 even in float64: sums 1 + exp(-u) need no correction.
_FAR = 53.0
_SHIFT = 15.0
_UNSHIFT = 3.059023205018258e-07

_SQRT_2_OVER_PI = 0.7978845608028654

# Phi(-t) = exp(-t*t/2) * P(t)/Q(t), Phi being the normal distribution function; lowest power first. Rational least squares,
# linearised and reweighted towards minimax: in 64 bits for float32 (relative error 6e-9 on t <= 14.5), with mpmath in 50
# digits for float64 (6e-17 on t <= 40). All coefficients are positive, so nothing cancels.
_MILLS = {
    4: (
        (0.5, 0.4382949471473694, 0.18323515355587006, 0.04063323512673378, 0.004116310738027096),
        (1.0, 1.674474835395813, 1.2025032043457031, 0.46947064995765686, 0.10185886174440384, 0.010317941196262836),
    ),
    8: (
        (0.5, 0.7753126299997458, 0.5946777525607826, 0.2897809919441286, 0.09789934125517091, 0.023683111102470723,
         0.004102103680621806, 0.0004922502079685848, 3.741876762069748e-05, 1.3929217922427394e-06),
        (1.0, 2.348509820802347, 2.5631952320339835, 1.716402495714107, 0.7833053602777141, 0.2554921047080176,
         0.06059166154451488, 0.010376244001583509, 0.0012373798268236127, 9.379494091789949e-05, 3.491537148794812e-06),
    ),
}  # fmt: skip

# log1p(e)/e on 0 <= e <= 1, relative error 1e-9, fitted the same way for float32. XLA's own log1p costs two exponentials.
_LOG1P = (
    (1.0, 1.0662184953689575, 0.2381575107574463, 0.003417281899601221),
    (1.0, 1.5662182569503784, 0.6879362463951111, 0.07528728246688843),
)

# (tanh(x)/x - 1)/x**2 in powers of x**2 on |x| <= 0.55, fitted for float32: error 1e-9 of tanh(x)/x.
_TANH = (-0.33333316445350647, 0.13332585990428925, -0.05385230854153633, 0.021071678027510643, -0.006274236366152763)


def _horner(coefficients, x):
    y = coefficients[-1] * x + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        y = y * x + c
    return y


def _ratio(fit, x):
    return _horner(fit[0], x) / _horner(fit[1], x)


def _select(condition, a, b, dtype):
    """`where` of two numbers, typed: two bare numbers would select in float64 under jax_enable_x64."""
    return jnp.where(condition, dtype.type(a), dtype.type(b))


def _exp_neg(u):
    """(e, m) with exp(-u) = e * m for u >= 0, m being 1 or exp(-_SHIFT)."""
    far = u > _FAR
    return jnp.exp(jnp.where(far, _SHIFT - u, -u)), _select(far, _UNSHIFT, 1.0, u.dtype)


def _exp_neg_sum(hi, lo):
    """The same for u = hi + lo, lo being small but no rounding error: an error of d in u is one of d * exp(-u) in exp(-u).

    The sum is rounded to s, and the remainder enters as e - e*r. A product of two exponentials would not do: XLA merges
    exp(a) * exp(b) into exp(a + b).
    """
    s = hi + lo
    r = lo - (s - hi)
    e, m = _exp_neg(s)
    return e - e * r, m


def _half_bits(dtype):
    return 12 if dtype.itemsize == 4 else 26


def _round_to_half(x):
    """x to half its significant bits: products of two such numbers are exact, and so is the remainder."""
    return lax.reduce_precision(x, 8 if x.dtype.itemsize == 4 else 11, _half_bits(x.dtype) - 1)


def _half_square(t):
    """t*t/2 as an exact leading part and a small rest."""
    th = _round_to_half(t)
    return 0.5 * (th * th), 0.5 * ((t - th) * (t + th))


def _gelu_tanh_exponent(t):
    """t * (a + b*t*t), the u of gelu_tanh = x * sigmoid(u), as an exact leading part and a small rest, and du/dt."""
    bits = _half_bits(t.dtype)
    a = 2.0 * _SQRT_2_OVER_PI
    b = a * 0.044715
    ah = round(a * 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)
    bh = round(b * 2.0 ** (bits + 3)) / 2.0 ** (bits + 3)
    th = _round_to_half(t)
    tl = t - th
    z = th * th  # exact; t*t is z + zl
    zl = tl * (t + th)
    zh = _round_to_half(z)
    w = b * (z + zl) + a
    wh = _round_to_half(w)
    # wl = a + b*t*t - wh. wh - ah and bh*zh are exact, and so is their difference unless b*t*t is too small to matter.
    wl = (bh * zh - (wh - ah)) + ((a - ah) + ((b - bh) * zh + b * ((z - zh) + zl)))
    return th * wh, th * wl + tl * w, (3.0 * b) * (z + zl) + a


def _square_1p(e):
    """(1 + e)**2 with less rounding than the product of two rounded sums."""
    return 1.0 + e * (2.0 + e)


# In _gate and _mirror the quotient is used once, with selected constants around it. In where(x < 0, q, 1 - q) it is used
# twice, and XLA on CPU then ends the fused loop at the division and writes the quotient to memory.


def _gate(x, t, q, m):
    """x * q(x), given t = |x|, bounded, and q(-t) = q * m."""
    # max(x, 0) - t*q*m would be 2x too large where t*q underflows.
    one = _select(x < 0, 1.0, -1.0, x.dtype)
    return (one * q + _select(x < 0, 0.0, 1.0, x.dtype)) * jnp.where(x < 0, -t * m, x)


def _mirror(x, numerator, denominator, m):
    """f'(x), given f'(-|x|) = numerator / denominator * m."""
    return numerator * jnp.where(x < 0, m, -1.0) / denominator + _select(x < 0, 0.0, 1.0, x.dtype)


def _gelu_parts(x):
    # 14.5 is the end of the float32 fit, and exp(-14.5**2/2) * 14.5 is far below the smallest normal number. The bound also
    # keeps 0 * inf out of the products, as do those in silu and gelu_tanh.
    t = jnp.minimum(jnp.abs(x), 14.5 if x.dtype.itemsize == 4 else 40.0)
    e, m = _exp_neg_sum(*_half_square(t))
    return t, e, m, *(_horner(c, t) for c in _MILLS[x.dtype.itemsize])


def _gelu_tanh_parts(x):
    t = jnp.minimum(jnp.abs(x), 30.0)
    hi, lo, w = _gelu_tanh_exponent(t)
    return t, w, *_exp_neg_sum(hi, lo)


def sigmoid_value(x):
    return lax.logistic(x)


def sigmoid_slope(x):
    e = jnp.exp(-jnp.abs(x))
    return e / _square_1p(e)


def tanh_value(x):
    if x.dtype.itemsize == 8:
        return lax.tanh(x)
    t = jnp.abs(x)
    y = 1.0 - 2.0 / (1.0 + jnp.exp(2.0 * t))
    z = x * x
    return jnp.where(t < 0.55, x + x * (z * _horner(_TANH, z)), jnp.where(x < 0, -y, y))


def tanh_slope(x):
    e, m = _exp_neg(2.0 * jnp.abs(x))
    return e * (4.0 * m) / _square_1p(e)


def relu_value(x):
    return jnp.maximum(x, 0.0)


def relu_slope(x):
    # The maximum is 0, or nan at nan.
    return jnp.where(x > 0, 1.0, jnp.maximum(x, 0.0))


def silu_value(x):
    t = jnp.minimum(jnp.abs(x), 1000.0)
    e, m = _exp_neg(t)
    return _gate(x, t, e / (1.0 + e), m)


def silu_slope(x):
    t = jnp.minimum(jnp.abs(x), 1000.0)
    e, m = _exp_neg(t)
    return _mirror(x, e * ((1.0 + e) - t), _square_1p(e), m)


def softplus_value(x):
    e = jnp.exp(-jnp.abs(x))
    return jnp.maximum(x, 0.0) + (jnp.log1p(e) if x.dtype.itemsize == 8 else e * _ratio(_LOG1P, e))


def softplus_slope(x):
    return lax.logistic(x)


def gelu_value(x):
    t, e, m, p, q = _gelu_parts(x)
    return _gate(x, t, e * p / q, m)


def gelu_slope(x):
    t, e, m, p, q = _gelu_parts(x)
    return _mirror(x, e * (p - (0.5 * _SQRT_2_OVER_PI) * t * q), q, m)


def gelu_tanh_value(x):
    t, _, e, m = _gelu_tanh_parts(x)
    return _gate(x, t, e / (1.0 + e), m)


def gelu_tanh_slope(x):
    t, w, e, m = _gelu_tanh_parts(x)
    return _mirror(x, e * ((1.0 + e) - t * w), _square_1p(e), m)
