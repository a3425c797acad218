"""optax: losses and projections."""
# ruff: noqa: F401  # the expressions name what is imported

import jax
import jax.numpy as jnp
import optax
from optax import losses, projections

CASES = """
[optax]
losses.{l2_loss,huber_loss,log_cosh,squared_error,cosine_similarity,cosine_distance}(x, y)
losses.{sigmoid_binary_cross_entropy,softmax_cross_entropy,safe_softmax_cross_entropy}(x, onehot)
losses.{poly_loss_cross_entropy,ranking_softmax_loss}(x, onehot)
losses.{hinge_loss,perceptron_loss}(x, signs)
losses.{softmax_cross_entropy_with_integer_labels,multiclass_hinge_loss}(x, labels)
losses.{multiclass_perceptron_loss,multiclass_sparsemax_loss,ntxent}(x, labels)
losses.{kl_divergence,convex_kl_divergence}(jax.nn.log_softmax(x), jax.nn.softmax(y))
losses.{kl_divergence_with_log_targets}(jax.nn.log_softmax(x), jax.nn.log_softmax(y))
losses.generalized_kl_divergence(jax.nn.log_softmax(x), jax.nn.softmax(y))
losses.triplet_margin_loss(x, y, z)
losses.sparsemax_loss(v, counts % 2 * 1.0)
losses.smooth_labels(onehot, 0.1)
losses.sigmoid_focal_loss(x, onehot)  # defect: in labels that are 0, as they are weights of logsumexp
losses.make_fenchel_young_loss(jax.nn.logsumexp)(x, jax.nn.softmax(y))
optax.ctc_loss(T[:, :, 0], jnp.zeros((2, 6)), jnp.array([[1, 2, 0], [2, 2, 1]]), jnp.array([[0, 0, 1], [0, 0, 0]]))
projections.projection_{simplex,l1_ball,l2_ball,l1_sphere,l2_sphere,non_negative,linf_ball}(v)
projections.projection_box(v, -0.5, 0.5)
projections.projection_hypercube(v)
projections.projection_halfspace(v, w, 0.1)
projections.projection_hyperplane(v, w, 0.1)
optax.global_norm([x, y])
optax.safe_norm(v, 1e-6)
optax.safe_root_mean_squares(v, 1e-6)
optax.tree.{norm,sum}([x, y])
"""
