"""Wrong gradients of normalisations."""

import jax
import jax.numpy as jnp
from jax import lax

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]


def centred(x, axes):
    """Normalised over axes, and one over its deviation."""
    mean = jnp.mean(x, axes, keepdims=True)
    rstd = lax.rsqrt(jnp.mean((x - mean) ** 2, axes, keepdims=True) + 1e-5)
    return (x - mean) * rstd, rstd


def uncentred(normalised, rstd, dy, axes):
    """The backward pass of ``centred``."""
    means = jnp.mean(dy, axes, keepdims=True), jnp.mean(dy * normalised, axes, keepdims=True)
    return (dy - means[0] - normalised * means[1]) * rstd


# The backward pass takes the first axis for the rows, and all others together for the features.


def layer_norm(x, scale):
    return centred(x, -1)[0] * scale


def layer_norm_forward(x, scale):
    normalised, rstd = centred(x, -1)
    return normalised * scale, (normalised, rstd, scale)


def layer_norm_right(residuals, dy):
    normalised, rstd, scale = residuals
    dscale = jnp.sum((dy * normalised).reshape(-1, scale.size), 0)
    return uncentred(normalised, rstd, dy * scale, -1), dscale


def layer_norm_wrong(residuals, dy):
    normalised, rstd, scale = residuals
    features = tuple(range(1, dy.ndim))
    dscale = jnp.sum((dy * normalised).reshape(dy.shape[0], -1), 0)[: scale.size]
    return uncentred(normalised, rstd, dy * scale, features), dscale


# The backward pass counts the entries of a channel before it flattens the axes behind the channels.


def in_groups(x):
    return x.reshape(x.shape[0], 2, -1)


def group_norm(x):
    return centred(in_groups(x), -1)[0].reshape(x.shape)


def group_norm_forward(x):
    normalised, rstd = centred(in_groups(x), -1)
    return normalised.reshape(x.shape), (normalised, rstd)


def group_norm_backward(count, residuals, dy):
    normalised, rstd = residuals
    grouped = in_groups(dy)
    n = count(dy)
    means = jnp.sum(grouped, -1, keepdims=True) / n, jnp.sum(grouped * normalised, -1, keepdims=True) / n
    return (((grouped - means[0] - normalised * means[1]) * rstd).reshape(dy.shape),)


def group_norm_right(residuals, dy):
    return group_norm_backward(lambda dy: in_groups(dy).shape[-1], residuals, dy)


def group_norm_wrong(residuals, dy):
    return group_norm_backward(lambda dy: dy.shape[1] // 2 * dy.shape[-1], residuals, dy)


# The normalised input is computed again in the backward pass, and not gated as it was in the forward pass.


def gated_norm(x, gate, weight):
    return (centred(x, -1)[0] * jax.nn.silu(gate)) @ weight


def gated_norm_forward(x, gate, weight):
    return gated_norm(x, gate, weight), (x, gate, weight)


def gated_norm_backward(gated_again, residuals, dy):
    x, gate, weight = residuals
    normalised, rstd = centred(x, -1)
    opened, open_back = jax.vjp(jax.nn.silu, gate)
    dgated = dy @ weight.T
    product = normalised * opened if gated_again else normalised
    dx = uncentred(normalised, rstd, dgated * opened, -1)
    return dx, *open_back(dgated * normalised), product.T @ dy


def gated_norm_right(residuals, dy):
    return gated_norm_backward(True, residuals, dy)


def gated_norm_wrong(residuals, dy):
    return gated_norm_backward(False, residuals, dy)


EXHIBITS = (
    Exhibit(
        "FlagGems: layer norm of rank 3",
        "https://github.com/flagos-ai/FlagGems/issues/5392",
        "The backward pass takes the first axis for the rows, and all others for the features: right for a matrix.",
        layer_norm,
        ruled(layer_norm, layer_norm_forward, layer_norm_right),
        ruled(layer_norm, layer_norm_forward, layer_norm_wrong),
        layer_norm_wrong,
        (normal(4, 6), normal(6, seed=1)),
        "x",
        "one more axis in front",
    ),
    Exhibit(
        "Liger: group norm of images",
        "https://github.com/linkedin/Liger-Kernel/issues/1375",
        "The backward pass counts a channel's entries along the last axis alone, where images have two.",
        group_norm,
        ruled(group_norm, group_norm_forward, group_norm_right),
        ruled(group_norm, group_norm_forward, group_norm_wrong),
        group_norm_wrong,
        (normal(2, 4, 3),),
        "x",
        "one more axis in front",
    ),
    Exhibit(
        "flash-linear-attention: recomputed without its gate",
        "https://github.com/fla-org/flash-linear-attention/pull/1071",
        "The normalised input is computed again in the backward pass, and not gated: a wrong gradient of the weight.",
        gated_norm,
        ruled(gated_norm, gated_norm_forward, gated_norm_right),
        ruled(gated_norm, gated_norm_forward, gated_norm_wrong),
        gated_norm_wrong,
        (normal(3, 4), normal(3, 4, seed=1), normal(4, 2, seed=2)),
        "weight",
    ),
)
