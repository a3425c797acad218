r"""Conditional probability, Bayes' rule and independence on tables of joint probabilities.

A table has one axis per variable, and its entry at (a, b, …) is :math:`P(A = a, B = b, \dots)`. Axes go by number, or
by the names that ``names`` gives them: ``names="ab"`` or ``names=("rain", "sprinkler")``.

What has probability 0 cannot be a condition: there the conditional probabilities are nan, and the others are not
affected, nor are their gradients.
"""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_distribution, require_float, require_rank
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.limits import ratio

__all__ = ["bayes", "conditional", "independent", "marginal"]

Axes = int | str | Sequence[int | str]


def marginal(joint: Any, axes: Axes, *, names: Sequence[str] | None = None) -> jax.Array:
    r"""The distribution of some variables, :math:`P(A) = \sum_b P(A, B = b)`.

    Args:
        joint: probabilities that sum to one.
        axes: those to keep, by number or name; they stay in the table's order.
        names: of the axes, if they have any.

    Raises:
        InputError: on integers, an axis that does not exist or is named twice, and known entries that are negative or
            do not sum to one.

    Source: 004 probability.

    >>> print(marginal([[0.125, 0.25], [0.375, 0.25]], "a", names="ab"))
    [0.375 0.625]
    """
    joint = _table("marginal", joint)
    kept = _axes("marginal", "axes", axes, joint, names)
    return jnp.sum(joint, axis=tuple(axis for axis in range(joint.ndim) if axis not in kept))


def conditional(joint: Any, given: Axes, *, names: Sequence[str] | None = None) -> jax.Array:
    r"""Conditional probability, :math:`P(A \mid B) = P(A \cap B) / P(B)`.

    Args:
        joint: probabilities that sum to one.
        given: the axes of the condition B, by number or name.
        names: of the axes, if they have any.

    Returns:
        A table of the same shape, whose entries sum to one over the other axes; nan where :math:`P(B) = 0`.

    Raises:
        InputError: as :func:`marginal`.

    Source: 004 probability.

    >>> print(conditional([[0.125, 0.25], [0.375, 0.25]], "b", names="ab"))
    [[0.25 0.5 ]
     [0.75 0.5 ]]
    """
    joint = _table("conditional", joint)
    axes = _axes("conditional", "given", given, joint, names)
    return _per(joint, tuple(axis for axis in range(joint.ndim) if axis not in axes))


def bayes(prior: Any, likelihood: Any) -> jax.Array:
    r"""Bayes' rule, :math:`P(A \mid B) = P(B \mid A)\, P(A) / P(B)` with :math:`P(B) = \sum_a P(B \mid a)\, P(a)`.

    Args:
        prior: :math:`P(A)`, of any shape: (a,) for one variable.
        likelihood: :math:`P(B \mid A)`, (a, b): the prior's axes first, and over the others each row sums to one.

    Returns:
        :math:`P(A \mid B)` in the likelihood's shape: its column b is the posterior after b was seen, and sums to one;
        nan where :math:`P(B = b) = 0`.

    Raises:
        InputError: on integers, shapes that do not fit, and known entries that are negative or do not sum to one.

    Source: 004 probability.

    A test that finds 99 of 100 ill and wrongly 5 of 100 healthy people, when one in a hundred is ill:

    >>> posterior = bayes([0.01, 0.99], [[0.99, 0.01], [0.05, 0.95]])
    >>> print(f"{posterior[0, 0]:.4f}")  # ill, given that the test is positive
    0.1667
    """
    prior, likelihood = jnp.asarray(prior), jnp.asarray(likelihood)
    for name, p in (("prior", prior), ("likelihood", likelihood)):
        require_float("bayes", name, p)
        require_rank("bayes", name, p, "an axis of outcomes")
    if likelihood.ndim <= prior.ndim or likelihood.shape[: prior.ndim] != prior.shape:
        raise InputError(
            f"bayes: prior is {describe(prior)} and likelihood is {describe(likelihood)}: the likelihood must have the "
            "prior's axes first, and then those of what is seen; transpose it if it has them last"
        )
    causes = tuple(range(prior.ndim))
    effects = tuple(range(prior.ndim, likelihood.ndim))
    require_distribution("bayes", "prior", prior, causes)
    require_distribution("bayes", "likelihood", likelihood, effects)
    return _per(prior.reshape(*prior.shape, *(1 for _ in effects)) * likelihood, causes)


def independent(joint: Any, *, rtol: float | None = None) -> jax.Array:
    r"""Whether all variables of a table are independent: :math:`P(A \cap B) = P(A)\, P(B)` in every entry.

    Args:
        joint: probabilities that sum to one.
        rtol: how far, relative to the greater side, the two may differ; unless given 1000 units of rounding of the
            sums, which of half types are taken in float32, and 8 of the entries. Tables from data are never
            independent to that accuracy: for those there is :func:`dlfn.statistics.chi_squared_test`.

    Returns:
        A boolean scalar.

    Raises:
        InputError: on integers, an rtol that is negative, and known entries that are negative or do not sum to one.

    Source: 004 probability.

    >>> print(independent([[0.06, 0.14], [0.24, 0.56]]), independent([[0.1, 0.2], [0.3, 0.4]]))
    True False
    """
    joint = _table("independent", joint)
    wide = upcast(joint)
    if rtol is None:
        rtol = 1000 * float(jnp.finfo(wide.dtype).eps) + 8 * float(jnp.finfo(joint.dtype).eps)
    if not rtol >= 0:
        raise InputError(f"independent: rtol is {rtol!r}, and must be 0 or more")
    joint, product = wide, jnp.ones_like(wide)
    for axis in range(joint.ndim):
        product = product * jnp.sum(joint, tuple(other for other in range(joint.ndim) if other != axis), keepdims=True)
    # The table sums to one only up to rounding, and the product has a factor of that for each axis.
    scaled = joint * jnp.sum(joint) ** (joint.ndim - 1)
    return jnp.all(jnp.abs(scaled - product) <= rtol * jnp.maximum(scaled, product))


def _per(joint: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """joint divided by its sum over the axes."""
    return ratio(joint, jnp.sum(joint, axes, keepdims=True), jnp.nan)


def _table(op: str, joint: Any) -> jax.Array:
    joint = jnp.asarray(joint)
    require_float(op, "joint", joint)
    require_rank(op, "joint", joint, "an axis for each variable")
    require_distribution(op, "joint", joint, tuple(range(joint.ndim)))
    return joint


def _axes(op: str, argument: str, axes: Axes, joint: jax.Array, names: Sequence[str] | None) -> list[int]:
    known = list(names or ())
    if names is not None and (len(known) != joint.ndim or len(set(known)) != len(known)):
        raise InputError(
            f"{op}: names is {names!r}, and must be {joint.ndim} different names, one for each axis of joint, which is "
            f"{describe(joint)}"
        )
    # A string is one name, or with names of one letter several.
    if not isinstance(axes, Sequence) or (isinstance(axes, str) and (axes in known or not set(axes) <= set(known))):
        axes = [axes]
    found = [_axis(op, argument, axis, joint, known) for axis in axes]
    if len(set(found)) != len(found):
        raise InputError(f"{op}: {argument} is {axes!r}, and must not name an axis twice")
    return found


def _axis(op: str, argument: str, axis: Any, joint: jax.Array, names: list[str]) -> int:
    if isinstance(axis, str):
        if axis in names:
            return names.index(axis)
    elif hasattr(axis, "__index__") and -joint.ndim <= operator.index(axis) < joint.ndim:
        return operator.index(axis) % joint.ndim
    known = f"a number below {joint.ndim}" + (f" or one of {', '.join(map(repr, names))}" if names else "")
    raise InputError(f"{op}: {argument} has the axis {axis!r}, and must name axes of joint: each is {known}")
