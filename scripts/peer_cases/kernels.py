"""Tokamax: the operations in XLA, which have rules of their own."""
# ruff: noqa: F401  # the expressions name what is imported

import logging

import jax
import jax.numpy as jnp
import tokamax

logging.getLogger("absl").setLevel(logging.ERROR)

CASES = """
[tokamax]
tokamax.dot_product_attention(T, U, V)
tokamax.dot_product_attention(T, U, V, implementation="xla", is_causal=True)
tokamax.dot_product_attention(T, U, V, implementation="xla_chunked", is_causal=True)
tokamax.layer_norm(x, v, w, implementation="xla")
tokamax.gated_linear_unit(A, T[0, :4], activation=jax.nn.silu, implementation="xla")
tokamax.ragged_dot(M, T[0, :6].reshape(6, 8)[:3].reshape(2, 3, 4), jnp.array([2, 4]), implementation="xla")
tokamax.linear_softmax_cross_entropy_loss(A, labels, x, reduction="sum", implementation="xla")
tokamax.linear_softmax_cross_entropy_loss(A, labels, x, reduction="sum", implementation="chunked_xla")
"""
