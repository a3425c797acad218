r"""Vanishing and exploding gradients: how much of a recurrence's past reaches its present."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

__all__ = ["jacobian_norms"]


def jacobian_norms(step: Callable[[Any, Any], Any], carry: Any, xs: Any) -> np.ndarray:
    r"""The spectral norms :math:`\|\partial h_T / \partial h_{T-k}\|` for k = 0 … T.

    By the chain rule it is a product of k Jacobians of single steps, for a vanilla RNN

    .. math::
        \frac{\partial h_t}{\partial h_{t-k}} = \prod_{j=t-k+1}^{t} \operatorname{diag}(\sigma'(a_j)) W_h,

    (for column vectors), which vanishes or explodes geometrically with k. The products are computed in float64, so that
    norms down to 1e-300 are seen.

    Args:
        step: ``step(carry, x) -> carry``, one step of one sequence. For a cell,
            ``lambda carry, x: cell.apply(params, (), (carry, x))[0][0]``.
        carry: before the first step; all its arrays as one vector are h, so that of an LSTM (h, c).
        xs: the steps' inputs, with a leading time axis T.

    Returns:
        T + 1 numbers, by k; the first is 1. Infinite where the product overflows.

    Source: Pascanu, Mikolov & Bengio 2013, *On the Difficulty of Training Recurrent Neural Networks*; 002 section 7.1.

    >>> import jax.numpy as jnp
    >>> jacobian_norms(lambda h, x: 0.5 * h + x, jnp.zeros(2), jnp.ones((3, 2)))
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    start, unravel = ravel_pytree(carry)

    def flat(carry, x):
        return ravel_pytree(step(unravel(carry), x))[0]

    def advance(carry, x):
        return flat(carry, x), jax.jacrev(flat)(carry, x)

    jacobians = np.asarray(lax.scan(advance, start, xs)[1], np.float64)
    product, norms = np.eye(start.size), [1.0]
    for jacobian in jacobians[::-1]:
        product = product @ jacobian
        norms.append(float(np.linalg.norm(product, 2)) if np.isfinite(product).all() else np.inf)
    return np.asarray(norms)
