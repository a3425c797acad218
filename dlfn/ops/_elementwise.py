"""Activations and their derivatives as plain jax.numpy, accurate to a few ULP up to the ends of the range.

`<name>_value(x)` is f(x) and `<name>_slope(x)` is f'(x). Both take float32 or float64 and return the same dtype;
callers upcast half types. Derivatives are computed from x, never from the rounded output: 1 - sigmoid(x) and
1 - tanh(x)**2 lose every digit once the output saturates. Differentiating a slope gives f'' (in float32 to about 1e-6).

silu, gelu and gelu_tanh are x * q(x) with q(x) + q(-x) = 1, so f'(x) = 1 - f'(-x): only x <= 0 needs a formula, in
t = |x|. There every term carries a factor exp(-u), and one exponential per function is all that is spent.

The fits are least squares reweighted towards minimax (rational ones linearised), with mpmath in 50 digits for float64.
Their errors are relative. Coefficients are lowest power first.
"""

import math

import jax.numpy as jnp
from jax import lax

# (exp(r) - 1 - r)/r**2 on |r| <= 0.39, for float32. It adds 7e-9 to the error of exp.
_EXP_32 = (0.49999988079071045, 0.16666433215141296, 0.041669417172670364, 0.008378096856176853, 0.0013795231934636831)
_EXP_64 = tuple(1.0 / math.factorial(k) for k in range(2, 15))

# log(2) as a part with so few bits that small multiples of it are exact, and the rest.
_LOG2_32 = (0.693359375, -2.1219444005469057e-04)
_LOG2_64 = (0.6931471803691238, 1.9082149292705877e-10)

# P and Q with exp(t*t/2) * Phi(-t) = P(t)/Q(t), Phi the normal distribution function. No coefficient is negative:
# nothing cancels. For float32 the error is 9e-9 on t <= 14.5, rounding of the coefficients included (P and Q have a
# common factor chosen to make that small); for float64 6e-17 on t <= 40.
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

# For float32, error 1e-9: log1p(e)/e = P(e)/Q(e) on 0 <= e <= 1 (XLA's log1p costs two exponentials).
_LOG1P = (
    (1.0, 1.0662184953689575, 0.2381575107574463, 0.003417281899601221),
    (1.0, 1.5662182569503784, 0.6879362463951111, 0.07528728246688843),
)

_SQRT_2_OVER_PI = 0.7978845608028654


def _by_dtype(x, for_32, for_64):
    return for_32 if x.dtype.itemsize == 4 else for_64


def _scale(x):
    """What _exp_neg multiplies its result by: exp(-_bound(x)) times anything is 0, and is normal when scaled."""
    return _by_dtype(x, 2.0**64, 2.0**512)


def _bound(x):
    return _by_dtype(x, 128.0, 800.0)


def _horner(coefficients, x):
    y = coefficients[-1] * x + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        y = y * x + c
    return y


def _pick(condition, a, b, x):
    """`where` of two numbers in x's dtype: bare numbers would be selected in float64 under jax_enable_x64."""
    return jnp.where(condition, x.dtype.type(a), x.dtype.type(b))


def _abs(x, bound):
    """|x|, bounded so that no product below is 0 * inf. Its derivative at 0 is 1, as f'' needs; jnp.abs has 0."""
    return jnp.minimum(jnp.where(x < 0, -x, x), bound)


def _exp_neg(hi, lo=None):
    """exp(-(hi + lo)), and the same times _scale, for 0 <= hi <= _bound and |lo| < 0.04.

    Own code for three reasons. In a tail exp(-u) drops below the smallest normal number, which XLA on CPU flushes to 0,
    before t * exp(-u) does: hence the scale, free here. (Neither result is the other times a constant: XLA gathers the
    constants of products, and the scales of two factors in one underflow or overflow.) The rounding error of a large u
    is a relative error of exp(-u): hence lo (exp(-hi) * exp(-lo) will not do, XLA merges them). And it takes 0.6 times
    as long as lax.exp.
    """
    integer, mantissa, bias = _by_dtype(hi, (jnp.int32, 23, 127), (jnp.int64, 52, 1023))
    log2, exp = _by_dtype(hi, (_LOG2_32, _EXP_32), (_LOG2_64, _EXP_64))
    # Adding 1.5 * 2**mantissa leaves round(-hi / log(2)) in the low bits. It is read from there, because subtracting
    # the number again makes a sum with two constants, which XLA simplifies away.
    bits = lax.bitcast_convert_type(hi * (-1.0 / math.log(2.0)) + 1.5 * 2.0**mantissa, integer)
    n = (bits - (((mantissa + bias) << mantissa) + (1 << (mantissa - 1)))).astype(hi.dtype)
    rest = n * log2[1] if lo is None else n * log2[1] + lo
    r = (-hi - n * log2[0]) - rest
    exp_r = 1.0 + (r + r * r * _horner(exp, r))

    def times_two_to(shift):
        # exponents below the range wrap around in the sign bit: cut them off at 0
        power = (bits << mantissa) + ((bias + shift) << mantissa)
        return exp_r * lax.bitcast_convert_type(jnp.maximum(power, 0), hi.dtype)

    return times_two_to(0), times_two_to(int(math.log2(_scale(hi))))


def _halve(x):
    """x >= 0 to half its significant bits: products of two such numbers are exact, and so is the remainder.

    Two integer operations, where lax.reduce_precision has a dozen. At a nan the result may be a number, the remainder
    is nan.
    """
    integer, low = _by_dtype(x, (jnp.int32, 12), (jnp.int64, 27))
    bits = lax.bitcast_convert_type(x, integer)
    return lax.bitcast_convert_type((bits + (1 << (low - 1))) & -(1 << low), x.dtype)


def _square_1p(e):
    """(1 + e)**2 with less rounding than the product of two rounded sums."""
    return 1.0 + e * (2.0 + e)


# In _gate and _mirror q and g are used once, with selected constants around them. In where(x < 0, g, 1 - g) g is used
# twice, and XLA on CPU then ends the fused loop at the division in g and writes g to memory.


def _gate(x, t, q):
    """x * q(x), given t = |x|, bounded, and q(-t) * scale."""
    # max(x, 0) - t*q would be 2x too large where t*q underflows.
    k = 1.0 / _scale(x)
    q = q * _pick(x < 0, 1.0, -k, x) + _pick(x < 0, 0.0, 1.0, x)
    return q * jnp.where(x < 0, -t, x) * _pick(x < 0, k, 1.0, x)


def _mirror(x, g):
    """f'(x), given f'(-|x|) * scale."""
    k = 1.0 / _scale(x)
    return g * _pick(x < 0, k, -k, x) + _pick(x < 0, 0.0, 1.0, x)


def _sigmoid_parts(x):
    """t = |x|, bounded; exp(-t) * scale; exp(-t)."""
    t = _abs(x, _bound(x))
    e, s = _exp_neg(t)
    return t, s, e


def _gelu_parts(x):
    """t = |x|, bounded; exp(-t*t/2) * scale, the exponent in an exact and a small part; exp(t*t/2) * Phi(-t)."""
    t = _abs(x, _by_dtype(x, 15.0, 40.0))
    th = _halve(t)
    _, s = _exp_neg(0.5 * (th * th), 0.5 * ((t - th) * (t + th)))
    p, q = _by_dtype(x, _MILLS_32, _MILLS_64)
    return t, s, _horner(p, t) / _horner(q, t)


def _gelu_tanh_parts(x):
    """t = |x|, bounded; exp(-u) * scale; exp(-u); t * du/dt in two parts; for x * sigmoid(u), u = t * (a + b*t*t)."""
    t = _abs(x, _by_dtype(x, 11.0, 22.0))
    # u is split like t*t/2 above. ah and bh hold half the bits of a and b.
    a, b = 2.0 * _SQRT_2_OVER_PI, 2.0 * _SQRT_2_OVER_PI * 0.044715
    half = _by_dtype(x, 2.0**11, 2.0**25)
    ah, bh = round(a * half) / half, round(b * 16.0 * half) / (16.0 * half)
    th = _halve(t)
    tl = t - th
    z = th * th  # exact; t*t is z + zl
    zh = _halve(z)
    zl = tl * (t + th)
    w = b * (t * t) + a
    wh = _halve(w)
    # wl = a + b*t*t - wh. ah - wh and bh*zh are exact, and so is their sum unless b*t*t is too small to matter.
    wl = (bh * zh + (ah - wh)) + (b * ((z - zh) + zl) + ((b - bh) * zh + (a - ah)))
    e, s = _exp_neg(th * wh, th * wl + tl * w)
    # du/dt = a + 3*b*t*t = 3*(wh + wl) - 2*a.
    dh, dl = 3.0 * wh - 2.0 * ah, 3.0 * wl - 2.0 * (a - ah)
    return t, s, e, (th * dh, tl * dh + t * dl)


def sigmoid_value(x):
    _, _, e = _sigmoid_parts(x)
    return jnp.where(x < 0, e, 1.0) / (1.0 + e)


def sigmoid_slope(x):
    _, _, e = _sigmoid_parts(x)
    return e / _square_1p(e)


def tanh_value(x):
    return lax.tanh(x)


def tanh_slope(x):
    _, s, e = _sigmoid_parts(2.0 * x)
    # Selected, and so no constant to gather; see _exp_neg.
    return s * jnp.where(x != x, x, x.dtype.type(4.0 / _scale(x))) / _square_1p(e)


def relu_value(x):
    return jnp.maximum(x, 0.0)


def silu_value(x):
    t, s, e = _sigmoid_parts(x)
    return _gate(x, t, s / (1.0 + e))


def silu_slope(x):
    t, s, e = _sigmoid_parts(x)
    return _mirror(x, s * ((1.0 - t) + e) / _square_1p(e))


def softplus_value(x):
    _, _, e = _sigmoid_parts(x)
    tail = _horner(_LOG1P[0], e) / _horner(_LOG1P[1], e) * e if x.dtype.itemsize == 4 else lax.log1p(e)
    return jnp.maximum(x, 0.0) + tail


def softplus_slope(x):
    return sigmoid_value(x)


def gelu_value(x):
    t, s, m = _gelu_parts(x)
    return _gate(x, t, s * m)


def gelu_slope(x):
    t, s, m = _gelu_parts(x)
    return _mirror(x, s * (m - (0.5 * _SQRT_2_OVER_PI) * t))


def gelu_tanh_value(x):
    # u in one part: its rounding costs 40 ULP at x = -5 and 200 at -10, and two parts would cost half the speed.
    t = _abs(x, _by_dtype(x, 11.0, 22.0))
    e, s = _exp_neg(t * (2.0 * _SQRT_2_OVER_PI) * (1.0 + 0.044715 * (t * t)))
    return _gate(x, t, s / (1.0 + e))


def gelu_tanh_slope(x):
    _, s, e, (hi, lo) = _gelu_tanh_parts(x)
    return _mirror(x, s * ((1.0 - hi) + (e - lo)) / _square_1p(e))
