r"""Entropy and information of two variables, from the table of their joint probabilities.

The conventions are those of :mod:`dlfn.ops.probability.information`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlfn.core import InputError
from dlfn.ops.probability._information import check_distributions, per_nat
from dlfn.ops.support.arguments import describe, require_float
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.limits import log_ratio, ratio, x_log_y
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import like

__all__ = ["conditional_entropy", "mutual_information"]


@Op
def conditional_entropy(joint: Float[ArrayLike, "*batch X Y"], *, base: float | None = None) -> Float[Array, "*batch"]:
    r"""Entropy of X given Y from their joint table, :math:`H(X | Y) = -\sum_{xy} p_{xy} \log p_{x|y}`.

    With :math:`p_{x|y} = p_{xy} / p_y` and :math:`p_y = \sum_x p_{xy}`,

    .. math:: \frac{\partial H}{\partial p_{xy}} = -\log p_{x|y}, \qquad +\infty \text{ at } p_{xy} = 0,

    as the derivative through :math:`p_y` cancels the 1 of :math:`p \log p`. For a y of probability 0 the slopes are 0:
    a probability that is alone in its column has :math:`p_{x|y} = 1`.

    Args:
        joint: (..., X, Y), the probabilities of pairs; for :math:`H(Y | X)` exchange the last two axes.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The leading shape of joint.

    Raises:
        InputError: on fewer than two axes, integers, a base that is no logarithm's, and, outside of jit, probabilities
            that are negative or do not sum to 1.

    Source: Shannon 1948, *A Mathematical Theory of Communication*; 004 information theory.

    >>> import jax.numpy as jnp
    >>> print(conditional_entropy(jnp.array([[0.25, 0.0], [0.25, 0.5]]), base=2))
    0.5
    """
    joint = jnp.asarray(joint)
    p_y = jnp.sum(joint, -2, keepdims=True)
    return -jnp.sum(joint * jnp.log(joint / p_y), (-2, -1)) * per_nat(base)


@conditional_entropy.def_forward
def _conditional_entropy_forward(joint, *, base):
    p = upcast(joint)
    p_y = jnp.sum(p, -2, keepdims=True)
    terms = x_log_y(p, _share(p, p_y))
    return (-jnp.sum(terms, (-2, -1)) * per_nat(base)).astype(joint.dtype), (joint, p_y)


@conditional_entropy.def_backward
def _conditional_entropy_backward(residuals, dy, *, base):
    joint, p_y = residuals
    dy = upcast(dy)[..., None, None] * per_nat(base)
    return (like(-dy * jnp.log(_share(upcast(joint), p_y)), jax.typeof(joint)),)


@conditional_entropy.def_check
def _conditional_entropy_check(joint, *, base):
    _check_joint("conditional_entropy", joint, base)


@Op
def mutual_information(joint: Float[ArrayLike, "*batch X Y"], *, base: float | None = None) -> Float[Array, "*batch"]:
    r"""Mutual information from the joint table of X and Y,

    .. math::
        I(X; Y) = \sum_{xy} p_{xy} \log \frac{p_{xy}}{p_x p_y} = H(X) - H(X|Y) = H(Y) - H(Y|X), \qquad
        \frac{\partial I}{\partial p_{xy}} = \log \frac{p_{xy}}{p_x p_y} - 1

    with :math:`p_x = \sum_y p_{xy}` and :math:`p_y = \sum_x p_{xy}`, whose own slopes are -1 each. At
    :math:`p_{xy} = 0` the slope is :math:`-\infty`; in a row of zeros it is :math:`-\log p_y - 1` (there
    :math:`p_{xy} = p_x`), in a column of zeros :math:`-\log p_x - 1`, and in both :math:`+\infty`.

    Args:
        joint: (..., X, Y), the probabilities of pairs.
        base: of the logarithm; None for nats, 2 for bits.

    Returns:
        The leading shape of joint.

    Raises:
        InputError: on fewer than two axes, integers, a base that is no logarithm's, and, outside of jit, probabilities
            that are negative or do not sum to 1.

    Source: Shannon 1948, *A Mathematical Theory of Communication*; 004 information theory.

    >>> import jax.numpy as jnp
    >>> print(mutual_information(jnp.array([[0.5, 0.0], [0.0, 0.5]]), base=2))  # Y tells X, one bit
    1.0
    """
    joint = jnp.asarray(joint)
    p_x, p_y = jnp.sum(joint, -1, keepdims=True), jnp.sum(joint, -2, keepdims=True)
    return jnp.sum(joint * jnp.log(joint / (p_x * p_y)), (-2, -1)) * per_nat(base)


@mutual_information.def_forward
def _mutual_information_forward(joint, *, base):
    p = upcast(joint)
    p_x, p_y = jnp.sum(p, -1, keepdims=True), jnp.sum(p, -2, keepdims=True)
    terms = jnp.where(p == 0, jnp.zeros_like(p), p * log_ratio(_share(p, p_x), p_y))
    return (jnp.sum(terms, (-2, -1)) * per_nat(base)).astype(joint.dtype), (joint, p_x, p_y)


@mutual_information.def_backward
def _mutual_information_backward(residuals, dy, *, base):
    joint, p_x, p_y = residuals
    dy = upcast(dy)[..., None, None] * per_nat(base)
    p = upcast(joint)
    # In a column of zeros p = p_y, and they cancel: the logarithm is that of 1 / p_x.
    empty = jnp.broadcast_to(p_y == 0, p.shape)
    ratio = log_ratio(jnp.where(empty, jnp.ones_like(p), _share(p, p_x)), jnp.where(empty, p_x, p_y))
    return (like(dy * (ratio - 1), jax.typeof(joint)),)


@mutual_information.def_check
def _mutual_information_check(joint, *, base):
    _check_joint("mutual_information", joint, base)


def _share(p, total):
    """p / total, and where the total is 0 the limit 1, as a single p would be all of it."""
    return ratio(p, jnp.broadcast_to(total, p.shape), 1.0)


def _check_joint(op, joint, base):
    require_float(op, "joint", joint)
    if joint.ndim < 2:
        raise InputError(f"{op}: joint is {describe(joint)}, and must have two axes (..., X, Y)")
    check_distributions(op, {"joint": joint}, (-2, -1), base)
