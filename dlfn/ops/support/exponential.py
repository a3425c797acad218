"""exp(-u) for the activations, faster than lax.exp and with digits to spare, and tools for formulas that use it; and,
for the divergences, the rest of exp(t) near 0 after the first two terms of its series.

The fits here and in activations/kernels.py are least squares reweighted towards minimax (rational ones linearised),
with mpmath in 50 digits for float64. Their errors are relative. Coefficients are lowest power first.
"""

import math
from fractions import Fraction

import jax.numpy as jnp
from jax import lax

__all__ = [
    "bound",
    "by_dtype",
    "exp_neg",
    "exp_remainder",
    "expm1_neg",
    "halve",
    "headroom",
    "horner",
    "magnitude",
    "pick",
    "quotient",
]  # fmt: skip

# (exp(r) - 1 - r)/r**2 on |r| <= 0.39, for float32. It adds 7e-9 to the error of exp.
_EXP_32 = (0.49999988079071045, 0.16666433215141296, 0.041669417172670364, 0.008378096856176853, 0.0013795231934636831)
_EXP_64 = tuple(1.0 / math.factorial(k) for k in range(2, 15))

# log(2) as a part with so few bits that small multiples of it are exact, and the rest.
_LOG2_32 = (0.693359375, -2.1219444005469057e-04)
_LOG2_64 = (0.6931471803691238, 1.9082149292705877e-10)


def by_dtype(x, for_32, for_64):
    return for_32 if x.dtype.itemsize == 4 else for_64


def headroom(x):
    """The power of two by which exp_neg multiplies its second result. exp(-bound(x)) is 0 in the dtype of x, and with
    this factor it is a normal number."""
    return by_dtype(x, 2.0**64, 2.0**512)


def bound(x):
    return by_dtype(x, 128.0, 800.0)


def horner(coefficients, x):
    y = coefficients[-1] * x + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        y = y * x + c
    return y


def pick(condition, a, b, x):
    """`where` of two numbers in x's dtype: bare numbers would be selected in float64 under jax_enable_x64."""
    return jnp.where(condition, x.dtype.type(a), x.dtype.type(b))


def magnitude(x, limit):
    """|x|, bounded so that no product with it is 0 * inf. Its derivative at 0 is 1, as f'' needs; jnp.abs has 0."""
    return jnp.minimum(jnp.where(x < 0, -x, x), limit)


def _reduced(hi, lo):
    """p with exp(-(hi + lo)) = (1 + p) * 2**n, and a function that computes 2**(n + shift).

    Near 0 n is 0, so that p is exp(-(hi + lo)) - 1 with all its digits.
    """
    integer, mantissa, bias = by_dtype(hi, (jnp.int32, 23, 127), (jnp.int64, 52, 1023))
    log2, exp = by_dtype(hi, (_LOG2_32, _EXP_32), (_LOG2_64, _EXP_64))
    # Adding 1.5 * 2**mantissa leaves round(-hi / log(2)) in the low bits. It is read from there, because subtracting
    # 1.5 * 2**mantissa again would make a sum with two constants, which XLA simplifies away.
    bits = lax.bitcast_convert_type(hi * (-1.0 / math.log(2.0)) + 1.5 * 2.0**mantissa, integer)
    n = (bits - (((mantissa + bias) << mantissa) + (1 << (mantissa - 1)))).astype(hi.dtype)
    rest = n * log2[1] if lo is None else n * log2[1] + lo
    r = (-hi - n * log2[0]) - rest

    def two_to(shift):
        # Exponents below the range set the sign bit. The maximum makes them 0.
        power = (bits << mantissa) + ((bias + shift) << mantissa)
        return lax.bitcast_convert_type(jnp.maximum(power, 0), hi.dtype)

    return r + r * r * horner(exp, r), two_to


def exp_neg(hi, lo=None):
    """exp(-(hi + lo)), and the same times headroom, for 0 <= hi <= bound and |lo| < 0.04.

    It does not use lax.exp for three reasons. In a tail exp(-u) falls below the smallest normal number, where XLA on
    CPU flushes it to 0, sooner than t * exp(-u) does: hence the result with headroom, which costs nothing here.
    (Neither result is computed from the other by a constant factor, because XLA collects the constant factors of a
    product, and together they could over- or underflow.) The rounding error of a large u is a relative error of
    exp(-u): hence lo. (exp(-hi) * exp(-lo) would not do, since XLA merges the two into one exponential.) And this takes
    0.6 times as long as lax.exp.
    """
    p, two_to = _reduced(hi, lo)
    exp_r = 1.0 + p
    return exp_r * two_to(0), exp_r * two_to(int(math.log2(headroom(hi))))


def expm1_neg(hi, lo=None):
    """exp(-(hi + lo)) - 1, for arguments as in :func:`exp_neg`, with which it shares the work under one jit."""
    p, two_to = _reduced(hi, lo)
    power = two_to(0)
    return p * power + (power - 1.0)


def halve(x):
    """x, which is >= 0, rounded to half its significant bits: products of two such numbers are exact, and so is the
    remainder.

    This takes two integer operations, lax.reduce_precision a dozen. For a nan the result may be a number, but the
    remainder is nan.
    """
    integer, low = by_dtype(x, (jnp.int32, 12), (jnp.int64, 27))
    bits = lax.bitcast_convert_type(x, integer)
    return lax.bitcast_convert_type((bits + (1 << (low - 1))) & -(1 << low), x.dtype)


def quotient(t, divisor):
    """t / divisor, for t >= 0 and a number > 0, in two parts for :func:`exp_neg`; the first is exact."""
    mantissa, exponent = math.frexp(1.0 / divisor)
    if mantissa == 0.5:
        return t * (1.0 / divisor), None
    half = by_dtype(t, 2**12, 2**26)
    first = math.ldexp(round(mantissa * half) / half, exponent)
    rest = float(1 / Fraction(float(divisor)) - Fraction(first))
    th = halve(t)
    return th * first, (t - th) * first + t * rest


def exp_remainder(t):
    """Three arrays: whether |t| < 1/2; s, which is t cut to ±1/2; and (exp(s) - 1 - s) / s². The last two are for
    results that are used only where the first is true."""
    small = jnp.abs(t) < 0.5
    s = lax.clamp(t.dtype.type(-0.5), t, t.dtype.type(0.5))
    return small, s, horner([1 / math.factorial(k + 2) for k in range(by_dtype(t, 7, 14))], s)
