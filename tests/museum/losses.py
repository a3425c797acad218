"""Wrong gradients of losses."""

import jax
import jax.numpy as jnp
import numpy as np

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]


# The gradients are computed in the forward pass, summed over tokens, before the cotangent of each is known.


def token_losses(hidden, weight, labels):
    logits = hidden @ weight
    return jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]


def dlogits(hidden, weight, labels):
    return jax.nn.softmax(hidden @ weight) - jax.nn.one_hot(labels, weight.shape[1], dtype=hidden.dtype)


def token_losses_forward(hidden, weight, labels):
    return token_losses(hidden, weight, labels), (hidden, weight, labels)


def token_losses_right(residuals, dy):
    hidden, weight, _ = residuals
    weighted = dy[:, None] * dlogits(*residuals)
    return weighted @ weight.T, hidden.T @ weighted, None


def token_losses_wrong(residuals, dy):
    hidden, weight, _ = residuals
    unweighted = dlogits(*residuals)
    return dy[0] * (unweighted @ weight.T), dy[0] * (hidden.T @ unweighted), None


# A comparison with two outcomes for what has three.


def total_variation(p, q):
    return 0.5 * jnp.sum(jnp.maximum(p, q) - jnp.minimum(p, q), -1)  # whose gradient is 0 at a tie


def total_variation_forward(p, q):
    return total_variation(p, q), (p, q)


def total_variation_right(residuals, dy):
    p, q = residuals
    slope = 0.5 * jnp.sign(p - q) * dy[..., None]
    return slope, -slope


def total_variation_wrong(residuals, dy):
    p, q = residuals
    slope = jnp.where(p > q, 0.5, -0.5) * dy[..., None]
    return slope, -slope


# Softmax over the classes that a mask leaves: 0 / 0 where it leaves none.


def masked_logsumexp(logits, mask):
    some = jnp.any(mask, -1)
    return jnp.where(some, jax.nn.logsumexp(jnp.where(mask | ~some[..., None], logits, -jnp.inf), -1), 0.0)


def masked_logsumexp_forward(logits, mask):
    return masked_logsumexp(logits, mask), (logits, mask)


def masked_logsumexp_backward(total_of, residuals, dy):
    logits, mask = residuals
    kept = jnp.where(mask, logits, -jnp.inf)
    exps = jnp.where(mask, jnp.exp(logits - jnp.max(kept, -1, keepdims=True)), 0.0)
    return dy[..., None] * exps / total_of(jnp.sum(exps, -1, keepdims=True)), None


def masked_logsumexp_right(residuals, dy):
    return masked_logsumexp_backward(lambda total: jnp.where(total == 0, 1.0, total), residuals, dy)


def masked_logsumexp_wrong(residuals, dy):
    return masked_logsumexp_backward(lambda total: total, residuals, dy)


# Where all are -inf, the backward pass subtracts -inf from -inf.


def logsumexp(x):
    largest = jnp.max(x, -1, keepdims=True)
    empty = jnp.isneginf(largest)
    exps = jnp.where(empty, 0.0, jnp.exp(x - jnp.where(empty, 0.0, largest)))
    total = jnp.sum(exps, -1)
    return jnp.where(empty[..., 0], -jnp.inf, jnp.log(jnp.where(empty[..., 0], 1.0, total)) + largest[..., 0])


def logsumexp_forward(x):
    y = logsumexp(x)
    return y, (x, y)


def logsumexp_right(residuals, dy):
    x, y = residuals[0], residuals[1][..., None]
    return (dy[..., None] * jnp.where(jnp.isneginf(y), 0.0, jnp.exp(x - y)),)


def logsumexp_wrong(residuals, dy):
    x, y = residuals
    return (dy[..., None] * jnp.exp(x - y[..., None]),)


# The last block is filled with zeros, of which each adds exp(0) to the sum that the backward pass divides by.


def in_blocks(x, fill):
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 4)], constant_values=fill)


def chunked_logsumexp(x):
    return jax.nn.logsumexp(x, -1)


def chunked_right_forward(x):
    return chunked_logsumexp(x), (x, jax.nn.logsumexp(in_blocks(x, -jnp.inf), -1))


def chunked_wrong_forward(x):
    return chunked_logsumexp(x), (x, jax.nn.logsumexp(in_blocks(x, 0.0), -1))


def chunked_backward(residuals, dy):
    x, y = residuals
    return (dy[..., None] * jnp.exp(x - y[..., None]),)


# A penalty's gradient is not multiplied by the cotangent, which is 1 where nothing follows.


def logit_penalty(logits):
    return 0.5e-4 * jnp.mean(jnp.max(logits, -1) ** 2)


def logit_penalty_forward(logits):
    return logit_penalty(logits), logits


def dpenalty(logits):
    largest = jnp.max(logits, -1, keepdims=True)
    first = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=logits.dtype)
    return 1e-4 / largest.size * largest * first


def logit_penalty_right(logits, dy):
    return (dy * dpenalty(logits),)


def logit_penalty_wrong(logits, dy):
    return (dpenalty(logits),)


# A sign. A typing error in the project's test kept it from testing this.


def gaussian_logpdf(x, covariance):
    return -0.5 * (x @ jnp.linalg.solve(covariance, x) + jnp.linalg.slogdet(covariance)[1])


def gaussian_logpdf_forward(x, covariance):
    return gaussian_logpdf(x, covariance), (x, covariance)


def gaussian_logpdf_right(residuals, dy):
    x, covariance = residuals
    precision = jnp.linalg.inv(covariance)
    left, right = precision.T @ x, precision @ x
    return -0.5 * dy * (left + right), 0.5 * dy * (jnp.outer(left, right) - precision.T)


def gaussian_logpdf_wrong(residuals, dy):
    dx, dcovariance = gaussian_logpdf_right(residuals, dy)
    return dx, -dcovariance


MASK = np.array([[True, False, True], [True, True, True], [False, False, True]])

EXHIBITS = (
    Exhibit(
        "Liger: cross entropy of single tokens",
        "https://github.com/linkedin/Liger-Kernel/issues/968",
        "Gradients are computed in the forward pass, summed over tokens, and multiplied by one token's cotangent.",
        token_losses,
        ruled(token_losses, token_losses_forward, token_losses_right),
        ruled(token_losses, token_losses_forward, token_losses_wrong),
        token_losses_wrong,
        (normal(4, 3), normal(3, 5, seed=1), np.array([3, 0, 2, 4], np.int32)),
        "hidden",
    ),
    Exhibit(
        "Liger: total variation of equal distributions",
        "https://github.com/linkedin/Liger-Kernel/issues/1373",
        "Where p = q the gradient is that of p < q, as the comparison has two outcomes: a student learns from itself.",
        total_variation,
        ruled(total_variation, total_variation_forward, total_variation_right),
        ruled(total_variation, total_variation_forward, total_variation_wrong),
        total_variation_wrong,
        (normal(3, 4) ** 2, normal(3, 4, seed=1) ** 2),
        "p",
        "two arguments alike",
        {"at_kinks": "definition"},  # for it lies between the slopes on both sides
    ),
    Exhibit(
        "optax: a mask that leaves no class",
        "https://github.com/google-deepmind/optax/issues/1335",
        "The softmax over the classes that `where` leaves is 0 / 0 in a row where it leaves none.",
        masked_logsumexp,
        ruled(masked_logsumexp, masked_logsumexp_forward, masked_logsumexp_right),
        ruled(masked_logsumexp, masked_logsumexp_forward, masked_logsumexp_wrong),
        masked_logsumexp_wrong,
        (normal(3, 3), MASK),
        "logits",
        "a row all masked",
    ),
    Exhibit(
        "PyTorch: logsumexp of -inf alone",
        "https://github.com/pytorch/pytorch/issues/31829",
        "The backward pass subtracts the output, -inf, from the input, -inf: nan, where the gradient may be 0.",
        logsumexp,
        ruled(logsumexp, logsumexp_forward, logsumexp_right),
        ruled(logsumexp, logsumexp_forward, logsumexp_wrong),
        logsumexp_wrong,
        (normal(3, 4),),
        "x",
        "a row of -inf",
    ),
    Exhibit(
        "verl: zeros in the last block of a vocabulary",
        "https://github.com/verl-project/verl/pull/5349",
        "The last block is filled with zeros, of which each adds exp(0) to the sum that the gradient is divided by.",
        chunked_logsumexp,
        ruled(chunked_logsumexp, chunked_right_forward, chunked_backward),
        ruled(chunked_logsumexp, chunked_wrong_forward, chunked_backward),
        chunked_backward,
        (normal(3, 8),),
        "x",
        "size 17 for 8",
    ),
    Exhibit(
        "flash-linear-attention: a penalty drops its cotangent",
        "https://github.com/fla-org/flash-linear-attention/pull/963",
        "The gradient is not multiplied by the cotangent: right where the loss is neither scaled nor weighted.",
        logit_penalty,
        ruled(logit_penalty, logit_penalty_forward, logit_penalty_right),
        ruled(logit_penalty, logit_penalty_forward, logit_penalty_wrong),
        logit_penalty_wrong,
        (normal(3, 4),),
        "logits",
    ),
    Exhibit(
        "autograd: the sign of a covariance's gradient",
        "https://github.com/HIPS/autograd/pull/412",
        "The gradient of a Gaussian's log density in its covariance has the wrong sign; a typing error hid the test.",
        gaussian_logpdf,
        ruled(gaussian_logpdf, gaussian_logpdf_forward, gaussian_logpdf_right),
        ruled(gaussian_logpdf, gaussian_logpdf_forward, gaussian_logpdf_wrong),
        gaussian_logpdf_wrong,
        (normal(3), np.eye(3, dtype=np.float32) + 0.1),
        "covariance",
    ),
)
