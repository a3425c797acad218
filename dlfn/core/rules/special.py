r"""Special functions. Numbers such as 8.8.13 are those of the Digital Library of Mathematical Functions, dlmf.nist.gov.

A derivative by the order of a function has no closed form in most cases; where neither JAX nor this sheet has one, that
input has no rule.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from dlfn.core.rules.table import NoRule, elementwise, rule

# Error functions (7.1, 7.2)
elementwise("erf", lambda g, y, x: g * (2 / math.sqrt(math.pi)) * jnp.exp(-x * x))
elementwise("erfc", lambda g, y, x: -g * (2 / math.sqrt(math.pi)) * jnp.exp(-x * x))
elementwise("erf_inv", lambda g, y, x: g * (math.sqrt(math.pi) / 2) * jnp.exp(y * y))

# The logarithm of the gamma function and its derivatives (5.2, 5.15): ψ⁽ᵐ⁾(x)′ = ψ⁽ᵐ⁺¹⁾(x)
elementwise("lgamma", lambda g, y, x: g * lax.digamma(x))
elementwise("digamma", lambda g, y, x: g * lax.polygamma(jnp.ones_like(x), x))
elementwise("polygamma", lambda g, y, m, x: NoRule("for its order"), lambda g, y, m, x: g * lax.polygamma(m + 1, x))

# Hurwitz's zeta function (25.11.17)
elementwise("zeta", lambda g, y, s, a: NoRule("for its exponent"), lambda g, y, s, a: -g * s * lax.zeta(s + 1, a))


# The distribution functions of the gamma and the beta distribution: by x they are the densities (8.8.13, 8.17.1)
def _gamma_density(a, x):
    return jnp.exp((a - 1) * jnp.log(x) - x - lax.lgamma(a))


def _beta_density(a, b, x):
    return jnp.exp((a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x) + lax.lgamma(a + b) - lax.lgamma(a) - lax.lgamma(b))


elementwise("igamma", lambda g, y, a, x: g * lax.igamma_grad_a(a, x), lambda g, y, a, x: g * _gamma_density(a, x))
elementwise("igammac", lambda g, y, a, x: -g * lax.igamma_grad_a(a, x), lambda g, y, a, x: -g * _gamma_density(a, x))
elementwise(
    "igamma_grad_a",  # the derivatives by a and by x may change places
    lambda g, y, a, x: NoRule("for its shape parameter"),
    lambda g, y, a, x: g * _gamma_density(a, x) * (jnp.log(x) - lax.digamma(a)),
)
elementwise(
    "regularized_incomplete_beta",
    lambda g, y, a, b, x: NoRule("for its first shape parameter"),
    lambda g, y, a, b, x: NoRule("for its second shape parameter"),
    lambda g, y, a, b, x: g * _beta_density(a, b, x),
)


_sample_slope: Callable[..., Any] = lax.random_gamma_grad  # whose annotations are those of its inside


@rule("random_gamma")
def _random_gamma(g, y, key, a, *, log_space):
    """The uniform number u = P(a, y) that a sample belongs to stays as it is when a moves (Figurnov, Mohamed and Mnih
    2018, "Implicit reparameterization gradients"): dy/da = −(∂P/∂a) / (∂P/∂y)."""
    if not log_space:
        return None, g * _sample_slope(a, y)
    x = jnp.maximum(jnp.exp(y), jnp.finfo(y.dtype).tiny)  # which may be too small for its type
    return None, g * _sample_slope(a, x) / x


# Modified Bessel functions, times exp(−|x|) (10.29.2, 10.29.3)
elementwise("bessel_i0e", lambda g, y, x: g * (lax.bessel_i1e(x) - jnp.sign(x) * y))


def _bessel_i1e(g, y, x):
    """I₁(x) / x is 1/2 at 0."""
    ratio = jnp.where(jnp.abs(x) > jnp.finfo(x.dtype).eps, y / jnp.where(x == 0, 1, x), 0.5)
    return g * (lax.bessel_i0e(x) - jnp.sign(x) * y - ratio)


elementwise("bessel_i1e", _bessel_i1e)
