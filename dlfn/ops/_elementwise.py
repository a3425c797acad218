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
# beyond _FAR the exponential is exp(_SHIFT - u), and the finished result is multiplied by exp(-_SHIFT).
# _SHIFT - u is exact there.
_FAR = 32.0
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


def _exp_neg(u):
    """(E, far): exp(-u) for u >= 0, without the factor exp(-_SHIFT) where far. `_unshift` puts that back."""
    far = u > _FAR
    return jnp.exp(jnp.where(far, _SHIFT - u, -u)), far


def _exp_neg_sum(hi, lo):
    """The same for u = hi + lo, lo being small but no rounding error: an error of d in u is one of d * E in E.

    The sum is rounded to s, and the remainder enters as E - E*r. A product of two exponentials would not do: XLA merges
    exp(a) * exp(b) into exp(a + b).
    """
    s = hi + lo
    r = lo - (s - hi)
    e, far = _exp_neg(s)
    return e - e * r, far


def _unshift(y, far):
    return jnp.where(far, y * _UNSHIFT, y)


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


def _silu_parts(x):
    # The bound keeps 0 * inf out of the products below; beyond it exp(-t) is 0 in any case. So in the next two.
    t = jnp.minimum(jnp.abs(x), 1000.0)
    e, far = _exp_neg(t)
    return t, e, far, _unshift(e, far)


def _gelu_parts(x):
    # 14.5 is the end of the float32 fit, and exp(-14.5**2/2) * 14.5 is far below the smallest normal number.
    t = jnp.minimum(jnp.abs(x), 14.5 if x.dtype.itemsize == 4 else 40.0)
    e, far = _exp_neg_sum(*_half_square(t))
    return t, e, far, _ratio(_MILLS[x.dtype.itemsize], t)


def _gelu_tanh_parts(x):
    t = jnp.minimum(jnp.abs(x), 30.0)
    hi, lo, w = _gelu_tanh_exponent(t)
    e, far = _exp_neg_sum(hi, lo)
    return t, t * w, e, far, _unshift(e, far)


def _gate(x, t, q, far):
    """x * q(x), given t = |x|, bounded, and q(-t), scaled. Not max(x, 0) - t*q, which is 2x too large where t*q underflows."""
    return jnp.where(x < 0, _unshift(-t * q, far), x * (1.0 - _unshift(q, far)))


def _square_1p(e):
    """(1 + e)**2 with less rounding than the product of two rounded sums."""
    return 1.0 + e * (2.0 + e)


def _mirror(x, slope):
    return jnp.where(x < 0, slope, 1.0 - slope)


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
    e, far = _exp_neg(2.0 * jnp.abs(x))
    return _unshift(4.0 * e / _square_1p(_unshift(e, far)), far)


def relu_value(x):
    return jnp.maximum(x, 0.0)


def relu_slope(x):
    # The maximum is 0, or nan at nan.
    return jnp.where(x > 0, 1.0, jnp.maximum(x, 0.0))


def silu_value(x):
    t, e, far, e1 = _silu_parts(x)
    return _gate(x, t, e / (1.0 + e1), far)


def silu_slope(x):
    t, e, far, e1 = _silu_parts(x)
    return _mirror(x, _unshift(e * ((1.0 + e1) - t) / _square_1p(e1), far))


def softplus_value(x):
    e = jnp.exp(-jnp.abs(x))
    return jnp.maximum(x, 0.0) + (jnp.log1p(e) if x.dtype.itemsize == 8 else e * _ratio(_LOG1P, e))


def softplus_slope(x):
    return lax.logistic(x)


def gelu_value(x):
    t, e, far, m = _gelu_parts(x)
    return _gate(x, t, e * m, far)


def gelu_slope(x):
    t, e, far, m = _gelu_parts(x)
    return _mirror(x, _unshift(e * (m - (0.5 * _SQRT_2_OVER_PI) * t), far))


def gelu_tanh_value(x):
    t, _, e, far, e1 = _gelu_tanh_parts(x)
    return _gate(x, t, e / (1.0 + e1), far)


def gelu_tanh_slope(x):
    _, tw, e, far, e1 = _gelu_tanh_parts(x)
    return _mirror(x, _unshift(e * ((1.0 + e1) - tw) / _square_1p(e1), far))
