"""The same function with every hand-derived rule replaced by its definition."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from dlfn.core import jaxprs
from dlfn.core.errors import InputError
from dlfn.core.primitives import linear_p, op_p, strong
from dlfn.core.rebuilding import CALLS, REBUILT, rebuild

__all__ = ["autodiff", "definition"]


def autodiff(f: Callable[..., Any], *, custom_jvp: bool = False) -> Callable[..., Any]:
    r"""Strips hand-derived rules: ``jax.grad(dlfn.autodiff(f))`` is pure autodiff, of the textbook formulas.

    Every :class:`dlfn.Op` in ``f`` becomes its definition and every ``jax.custom_vjp`` function its plain body, inside
    ``jit``, ``scan``, ``cond``, ``while_loop``, ``checkpoint`` and ``shard_map`` too. ``f`` need not know of dlfn.

    Args:
        f: a function of pytrees of arrays. It is traced, so its Python control flow must not depend on array values;
            arguments that are not arrays or positional floats stay as they are.
        custom_jvp: strip ``jax.custom_jvp`` rules too. Off by default, for that changes conventions of ``jax.nn``
            (relu′(0) becomes 1/2). A ``custom_jvp`` function with a stripped rule inside it is stripped in any case.

    Returns:
        A function of the same arguments with the same value. It can be transformed like any other.

    Raises:
        InputError: if a hand rule has been applied already while tracing, because ``f`` itself differentiates. Strip
            the inner function then: ``jax.grad(dlfn.autodiff(inner))``.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @jax.custom_vjp
    ... def double(x):
    ...     return 2 * x
    >>> double.defvjp(lambda x: (2 * x, None), lambda _, dy: (3 * dy,))  # wrong
    >>> print(jax.grad(double)(1.0), jax.grad(dlfn.autodiff(double))(1.0))
    3.0 2.0
    """
    strip = frozenset({"dlfn_op", "dlfn_linear", "custom_vjp_call"} | ({"custom_jvp_call"} if custom_jvp else set()))

    @functools.wraps(f)
    def stripped(*args: Any, **kwargs: Any) -> Any:
        jaxpr, inputs, _, out_tree = jaxprs.trace(f, args, kwargs)
        plain = jax.make_jaxpr(lambda *values: _strip(jaxpr, values, strip))(*inputs)
        assert not _has_rules(plain, strip), "a rule survived stripping"
        return out_tree.unflatten(jaxprs.run(plain, inputs))

    return stripped


def definition(call: Any, *leaves: jax.Array) -> list[jax.Array]:
    """An op's definition on flat arguments, under the call's vmaps."""

    def flat(*leaves: jax.Array) -> list[jax.Array]:
        y = call.op.definition(*call.tree.unflatten(leaves), **dict(call.static))
        return [strong(leaf) for leaf in jax.tree.leaves(y)]

    for level in call.levels:
        flat = jax.vmap(flat, level.in_axes, axis_name=level.name, axis_size=level.size, spmd_axis_name=level.spmd_name)
    return flat(*leaves)


def _has_rules(jaxpr: Any, strip: frozenset[str]) -> bool:
    return any(
        eqn.primitive.name in strip or any(_has_rules(sub, strip) for sub in jaxprs.subjaxprs(eqn))
        for eqn in jaxprs.parts(jaxpr)[0].eqns
    )


def _strip(jaxpr: Any, values: Sequence[Any], strip: frozenset[str]) -> list[Any]:
    return jaxprs.run(jaxpr, values, functools.partial(_visit, strip=strip))


def _visit(eqn: Any, values: list[Any], strip: frozenset[str]) -> Sequence[Any]:
    name, params = eqn.primitive.name, eqn.params
    if eqn.primitive is linear_p or (eqn.primitive is op_p and params["residuals"]):
        call = params["linear"].call if eqn.primitive is linear_p else params["call"]
        raise InputError(
            f"autodiff: the hand-derived rule of {call.op.name} was applied while tracing "
            f"({jaxprs.source_line(eqn)}), because the function itself differentiates; "
            "strip the inner function instead: jax.grad(dlfn.autodiff(inner))"
        )
    if eqn.primitive is op_p:
        return _checked_definition(eqn, values)
    if name not in strip and not any(_has_rules(sub, strip) for sub in jaxprs.subjaxprs(eqn)):
        return jaxprs.bind(eqn, values)
    if name in ("custom_vjp_call", "custom_jvp_call"):
        return _strip(params["call_jaxpr"], values, strip)
    if name in CALLS:
        return _strip(params["jaxpr"], values, strip)
    if name in REBUILT:
        return rebuild(eqn, values, functools.partial(_strip, strip=strip))
    raise InputError(f"autodiff: cannot strip the rules inside {name!r} ({jaxprs.source_line(eqn)})")


def _checked_definition(eqn: Any, values: list[Any]) -> list[Any]:
    call = eqn.params["call"]
    outs = definition(call, *values)
    expected, got = ([(v.aval.shape, v.aval.dtype) for v in eqn.outvars], [(v.shape, v.dtype) for v in outs])
    if expected != got:
        raise InputError(
            f"Op {call.op.name!r}: forward returns {_describe(expected)}, but its definition {_describe(got)}"
        )
    return outs


def _describe(avals: Sequence[tuple[Any, Any]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in avals)
