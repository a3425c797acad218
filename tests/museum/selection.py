"""Wrong gradients of what picks, counts and multiplies entries."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]


# The last block of a group is read from one before it where there is none: the rows of the group before.


def group_of(sizes, rows):
    return jnp.searchsorted(jnp.cumsum(sizes), jnp.arange(rows), side="right")


def ragged_dot(x, weights, sizes):
    return jnp.einsum("ti,tio->to", x, weights[group_of(sizes, len(x))])


def ragged_dot_forward(x, weights, sizes):
    return ragged_dot(x, weights, sizes), (x, weights, sizes)


def ragged_dot_right(residuals, dy):
    x, weights, sizes = residuals
    groups = group_of(sizes, len(x))
    products = jnp.einsum("ti,to->tio", x, dy)
    return jnp.einsum("to,tio->ti", dy, weights[groups]), jnp.zeros_like(weights).at[groups].add(products), None


def ragged_dot_wrong(residuals, dy):
    x, _, sizes = residuals
    dx, dweights, _ = ragged_dot_right(residuals, dy)
    start = jnp.cumsum(sizes) - sizes
    junk = jnp.einsum("gi,go->gio", x[start - 1], dy[start - 1])
    return dx, dweights + jnp.where((sizes == 0)[:, None, None], junk, 0.0), None


# Of entries with one index the last is kept, instead of their sum.


def lookup(table, ids):
    return table[ids]


def lookup_forward(table, ids):
    return table[ids], (table, ids)


def lookup_right(residuals, dy):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(dy), None


def lookup_wrong(residuals, dy):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].set(dy), None


# Each of several largest entries gets all of the cotangent.


def largest(x):
    return jnp.max(x, -1)


def largest_forward(x):
    return largest(x), x


def largest_right(x, dy):
    return (dy[..., None] * jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=x.dtype),)


def largest_wrong(x, dy):
    return (dy[..., None] * (x == largest(x)[..., None]),)


# Divides by the entries, and takes 0 / 0 for 0.


def cumprod(x):
    return lax.associative_scan(jnp.multiply, x)


def cumprod_forward(x):
    return cumprod(x), x


def cumprod_right(x, dy):
    before = jnp.concatenate([jnp.ones_like(x[:1]), cumprod(x)[:-1]])

    def step(tail, inputs):
        following, cotangent = inputs
        tail = cotangent + following * tail
        return tail, tail

    following = jnp.concatenate([x[1:], jnp.zeros_like(x[:1])])
    return (before * lax.scan(step, jnp.zeros_like(x[0]), (following, dy), reverse=True)[1],)


def cumprod_wrong(x, dy):
    sums = jnp.cumsum((dy * cumprod(x))[::-1], 0)[::-1]
    return (jnp.where(x == 0, 0.0, sums / jnp.where(x == 0, 1.0, x)),)


# Rows are as long as columns in the tests, so that it does not matter which stride is used.


def conv2d(image, kernel):
    """Of one channel, without padding."""
    n, m = kernel.shape
    rows, columns = image.shape[0] - n + 1, image.shape[1] - m + 1
    return sum(kernel[i, j] * image[i : i + rows, j : j + columns] for i in range(n) for j in range(m))


def conv2d_forward(image, kernel):
    return conv2d(image, kernel), (image, kernel)


def conv2d_backward(stride, residuals, dy):
    image, kernel = residuals
    (n, m), (rows, columns) = kernel.shape, dy.shape
    dimage = jnp.zeros_like(image)
    for i in range(n):
        for j in range(m):
            dimage = dimage.at[i : i + rows, j : j + columns].add(kernel[i, j] * dy)
    places = (jnp.arange(rows)[:, None] * stride(image) + jnp.arange(columns)) % image.size
    shifts = jnp.arange(n)[:, None] * stride(image) + jnp.arange(m)
    window = image.ravel()[(places + shifts[..., None, None]) % image.size]
    return dimage, jnp.sum(window * dy, (-2, -1))


def conv2d_right(residuals, dy):
    return conv2d_backward(lambda image: image.shape[1], residuals, dy)


def conv2d_wrong(residuals, dy):
    return conv2d_backward(lambda image: image.shape[0], residuals, dy)


EXHIBITS = (
    Exhibit(
        "Tokamax: an expert without tokens",
        "https://github.com/openxla/tokamax/issues/887",
        "An empty group's weights get a gradient, of a row that is another group's.",
        ragged_dot,
        ruled(ragged_dot, ragged_dot_forward, ragged_dot_right),
        ruled(ragged_dot, ragged_dot_forward, ragged_dot_wrong),
        ragged_dot_wrong,
        (normal(6, 3), normal(3, 3, 2, seed=1), np.array([2, 2, 2], np.int32)),
        "weights",
        "an empty group",
    ),
    Exhibit(
        "PyTorch: an index that occurs twice",
        "https://github.com/pytorch/pytorch/issues/1528",
        "Of the cotangents of one entry the last is kept, instead of their sum.",
        lookup,
        ruled(lookup, lookup_forward, lookup_right),
        ruled(lookup, lookup_forward, lookup_wrong),
        lookup_wrong,
        (normal(5, 2), np.array([3, 0, 1], np.int32)),
        "table",
        "a repeated integer",
    ),
    Exhibit(
        "Theano: all to each of the largest",
        "https://github.com/Theano/Theano/issues/5248",
        "Where entries tie for the largest, each gets the whole cotangent: more than there is.",
        largest,
        ruled(largest, largest_forward, largest_right),
        ruled(largest, largest_forward, largest_wrong),
        largest_wrong,
        (normal(4, 5),),
        "x",
        "ties",
    ),
    Exhibit(
        "TensorFlow: a product over zeros",
        "https://github.com/tensorflow/tensorflow/issues/119430",
        "The gradient divides by the entries, and takes 0 / 0 for 0.",
        cumprod,
        ruled(cumprod, cumprod_forward, cumprod_right),
        ruled(cumprod, cumprod_forward, cumprod_wrong),
        cumprod_wrong,
        (normal(5),),
        "x",
        "zeros",
    ),
    Exhibit(
        "NNPACK: images that are not square",
        "https://github.com/Maratyszcza/NNPACK/issues/15",
        "The kernel's gradient is right for square images alone, which the tests had.",
        conv2d,
        ruled(conv2d, conv2d_forward, conv2d_right),
        ruled(conv2d, conv2d_forward, conv2d_wrong),
        conv2d_wrong,
        (normal(4, 4), normal(2, 2, seed=1)),
        "kernel",
        "size 9 for 4 at the end",
    ),
)
