r"""Penalties on the size of parameters, over a pytree of them.

``where`` chooses the parameters by their path, which is their keys joined by slashes, as in ``"hidden/0/w"``. It is a
regular expression that is searched for in the path (``r"w$"``), or a function of the path. A function must be hashable,
like all configuration of an op, and every new one makes JAX compile again: define it once, outside of the training
step.
"""

import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_number
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op

__all__ = ["l1_penalty", "l2_penalty"]


@Op
def l2_penalty(
    params: PyTree, *, strength: float, where: str | Callable[[str], bool] | None = None
) -> Float[Array, ""]:
    r"""Half the squared norm of the parameters, :math:`\tfrac\lambda2 \sum_i W_i^2`.

    In plain gradient descent its gradient, :math:`\lambda W`, is weight decay. In Adam it is not: there the gradient is
    rescaled, and decoupled decay (AdamW) is another method. Half types are squared and summed in float32.

    Args:
        params: a pytree of arrays, or one array.
        strength: :math:`\lambda`, 0 or more.
        where: which parameters, by path: a regular expression or a function, None for all; see above.

    Returns:
        A scalar in the common dtype of the chosen parameters.

    Raises:
        InputError: when no path is chosen, on a chosen parameter that is not floating point, and a negative strength.

    Source: Hoerl & Kennard 1970, *Ridge Regression: Biased Estimation for Nonorthogonal Problems*; 002 section 15.1.

    >>> import jax, jax.numpy as jnp
    >>> params = {"w": jnp.array([3.0, -4.0]), "b": jnp.array([1.0])}
    >>> print(l2_penalty(params, strength=0.5), l2_penalty(params, strength=0.5, where="w$"))
    6.5 6.25
    >>> jax.grad(l2_penalty)(params, strength=0.5, where="w$")
    {'b': Array([0.], dtype=float32), 'w': Array([ 1.5, -2. ], dtype=float32)}
    """
    first, *others = (
        strength / 2 * jnp.sum(leaf**2) for leaf in _chosen("l2_penalty", params, where) if leaf is not None
    )
    return sum(others, first)


@l2_penalty.def_forward
def _l2_penalty_forward(params, *, strength, where):
    chosen, wide = _in_one_dtype("l2_penalty", params, where)
    total = 0.5 * strength * sum(jnp.sum(w * w) for w in wide)
    return total.astype(jnp.result_type(*chosen)), params


@l2_penalty.def_backward
def _l2_penalty_backward(params, dy, *, strength, where):
    return (_gradients("l2_penalty", params, where, upcast(dy) * strength, lambda w: w),)


@l2_penalty.def_check
def _l2_penalty_check(params, *, strength, where):
    _check("l2_penalty", params, strength, where)


@Op
def l1_penalty(
    params: PyTree, *, strength: float, where: str | Callable[[str], bool] | None = None
) -> Float[Array, ""]:
    r"""The sum of the parameters' sizes, :math:`\lambda \sum_i |W_i|`.

    Its gradient is :math:`\lambda \operatorname{sign} W`, which is 0 where W is 0.

    Args:
        params: a pytree of arrays, or one array.
        strength: :math:`\lambda`, 0 or more.
        where: which parameters, by path: a regular expression or a function, None for all; see above.

    Returns:
        A scalar in the common dtype of the chosen parameters.

    Raises:
        InputError: when no path is chosen, on a chosen parameter that is not floating point, and a negative strength.

    Source: Tibshirani 1996, *Regression Shrinkage and Selection via the Lasso*; 002 section 15.2.

    >>> import jax, jax.numpy as jnp
    >>> params = {"w": jnp.array([3.0, 0.0, -4.0])}
    >>> print(l1_penalty(params, strength=0.5), jax.grad(l1_penalty)(params, strength=0.5)["w"])
    3.5 [ 0.5  0.  -0.5]
    """
    first, *others = (
        strength * jnp.sum(jnp.abs(leaf)) for leaf in _chosen("l1_penalty", params, where) if leaf is not None
    )
    return sum(others, first)


@l1_penalty.def_forward
def _l1_penalty_forward(params, *, strength, where):
    chosen, wide = _in_one_dtype("l1_penalty", params, where)
    total = strength * sum(jnp.sum(jnp.abs(w)) for w in wide)
    return total.astype(jnp.result_type(*chosen)), params


@l1_penalty.def_backward
def _l1_penalty_backward(params, dy, *, strength, where):
    return (_gradients("l1_penalty", params, where, upcast(dy) * strength, jnp.sign),)


@l1_penalty.def_check
def _l1_penalty_check(params, *, strength, where):
    _check("l1_penalty", params, strength, where)


def _check(op, params, strength, where):
    require_number(op, "strength", strength, "a number that is 0 or more", lambda number: 0 <= number < math.inf)
    if not (where is None or isinstance(where, str) or callable(where)):
        raise InputError(f"{op}: where is {where!r}, and must be a regular expression, a function, or None")
    try:
        _chosen(op, params, where)
    except re.error as error:
        raise InputError(f"{op}: where is {where!r}, and is no regular expression: {error}") from None


def _chosen(op, params, where):
    """The leaves, with None for those that are not chosen."""
    found = jax.tree_util.tree_flatten_with_path(params)[0]
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found]
    if isinstance(where, str):
        chosen = [re.search(where, path) is not None for path in paths]
    else:
        chosen = [where is None or bool(where(path)) for path in paths]
    if not any(chosen):
        what = "where chooses none of the paths" if paths else "params has no arrays"
        shown = ", ".join(map(repr, paths[:5])) + (", …" if len(paths) > 5 else "")
        raise InputError(f"{op}: {what}{': ' + shown if paths else ''}")
    for (_, leaf), path, taken in zip(found, paths, chosen):
        if taken and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"{op}: params{f' at {path!r}' if path else ''} is {describe(leaf)}, and must be floating point; "
                "leave it out by where"
            )
    return [leaf if taken else None for (_, leaf), taken in zip(found, chosen)]


def _in_one_dtype(op, params, where):
    """The leaves that are chosen, as they are, and in the dtype in which they are squared and summed."""
    chosen = [leaf for leaf in _chosen(op, params, where) if leaf is not None]
    return chosen, upcast(*chosen) if len(chosen) > 1 else (upcast(*chosen),)


def _gradients(op, params, where, weight, slope):
    """The weight times ``slope(w)`` for every leaf w that is chosen, as a tree like params."""
    gradients = [
        None if w is None else (weight.astype(upcast(w).dtype) * slope(upcast(w))).astype(w.dtype)
        for w in _chosen(op, params, where)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), gradients)
