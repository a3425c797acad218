r"""Backpropagation by hand: a reverse walk over the jaxpr that never enters JAX's autodiff.

The multivariable chain rule :math:`\bar x = \sum_i \bar y_i\, \partial y_i / \partial x` (documents 000 section 5,
001 section 7, 002 section 12): run the function forwards, then visit its equations backwards, turning the cotangents of
each equation's outputs into cotangents of its inputs, and add up where a value was used more than once. Ops use their
``backward``; the glue between them uses the sheet of derivative rules in :mod:`dlfn.core.rules`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import control as control  # this and those with "as" below register themselves
from dlfn.core import custom_rules as custom_rules
from dlfn.core import functionals as functionals
from dlfn.core import jaxprs
from dlfn.core import sharded as sharded
from dlfn.core import sparse as sparse
from dlfn.core.errors import InputError
from dlfn.core.walk import Record, Walk

__all__ = ["backprop", "backprop_value_and_grad", "backprop_vjp"]


def backprop(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    record: bool = False,
    custom_rules: str = "use",
) -> Callable[..., Any]:
    r"""Like ``jax.grad``, by hand-derived rules and a hand-derived chain rule alone.

    Args:
        f: a function of pytrees of arrays that returns a scalar (with ``has_aux`` a pair of it and anything else).
        argnums: which positional arguments to differentiate in; they must be floating point.
        has_aux: ``f`` returns ``(value, aux)``.
        record: return every recorded intermediate cotangent as well: ``(gradient, deltas)``, where ``deltas`` maps the
            names given by ``jax.ad_checkpoint.checkpoint_name``, and those of the Ops, to the cotangents :math:`\delta`
            of those values, in the order of the forward pass. The n-th value of the same name is ``name#n``; inside
            ``scan`` the steps are stacked; in a branch of ``cond`` that did not run they are zero. Values that no
            cotangent reaches are left out. A layer whose last step is an op is there by both names;
            :func:`dlfn.explain` has each value once, named or not.
        custom_rules: what to do at ``jax.custom_vjp`` and ``jax.custom_jvp`` functions: ``"use"`` their rules or
            ``"strip"`` them and differentiate their bodies.

    Returns:
        A function of the arguments of ``f``: the gradient, then ``aux`` if asked for, then ``deltas``.

    Raises:
        InputError: when ``f`` is not scalar; when an argument is not floating point; when a primitive has no rule
            (the message names it and your source line; :func:`dlfn.register_rule` adds one).

    ``f`` is traced: its Python control flow must not depend on array values. Run under ``jax.jit`` it compiles like any
    other function; loops save their carries and recompute each step.

    >>> import jax.numpy as jnp, dlfn
    >>> f = lambda v: (3 * v["x"] + 4 * v["y"] - 5) ** 2
    >>> print(dlfn.backprop(f)({"x": jnp.float32(1), "y": jnp.float32(2)}))  # 6 (3x + 4y − 5), 8 (3x + 4y − 5)
    {'x': Array(36., dtype=float32), 'y': Array(48., dtype=float32)}
    """
    differentiate = backprop_value_and_grad(f, argnums, has_aux=has_aux, record=record, custom_rules=custom_rules)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads, *deltas = differentiate(*args, **kwargs)
        outs = [grads, *([value[1]] if has_aux else []), *deltas]
        return tuple(outs) if len(outs) > 1 else grads

    return gradient


def backprop_value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    record: bool = False,
    custom_rules: str = "use",
) -> Callable[..., Any]:
    """Like ``jax.value_and_grad``; see :func:`backprop`. With ``record`` it returns ``(value, gradient, deltas)``.

    >>> import dlfn
    >>> print(*map(float, dlfn.backprop_value_and_grad(lambda x: x**3)(2.0)))
    8.0 12.0
    """

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        selected = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        chosen = [i + len(args) if i < 0 else i for i in selected]
        if any(not 0 <= i < len(args) for i in chosen):
            raise InputError(f"backprop: argnums={argnums} with {len(args)} positional arguments")

        def of_chosen(*values: Any) -> Any:
            full = list(args)
            for i, value in zip(chosen, values, strict=True):
                full[i] = value
            return f(*full, **kwargs)

        deltas: Record | None = {} if record else None
        value, back, aux = _vjp(of_chosen, [args[i] for i in chosen], has_aux, deltas, custom_rules, chosen)
        scalar = jax.tree.leaves(value)
        if len(scalar) != 1 or scalar[0].shape != () or not jnp.issubdtype(scalar[0].dtype, jnp.floating):
            described = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in scalar) or "nothing"
            raise InputError(
                f"backprop: the function must return one floating-point scalar, got {described}; reduce it (say "
                "jnp.sum or jnp.mean), pass has_aux=True if it returns (loss, aux), or use dlfn.backprop_vjp"
            )
        grads = back(jax.tree.map(lambda y: np.ones((), y.dtype), value))
        out = ((value, aux) if has_aux else value, grads[0] if isinstance(argnums, int) else grads)
        return (
            (*out, {name: delta for name, delta in deltas.items() if delta is not None}) if deltas is not None else out
        )

    return value_and_gradient


def backprop_vjp(
    f: Callable[..., Any], *primals: Any, has_aux: bool = False, custom_rules: str = "use"
) -> tuple[Any, ...]:
    """Like ``jax.vjp``: ``(value, back)``, with ``has_aux`` ``(value, back, aux)``, where ``back(cotangent)`` is a
    tuple of the primals' cotangents.

    >>> import jax.numpy as jnp, dlfn
    >>> y, back = dlfn.backprop_vjp(jnp.sin, jnp.zeros(2))
    >>> print(back(jnp.array([1.0, 2.0]))[0])
    [1. 2.]
    """
    value, back, aux = _vjp(f, primals, has_aux, None, custom_rules, range(len(primals)))
    return (value, back, aux) if has_aux else (value, back)


def _vjp(f: Any, primals: Any, has_aux: bool, deltas: Record | None, custom_rules: str, numbers: Any) -> Any:
    if custom_rules not in ("use", "strip"):
        raise InputError(f"backprop: custom_rules must be 'use' or 'strip', got {custom_rules!r}")
    primals = tuple(primals)
    for number, primal in zip(numbers, primals, strict=True):
        for path, leaf in jax.tree_util.tree_flatten_with_path(primal)[0]:
            dtype = jnp.result_type(leaf)
            if not jnp.issubdtype(dtype, jnp.floating):
                raise InputError(
                    f"backprop: argument {number}{jax.tree_util.keystr(path)} is {dtype}; only real floating-point "
                    "arrays have gradients: leave it out of argnums, or cast it"
                )
    primals = jax.tree.map(jnp.asarray, primals)

    def main(*args: Any) -> Any:
        out = f(*args)
        if not has_aux:
            return out, ()
        if not (isinstance(out, tuple) and len(out) == 2):
            raise InputError(f"backprop: with has_aux=True the function must return (value, aux), got {type(out)}")
        return out

    jaxpr, inputs, _, out_tree = jaxprs.trace(main, primals, {})
    walk = Walk(deltas, custom_rules == "use")
    walk.refuse_hidden_state(jaxpr)
    with jax.transfer_guard("allow"):
        outs, back = walk.pullback(jaxpr, inputs, [True] * len(inputs))
        outs = [jnp.asarray(out) for out in outs]
    value, aux = out_tree.unflatten(outs)
    value_tree = jax.tree.structure(value)
    n_value = value_tree.num_leaves

    @jax.transfer_guard("allow")
    def pull(cotangent: Any) -> tuple[Any, ...]:
        leaves, tree = jax.tree.flatten(cotangent)
        if tree != value_tree:
            raise InputError(f"backprop: the cotangent has the structure {tree}, but the value has {value_tree}")
        for path, leaf, out in zip(jax.tree_util.tree_flatten_with_path(value)[0], leaves, outs, strict=False):
            if jnp.shape(leaf) != out.shape:
                raise InputError(
                    f"backprop: the cotangent of the value{jax.tree_util.keystr(path[0])} has shape "
                    f"{jnp.shape(leaf)}, but the value has {out.shape}"
                )
        given = [
            jnp.asarray(leaf, out.dtype) if jnp.issubdtype(out.dtype, jnp.inexact) else None
            for leaf, out in zip(leaves, outs, strict=False)
        ]
        flat = back([*given, *[None] * (len(outs) - n_value)])
        filled = [jnp.zeros_like(x) if c is None else c for c, x in zip(flat, inputs, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(primals), filled)

    return value, pull, aux
