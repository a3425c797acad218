"""Learning: rlax, chex, flax, haiku, penzai, coordax, quax, kfac-jax."""
# ruff: noqa: F401  # the expressions name what is imported

import coordax
import flax.linen as fl
import haiku as hk
import jax
import jax.numpy as jnp
import quax
import rlax
from flax import nnx
from penzai import pz

actions, discounts = jnp.array([0, 2, 1, 3]), jnp.full(4, 0.9)
atoms = jnp.linspace(-1.0, 1.0, 5)


def linen(layer, h):
    return layer.apply(layer.init(jax.random.key(0), h), h)


def haiku(layer, h):
    f = hk.transform_with_state(lambda h: layer()(h))
    parameters, state = f.init(jax.random.key(0), h)
    return f.apply(parameters, state, jax.random.key(0), h)[0]


CASES = """
[rlax]
rlax.td_learning(a, e, 0.9, o)  # convention: the targets are meant to be constant
rlax.q_learning(v, 2, e, 0.9, w)  # convention: the targets are meant to be constant
rlax.double_q_learning(v, 2, e, 0.9, w, v)  # convention: the targets are meant to be constant
rlax.sarsa(v, 2, e, 0.9, w, 1)  # convention: the targets are meant to be constant
rlax.lambda_returns(b, discounts, c, 0.8)
rlax.{discounted_returns}(b, discounts, c)
rlax.vtrace(b, c, A[0], discounts, jnp.exp(0.1 * c))  # convention: the targets are meant to be constant
rlax.truncated_generalized_advantage_estimation(b, discounts, 0.9, v)
rlax.policy_gradient_loss(x, actions, c, discounts)  # convention: the targets are meant to be constant
rlax.entropy_loss(x, discounts)
rlax.clipped_surrogate_pg_loss(jnp.exp(0.3 * b), c, 0.2)  # convention: the targets are meant to be constant
rlax.quantile_regression_loss(v, u, w)
rlax.categorical_td_learning(atoms, v, e, 0.9, atoms, w)  # convention: the targets are meant to be constant
rlax.categorical_l2_project(p, jax.nn.softmax(v), atoms)
rlax.{huber_loss,l2_loss}(v)
rlax.log_loss(u, n)
rlax.{signed_hyperbolic,signed_parabolic,signed_expm1,signed_logp1}(v)
rlax.gaussian_diagonal().{entropy,kl_to_standard_normal}(v, p)
rlax.softmax().{entropy,probs}(v)
rlax.softmax().{kl}(v, w)
[flax.linen]
linen(fl.Dense(3), x)
linen(fl.{LayerNorm,RMSNorm}(), x)
linen(fl.GroupNorm(2), A)
linen(fl.Conv(3, (3,)), x[None])
linen(fl.ConvTranspose(3, (3,)), x[None])
linen(fl.MultiHeadDotProductAttention(2), A[None])
linen(fl.RNN(fl.LSTMCell(3)), x[None])
linen(fl.RNN(fl.GRUCell(3)), x[None])
fl.{max_pool,avg_pool}(image[None, :, :, None], (2, 2))
fl.dot_product_attention(T, U, V)
[flax.nnx]
nnx.{LayerNorm,RMSNorm}(5, rngs=nnx.Rngs(0))(x)
nnx.Linear(5, 3, rngs=nnx.Rngs(0))(x)
nnx.BatchNorm(5, use_running_average=True, rngs=nnx.Rngs(0))(x)
nnx.LSTMCell(5, 3, rngs=nnx.Rngs(0))((d, d), v)[1]
nnx.GRUCell(5, 3, rngs=nnx.Rngs(0))(d, v)[1]
[haiku]
haiku(lambda: hk.Linear(3), x)
haiku(lambda: hk.LayerNorm(-1, True, True), x)
haiku(lambda: hk.RMSNorm(-1), x)
haiku(lambda: hk.Conv1D(3, 3), x[None])
haiku(lambda: hk.nets.MLP([4, 2]), x)
haiku(lambda: lambda h: hk.dynamic_unroll(c := hk.LSTM(3), h, c.initial_state(None))[0], x)
haiku(lambda: lambda h: hk.MultiHeadAttention(2, 4, w_init=hk.initializers.Constant(0.1))(h, h, h), A)
haiku(lambda: hk.GroupNorm(2), A[None])
hk.{avg_pool,max_pool}(image[None, :, :, None], (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
[penzai]
pz.nx.wrap(x).tag("i", "j").untag("j").tag("k").unwrap("i", "k") * y
[coordax]
coordax.wrap(x, "i", "j").untag("j").tag("k").data * y
coordax.cmap(jnp.sin)(coordax.wrap(x, "i", "j")).data
[quax]
quax.quaxify(lambda h: jnp.sin(h) @ h)(v)
quax.quaxify(jax.nn.softmax)(x)
"""
