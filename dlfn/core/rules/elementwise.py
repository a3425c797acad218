r"""Elementwise rules: the calculus of documents 000 (sections 1 to 3) and 004, one line each.

Read ``elementwise("sin", lambda g, y, x: g * cos(x))`` as: for :math:`y = \sin x` and the cotangent :math:`g` of y, the
cotangent of x is :math:`g \cos x`. A rule for two inputs has one line for each.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core.rules.table import elementwise, is_complex, rule, summed_like, zero_derivative

# Arithmetic: sum, product, quotient and power rules
elementwise("neg", lambda g, y, x: -g)
elementwise("add", lambda g, y, a, b: g, lambda g, y, a, b: g)
elementwise("add_any", lambda g, y, a, b: g, lambda g, y, a, b: g)
elementwise("sub", lambda g, y, a, b: g, lambda g, y, a, b: -g)
elementwise("mul", lambda g, y, a, b: g * b, lambda g, y, a, b: a * g)
elementwise("div", lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)
elementwise("rem", lambda g, y, a, b: g, lambda g, y, a, b: -g * jnp.trunc(a / b))
elementwise("square", lambda g, y, x: g * 2 * x)
elementwise("sqrt", lambda g, y, x: g / (2 * y))
elementwise("rsqrt", lambda g, y, x: g * -0.5 * y / x)
elementwise("cbrt", lambda g, y, x: g * y / (3 * x))
elementwise("one_minus_square", lambda g, y, x: g * -2 * x)
elementwise("nextafter", lambda g, y, a, b: g, lambda g, y, a, b: None)  # a and one spacing towards b


@rule("integer_pow")
def _integer_pow(g, out, x, *, y):
    return jnp.zeros_like(x) if y == 0 else g * y * lax.integer_pow(x, y - 1)


def _pow_base(g, y, a, b):
    # x⁰ is constant, also at x = 0 where b xᵇ⁻¹ would be 0 · ∞
    b = b.astype(a.dtype)
    return g * jnp.where(b == 0, 0, b * jnp.power(a, jnp.where(b == 0, 1, b - 1)))


def _pow_exponent(g, y, a, b):
    if not jnp.issubdtype(b.dtype, jnp.inexact):
        return None
    return g * jnp.where(a == 0, 0, jnp.log(jnp.where(a == 0, 1, a))) * y


elementwise("pow", _pow_base, _pow_exponent)


@rule("polynomial")
def _polynomial(g, y, x, *coefficients, **_):
    """y = Σ cₖ xᵏ, by Horner's scheme for the derivative."""
    slope = jnp.zeros_like(x)
    for k in range(len(coefficients) - 1, 0, -1):
        slope = slope * x + k * coefficients[k]
    powers = [jnp.ones_like(x)]
    for _ in coefficients[1:]:
        powers.append(powers[-1] * x)
    return summed_like(g * slope, x), *(summed_like(g * p, c) for p, c in zip(powers, coefficients, strict=True))


# Exponentials and logarithms
elementwise("exp", lambda g, y, x: g * y)
elementwise("exp2", lambda g, y, x: g * y * math.log(2))
elementwise("expm1", lambda g, y, x: g * jnp.exp(x))
elementwise("log", lambda g, y, x: g / x)
elementwise("log2", lambda g, y, x: g / (x * math.log(2)))
elementwise("log1p", lambda g, y, x: g / (1 + x))
elementwise("logistic", lambda g, y, x: g * y * lax.logistic(-x))

# Trigonometric functions
elementwise("sin", lambda g, y, x: g * jnp.cos(x))
elementwise("cos", lambda g, y, x: -g * jnp.sin(x))
elementwise("tan", lambda g, y, x: g * (1 + y * y))
elementwise("asin", lambda g, y, x: g * lax.rsqrt((1 - x) * (1 + x)))
elementwise("acos", lambda g, y, x: -g * lax.rsqrt((1 - x) * (1 + x)))
elementwise("atan", lambda g, y, x: g / (1 + x * x))
elementwise("atan2", lambda g, y, a, b: g * b / (a * a + b * b), lambda g, y, a, b: -g * a / (a * a + b * b))


# Hyperbolic functions
def _sech(x):
    return 1 / jnp.cosh(x)


elementwise("sinh", lambda g, y, x: g * jnp.cosh(x))
elementwise("cosh", lambda g, y, x: g * jnp.sinh(x))
elementwise("tanh", lambda g, y, x: g * _sech(x) * _sech(x))  # 1 − y² is 0 from |x| = 9 on
elementwise("asinh", lambda g, y, x: g * lax.rsqrt(x * x + 1))
elementwise("acosh", lambda g, y, x: g * lax.rsqrt(x - 1) * lax.rsqrt(x + 1))  # of the product: −1 times, for Re x < 0
elementwise("atanh", lambda g, y, x: g / ((1 - x) * (1 + x)))


# Choices. At a tie maximum and minimum give each side half, as JAX does.
def _share(g, mine, other, better):
    return g * jnp.where(better, 1, jnp.where(mine == other, 0.5, 0)).astype(g.dtype)


elementwise("max", lambda g, y, a, b: _share(g, a, b, a > b), lambda g, y, a, b: _share(g, b, a, b > a))
elementwise("min", lambda g, y, a, b: _share(g, a, b, a < b), lambda g, y, a, b: _share(g, b, a, b < a))
elementwise(
    "clamp",
    lambda g, y, low, x, high: jnp.where(low > x, g, 0),
    lambda g, y, low, x, high: jnp.where((low < x) & (x < high), g, 0),
    lambda g, y, low, x, high: jnp.where(high < x, g, 0),
)


@rule("select_n")
def _select_n(g, y, which, *cases):
    which = which.astype(jnp.int32)  # from a bool, where there are two cases
    return (None, *(summed_like(jnp.where(which == i, g, 0), case) for i, case in enumerate(cases)))


# Representation
elementwise("copy", lambda g, y, x: g)
elementwise("copy_p", lambda g, y, x: g)
rule("device_put")(lambda gs, ys, *xs, **_: tuple(gs))
elementwise("name", lambda g, y, x: g)
elementwise("xla_metadata_value", lambda g, y, x: g)
elementwise("with_memory_space_constraint", lambda g, y, x: g)
elementwise("convert_element_type", lambda g, y, x: (g if is_complex(x) else g.real).astype(x.dtype))
rule("reduce_precision")(lambda g, y, x, **params: lax.reduce_precision(g, **params))
rule("optimization_barrier")(lambda g, y, *xs: tuple(g))

zero_derivative("stop_gradient", "floor", "ceil", "round", "is_finite", "bitcast_convert_type")

# Meshes: a cotangent has the sharding of its value. Where a value is copied to many devices their cotangents are
# summed, and where values are summed the cotangent is copied to all.
rule("sharding_constraint", "reshard", "layout_constraint")(
    lambda g, y, x, **_: jax.sharding.reshard(g, jax.typeof(x).sharding)
)
rule("pvary")(lambda g, y, x, *, axes, **_: lax.psum(g, axes))
rule("psum_invariant")(lambda g, y, x, *, axes, **_: lax.pcast(g, axes, to="varying"))

zero_derivative("eq", "ne", "lt", "le", "gt", "ge", "eq_to", "lt_to", "le_to", "argmax", "argmin")
zero_derivative("and", "or", "xor", "not", "mulhi", "shift_left", "shift_right_arithmetic", "shift_right_logical")
zero_derivative("random_bits", "random_fold_in", "random_seed", "random_split", "random_unwrap", "random_wrap")
