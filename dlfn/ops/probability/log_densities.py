r"""Log-densities of the normal, uniform and exponential distributions, with the score in every argument.

They are elementwise, and the arguments broadcast as in NumPy: one scale serves a batch of examples, and its gradient is
then the sum over them. Half types are computed and summed in float32. Outside of the support the log-density is -inf
and its gradients are 0. Parameters that belong to no distribution, such as a negative scale, are refused where their
values are known; under jit value and gradients are nan.
"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.ops.probability.densities import HALF_LOG_2_PI, cotangent, or_nan, require_ends
from dlfn.ops.support.arguments import require_broadcast, require_float, require_positive
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op

__all__ = ["exponential_log_prob", "normal_log_prob", "uniform_log_prob"]


@Op
def normal_log_prob(
    x: Float[ArrayLike, "*#shape"], loc: Float[ArrayLike, "*#shape"], scale: Float[ArrayLike, "*#shape"]
) -> Float[Array, "*shape"]:
    r"""Log-density of the normal distribution,
    :math:`\log p = -\tfrac12 z^2 - \log \sigma - \tfrac12 \log 2\pi` with :math:`z = (x - \mu) / \sigma`.

    .. math::
        \frac{\partial \log p}{\partial x} = -\frac z \sigma, \qquad
        \frac{\partial \log p}{\partial \mu} = \frac z \sigma, \qquad
        \frac{\partial \log p}{\partial \sigma} = \frac{z^2 - 1}{\sigma} = \frac{(z - 1)(z + 1)}{\sigma},

    as :math:`\partial z / \partial \sigma = -z / \sigma`. The last form keeps the digits where z is near 1.

    Args:
        x: observations.
        loc: :math:`\mu`, the mean.
        scale: :math:`\sigma`, the standard deviation, greater than 0 and finite.

    Returns:
        One log-density per observation, in the shape that the arguments broadcast to.

    Raises:
        InputError: on integers, shapes that do not broadcast, and a known scale that is not positive and finite.

    Source: 004 distributions.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([0.0, 3.0])
    >>> print(normal_log_prob(x, 1.0, 2.0))
    [-1.7370857 -2.1120858]
    >>> print(jax.grad(lambda scale: normal_log_prob(x, 1.0, scale).sum())(2.0))
    -0.375
    """
    x, loc, scale = map(jnp.asarray, (x, loc, scale))
    return -0.5 * ((x - loc) / scale) ** 2 - jnp.log(scale) - 0.5 * jnp.log(2 * jnp.pi)


@normal_log_prob.def_forward
def _normal_log_prob_forward(x, loc, scale):
    v, mu, sigma = upcast(x, loc, scale)
    z = (v - mu) / or_nan(sigma, (sigma > 0) & (sigma < jnp.inf))
    y = -0.5 * (z * z) - (jnp.log(sigma) + HALF_LOG_2_PI)
    return y.astype(jnp.result_type(x, loc, scale)), (x, loc, scale)


@normal_log_prob.def_backward
def _normal_log_prob_backward(residuals, dy):
    x, loc, scale = residuals
    v, mu, sigma = upcast(*residuals)
    dy, sigma, off = dy.astype(v.dtype), or_nan(sigma, (sigma > 0) & (sigma < jnp.inf)), v - mu
    # No quotient is used twice, as XLA on CPU would write it to memory.
    dloc = dy / sigma * off / sigma
    dscale = dy * ((off - sigma) / sigma) * ((off + sigma) / sigma) / sigma
    return cotangent(-dloc, x), cotangent(dloc, loc), cotangent(dscale, scale)


@normal_log_prob.def_check
def _normal_log_prob_check(x, loc, scale):
    require_float("normal_log_prob", "x", x)
    require_float("normal_log_prob", "loc", loc)
    require_positive("normal_log_prob", "scale", scale)
    require_broadcast("normal_log_prob", x=x, loc=loc, scale=scale)


@Op
def uniform_log_prob(
    x: Float[ArrayLike, "*#shape"], low: Float[ArrayLike, "*#shape"], high: Float[ArrayLike, "*#shape"]
) -> Float[Array, "*shape"]:
    r"""Log-density of the uniform distribution, :math:`\log p = -\log(b - a)` for :math:`a \le x \le b`.

    .. math::
        \frac{\partial \log p}{\partial a} = \frac{1}{b - a}, \qquad
        \frac{\partial \log p}{\partial b} = -\frac{1}{b - a}, \qquad
        \frac{\partial \log p}{\partial x} = 0.

    Both ends belong to the interval, and there the gradients are those of its inside.

    Args:
        x: observations.
        low: :math:`a`.
        high: :math:`b`, greater than a. Where :math:`b - a` overflows, the log-density is -inf.

    Returns:
        One log-density per observation, in the shape that the arguments broadcast to.

    Raises:
        InputError: on integers, shapes that do not broadcast, and known ends of which high is not the greater, or
            whose difference overflows.

    Source: 004 distributions.

    >>> import jax, jax.numpy as jnp
    >>> print(uniform_log_prob(jnp.array([1.0, 2.0, 5.0]), 0.0, 4.0))
    [-1.3862944 -1.3862944       -inf]
    >>> print(jax.grad(uniform_log_prob, 1)(1.0, 0.0, 4.0))
    0.25
    """
    x, low, high = map(jnp.asarray, (x, low, high))
    return jnp.where((x < low) | (x > high), -jnp.inf, -jnp.log(high - low))


@uniform_log_prob.def_forward
def _uniform_log_prob_forward(x, low, high):
    v, a, b = upcast(x, low, high)
    width = b - a
    y = jnp.where((v < a) | (v > b), jnp.full_like(width, -jnp.inf), -jnp.log(width))
    y = or_nan(y, (width > 0) & (v == v))
    return y.astype(jnp.result_type(x, low, high)), (x, low, high)


@uniform_log_prob.def_backward
def _uniform_log_prob_backward(residuals, dy):
    x, low, high = residuals
    v, a, b = upcast(*residuals)
    width = or_nan(b - a, (b > a) & (v == v))
    dy = dy.astype(v.dtype)
    d = jnp.where((v < a) | (v > b), jnp.zeros_like(dy), dy) / width
    return cotangent(jnp.zeros_like(d), x), cotangent(d, low), cotangent(-d, high)


@uniform_log_prob.def_check
def _uniform_log_prob_check(x, low, high):
    require_float("uniform_log_prob", "x", x)
    require_ends("uniform_log_prob", low, high)
    require_broadcast("uniform_log_prob", x=x, low=low, high=high)


@Op
def exponential_log_prob(x: Float[ArrayLike, "*#shape"], rate: Float[ArrayLike, "*#shape"]) -> Float[Array, "*shape"]:
    r"""Log-density of the exponential distribution, :math:`\log p = \log \lambda - \lambda x` for :math:`x \ge 0`.

    .. math::
        \frac{\partial \log p}{\partial x} = -\lambda, \qquad
        \frac{\partial \log p}{\partial \lambda} = \frac1\lambda - x = \frac{1 - \lambda x}{\lambda}.

    Zero belongs to the support; the gradient in x there is the limit from above.

    Args:
        x: observations.
        rate: :math:`\lambda`, greater than 0 and finite.

    Returns:
        One log-density per observation, in the shape that the arguments broadcast to.

    Raises:
        InputError: on integers, shapes that do not broadcast, and a known rate that is not positive and finite.

    Source: 004 distributions.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([0.0, 1.0, -1.0])
    >>> print(exponential_log_prob(x, 2.0))
    [ 0.6931472 -1.3068528      -inf]
    >>> print(*jax.grad(exponential_log_prob, (0, 1))(1.0, 2.0))
    -2.0 -0.5
    """
    x, rate = jnp.asarray(x), jnp.asarray(rate)
    return jnp.where(x < 0, -jnp.inf, jnp.log(rate) - rate * x)


@exponential_log_prob.def_forward
def _exponential_log_prob_forward(x, rate):
    v, r = upcast(x, rate)
    # For an infinite rate this is inf - inf, which is nan.
    y = jnp.log(or_nan(r, r > 0)) - r * jnp.where(v < 0, jnp.full_like(v, jnp.inf), v)
    return y.astype(jnp.result_type(x, rate)), (x, rate)


@exponential_log_prob.def_backward
def _exponential_log_prob_backward(residuals, dy):
    x, rate = residuals
    v, r = upcast(*residuals)
    r = or_nan(r, (r > 0) & (r < jnp.inf))
    dy = dy.astype(v.dtype)
    dy = jnp.where(v < 0, jnp.zeros_like(dy), dy)
    return cotangent(-dy * r, x), cotangent(dy * ((1 - r * v) / r), rate)


@exponential_log_prob.def_check
def _exponential_log_prob_check(x, rate):
    require_float("exponential_log_prob", "x", x)
    require_positive("exponential_log_prob", "rate", rate)
    require_broadcast("exponential_log_prob", x=x, rate=rate)
