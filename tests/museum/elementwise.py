"""Wrong derivatives of functions of one number."""

import jax
import jax.numpy as jnp
import numpy as np

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]


# The difference of two numbers near 1, divided by one near 0.


def sinc(x):
    """sin(x) / x."""
    near = jnp.abs(x) < 0.01
    far = jnp.where(near, 1.0, x)
    return jnp.where(near, 1 - x**2 / 6 + x**4 / 120, jnp.sin(far) / far)


def tangent_right(primals, tangents):
    return jax.jvp(sinc, primals, tangents)


def tangent_wrong(primals, tangents):
    (x,), (dx,) = primals, tangents
    far = jnp.where(x == 0, 1.0, x)
    return sinc(x), dx * jnp.where(x == 0, 0.0, (jnp.cos(far) - jnp.sin(far) / far) / far)


def with_tangent(tangent):
    rule = jax.custom_jvp(sinc)
    rule.defjvp(tangent)
    return rule


# log(z) / (1 - z) is 0 / 0 at 1.


def dilogarithm(z):
    r"""Spence's function, :math:`-\int_1^z \log t / (t - 1)\, dt`, by its series at 1, which small and large z are
    brought to."""
    large = z > 1.5
    inverse = jnp.where(large, 1 / jnp.where(large, z, 1.0), z)
    near = jnp.where(inverse < 0.5, 1 - inverse, inverse)
    series = sum((1 - near) ** k / k**2 for k in range(1, 50))
    log = jnp.log(inverse)
    logs = log * jnp.log1p(-jnp.where(inverse < 0.5, inverse, 0.0))
    value = jnp.where(inverse < 0.5, jnp.pi**2 / 6 - logs - series, series)
    return jnp.where(large, -(log**2) / 2 - value, value)


def dilogarithm_forward(z):
    return dilogarithm(z), z


def dilogarithm_right(z, dy):
    at_one = jnp.abs(z - 1) < 1e-4
    w = jnp.where(at_one, 0.5, z - 1)
    return (dy * jnp.where(at_one, -1 + (z - 1) / 2 - (z - 1) ** 2 / 3, -jnp.log1p(w) / w),)


def dilogarithm_wrong(z, dy):
    return (dy * jnp.log(z) / (1 - z),)


def copysign(x, y):
    return jnp.abs(x) * jnp.sign(y)


def copysign_forward(x, y):
    return copysign(x, y), (x, y)


def copysign_right(residuals, dy):
    x, y = residuals
    return dy * jnp.sign(x) * jnp.sign(y), jnp.zeros_like(y)


def copysign_wrong(residuals, dy):
    _, y = residuals
    return dy * jnp.sign(y), jnp.zeros_like(y)


# exp overflows, its reciprocal is 0, and so is their product.


def softplus(x):
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def softplus_forward(x):
    return softplus(x), x


def softplus_right(x, dy):
    return (dy * jax.nn.sigmoid(x),)


def softplus_wrong(x, dy):
    exp = jnp.exp(x)
    reciprocal = 1 / (1 + exp)
    return (jnp.where(reciprocal == 0, 0.0, dy * exp * reciprocal),)


# A term of a long formula is missing.


def mish(x):
    return x * jnp.tanh(jax.nn.softplus(x))


def mish_forward(x):
    return mish(x), x


def mish_backward(cubed, x, dy):
    small = jnp.minimum(x, 20.0)
    exp = jnp.exp(small)
    omega = 4 * (small + 1) + 4 * exp**2 + cubed * exp**3 + exp * (4 * small + 6)
    delta = 2 * exp + exp**2 + 2
    return (dy * jnp.where(x > 20, 1.0, exp * omega / delta**2),)


def mish_right(x, dy):
    return mish_backward(1.0, x, dy)


def mish_wrong(x, dy):
    return mish_backward(0.0, x, dy)


EXHIBITS = (
    Exhibit(
        "jax: sinc near 0",
        "https://github.com/jax-ml/jax/issues/40629",
        "The derivative is a difference of numbers near 1, divided by x: its rounding is as large as 1.",
        sinc,
        with_tangent(tangent_right),
        with_tangent(tangent_wrong),
        tangent_wrong,
        (normal(5) + np.float32(0.2),),
        "x",
        "small",
        {"custom_jvp": True},
    ),
    Exhibit(
        "jax: the derivative of Spence's function",
        "https://github.com/jax-ml/jax/pull/40709",
        "log(z) / (1 - z) is nan at 1, where it should be -1 (jax 0.10.2 has 0 at 1, and nan from 1.5 to 2).",
        dilogarithm,
        ruled(dilogarithm, dilogarithm_forward, dilogarithm_right),
        ruled(dilogarithm, dilogarithm_forward, dilogarithm_wrong),
        dilogarithm_wrong,
        (np.exp(normal(5)),),
        "z",
        "ones",
    ),
    Exhibit(
        "Mooncake: copysign of what is negative",
        "https://github.com/chalk-lab/Mooncake.jl/issues/1195",
        "A factor sign(x) is missing, which is 1 wherever it was tested.",
        copysign,
        ruled(copysign, copysign_forward, copysign_right),
        ruled(copysign, copysign_forward, copysign_wrong),
        copysign_wrong,
        (np.abs(normal(5)), normal(5, seed=1)),
        "x",
        "the other sign",
    ),
    Exhibit(
        "tt-metal: softplus where exp overflows",
        "https://github.com/tenstorrent/tt-metal/pull/56397",
        "exp(x) times 1 / (1 + exp(x)) is 0 once exp(x) is infinite, where it should be 1.",
        softplus,
        ruled(softplus, softplus_forward, softplus_right),
        ruled(softplus, softplus_forward, softplus_wrong),
        softplus_wrong,
        (3 * normal(5),),
        "x",
        "very large",
    ),
    Exhibit(
        "thinc: a term of Mish's derivative",
        "https://github.com/explosion/thinc/pull/578",
        "exp(3 x) is missing from the numerator.",
        mish,
        ruled(mish, mish_forward, mish_right),
        ruled(mish, mish_forward, mish_wrong),
        mish_wrong,
        (normal(5),),
        "x",
    ),
)
