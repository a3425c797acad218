"""Expressions of other libraries' functions for scripts/peers.py, and the arrays that they share."""

import jax
import jax.numpy as jnp
import numpy as np

_random = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(_random.standard_normal(shape), jnp.float32)


def between(low, high, *shape):
    return jnp.asarray(_random.uniform(low, high, shape), jnp.float32)


x, y, z = normal(4, 5), normal(4, 5), normal(4, 5)
v, w, d = normal(5), normal(5), normal(3)
u, n = between(0.2, 0.8, 5), between(0.2, 0.8, 5)  # n, l, s, ... are as free as x is
p, q, r = between(0.3, 3, 5), between(0.5, 2, 5), between(0.5, 2, 5)
a, e, o = jnp.float32(0.7), jnp.float32(1.3), jnp.float32(2.1)
A, B = normal(4, 4) + 3 * jnp.eye(4), normal(4, 4)
S = B @ B.T + 4 * jnp.eye(4)
b, c = normal(4), normal(4)
M, image, signal = normal(6, 3), normal(6, 6), normal(32)
T, U, V = normal(2, 6, 2, 4), normal(2, 6, 2, 4), normal(2, 6, 2, 4)
zero3 = jnp.zeros(3)
labels = jnp.array([0, 1, 2, 1])
counts = jnp.array([0, 1, 2, 3, 1])
onehot = jax.nn.one_hot(labels, 5)
signs = 2 * onehot - 1
key = jax.random.key(0)
