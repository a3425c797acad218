r"""The Kullback-Leibler divergence of two normal distributions, in closed form."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import describe, require_float, require_rank, require_same_shape
from dlfn.ops.support.compiled import below_zero
from dlfn.ops.support.dtypes import sum_dtype
from dlfn.ops.support.exponential import exp_remainder
from dlfn.ops.support.op import Op
from dlfn.ops.support.scaled import finite
from dlfn.ops.support.shapes import in_shape_of
from dlfn.ops.support.sharding import like

__all__ = ["normal_kl"]


@Op
def normal_kl(
    mean: Float[ArrayLike, "*batch features"],
    log_variance: Float[ArrayLike, "*batch features"],
    prior_mean: Float[ArrayLike, ""] | Float[ArrayLike, "*#batch #features"] | None = None,
    prior_log_variance: Float[ArrayLike, ""] | Float[ArrayLike, "*#batch #features"] | None = None,
    *,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*batch"]:
    r"""Divergence of a normal distribution with independent coordinates along the last axis from a normal prior,
    :math:`\operatorname{KL}(N(\mu, \sigma^2) \,\|\, N(\mu_0, \sigma_0^2))`.

    With the logarithm of the ratio of the variances :math:`t = \log \sigma^2 - \log \sigma_0^2` and the distance of the
    means :math:`u = (\mu - \mu_0) / \sigma_0`,

    .. math::
        L = \frac12 \sum_j \big( u_j^2 + e^{t_j} - 1 - t_j \big), \qquad
        \frac{\partial L}{\partial \mu_j} = \frac{u_j}{\sigma_{0j}}, \qquad
        \frac{\partial L}{\partial \log \sigma_j^2} = \frac{e^{t_j} - 1}2,

    for the standard prior :math:`\frac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)`. As L depends on
    :math:`\mu - \mu_0` alone, the gradient in :math:`\mu_0` is that in :math:`\mu` with the other sign; that in
    :math:`\log \sigma_0^2` is :math:`\frac12 (1 - e^{t_j} - u_j^2)`.

    Where the variances nearly agree, :math:`e^t - 1 - t` is about :math:`t^2 / 2`, a difference of almost equal
    numbers, so there it and :math:`e^t - 1` are computed from a series. At the prior, L and its gradients are exactly
    0.

    Args:
        mean: :math:`\mu`, (..., D).
        log_variance: :math:`\log \sigma^2`, of the same shape. Any number is the logarithm of some variance.
        prior_mean: :math:`\mu_0`, of a shape that broadcasts to (..., D); None for 0.
        prior_log_variance: :math:`\log \sigma_0^2`, likewise; None for 0, which is :math:`\sigma_0` = 1.
        reduction: "mean" over the rows, "sum" or "none".

    Returns:
        A scalar, or with "none" one divergence per row, in the common dtype of the arguments. It is inf where a
        variance, or that of the prior, is 0 or infinite (a logarithm of -inf or inf), and nan where both are 0 or both
        infinite.

    Raises:
        InputError: on different shapes, scalars, integers, an unknown reduction, and a mean over nothing.

    Source: Kingma & Welling 2014, *Auto-Encoding Variational Bayes*, appendix B; 004 applications.

    >>> import jax, jax.numpy as jnp
    >>> mean, log_variance = jnp.array([[1.0, 1e-4]]), jnp.array([[0.0, 1e-4]])
    >>> print(normal_kl(mean, log_variance), normal_kl(mean[:, 1:], log_variance[:, 1:]))
    0.5 7.500083e-09
    >>> print(jax.grad(normal_kl, 1)(mean, log_variance))
    [[0.0000000e+00 5.0002498e-05]]
    """
    mean, log_variance = jnp.asarray(mean), jnp.asarray(log_variance)
    prior_mean = 0.0 if prior_mean is None else jnp.asarray(prior_mean)
    prior_log_variance = 0.0 if prior_log_variance is None else jnp.asarray(prior_log_variance)
    distance = (mean - prior_mean) ** 2 / jnp.exp(prior_log_variance)
    ratio = jnp.exp(log_variance - prior_log_variance)
    return reduce(jnp.sum(distance + ratio - 1 - (log_variance - prior_log_variance), axis=-1) / 2, reduction)


@normal_kl.def_forward
def _normal_kl_forward(*args, reduction):
    u, _, t = _compared(*args)
    rest, _ = _beyond(t)
    y = reduce(jnp.sum(u * u + (rest - below_zero(1 + t)), axis=-1) / 2, reduction)
    return y.astype(jnp.result_type(*(a for a in args if a is not None))), args


@normal_kl.def_backward
def _normal_kl_backward(args, dy, *, reduction):
    u, precision_root, t = _compared(*args)
    dy = weight_of_each(dy, reduction, t.shape[:-1], t.dtype)
    dy = dy[..., None] if reduction == "none" else dy
    rest, cut = _beyond(t)
    growth = rest + cut
    dmean = dy * (u if precision_root is None else u * precision_root)
    cotangents = dmean, dy * growth / 2, -dmean, dy * (growth + u * u) / -2
    return tuple(
        None if arg is None else like(in_shape_of(cotangent, arg.shape), jax.typeof(arg))
        for arg, cotangent in zip(args, cotangents)
    )


@normal_kl.def_check
def _normal_kl_check(mean, log_variance, prior_mean, prior_log_variance, *, reduction):
    require_float("normal_kl", "mean", mean)
    require_float("normal_kl", "log_variance", log_variance)
    require_rank("normal_kl", "mean", mean, "an axis of coordinates")
    require_same_shape("normal_kl", "mean", mean, "log_variance", log_variance)
    for name, value in (("prior_mean", prior_mean), ("prior_log_variance", prior_log_variance)):
        if value is None:
            continue
        require_float("normal_kl", name, value)
        if value.ndim > mean.ndim or any(
            size not in (1, whole) for size, whole in zip(value.shape[::-1], mean.shape[::-1])
        ):
            raise InputError(
                f"normal_kl: {name} is {describe(value)}, and must have a shape that broadcasts to that of mean, "
                f"{list(mean.shape)}; pass a scalar for one prior of all coordinates"
            )
    check_reduction("normal_kl", reduction, mean.shape[:-1])


def _beyond(t):
    """rest = exp(t) - 1 - cut, and cut, which is t but at least -1.

    With them exp(t) - 1 = rest + cut and exp(t) - 1 - t = rest - min(1 + t, 0) are sums without cancellation, so that
    one array serves both passes. XLA on CPU writes the result of a select to memory before it sums it, here to that of
    the gradient.
    """
    small, s, series = exp_remainder(t)
    cut = lax.clamp(t.dtype.type(-1), t, t.dtype.type(1e3))
    return jnp.where(small, s * s * series, jnp.exp(t) - 1 - cut), cut


def _compared(mean, log_variance, prior_mean, prior_log_variance):
    """u, 1/σ₀ (None for 1) and t, in the dtype to compute in."""
    present = [a for a in (mean, log_variance, prior_mean, prior_log_variance) if a is not None]
    dtype = sum_dtype(jnp.result_type(*present))
    kind = jax.typeof(mean).update(dtype=dtype)
    u, t = like(mean, kind), like(log_variance, kind)
    if prior_mean is not None:
        u = u - like(jnp.broadcast_to(prior_mean, mean.shape), kind)
    if prior_log_variance is None:
        return u, None, t
    prior = like(jnp.broadcast_to(prior_log_variance, mean.shape), kind)
    precision_root = finite(jnp.exp(prior / -2))
    return u * precision_root, precision_root, t - prior
