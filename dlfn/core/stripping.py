"""The same function with every hand-derived rule replaced by its definition."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from dlfn.core import jaxprs
from dlfn.core._jax import custom_rule_source, function_source
from dlfn.core.errors import InputError
from dlfn.core.primitives import linear_p, op_p, strong

__all__ = ["autodiff", "definition"]

_LOOPS = ("scan", "while", "cond")


def autodiff(
    f: Callable[..., Any], *, custom_jvp: bool = False, keep: Sequence[Callable[..., Any]] = ()
) -> Callable[..., Any]:
    r"""Strips hand-derived rules: ``jax.grad(dlfn.autodiff(f))`` is pure autodiff, of the textbook formulas.

    Every :class:`dlfn.Op` in ``f`` becomes its definition and every ``jax.custom_vjp`` function its plain body, inside
    ``jit``, ``scan``, ``cond``, ``while_loop``, ``checkpoint`` and ``shard_map`` too. ``f`` need not know of dlfn.

    Args:
        f: a function of pytrees of arrays. It is traced, so its Python control flow must not depend on array values;
            arguments that are not arrays or positional floats stay as they are.
        custom_jvp: strip ``jax.custom_jvp`` rules too. Off by default, for that changes conventions of ``jax.nn``
            (relu′(0) becomes 1/2). A ``custom_jvp`` function with a stripped rule inside it is stripped in any case.
        keep: functions whose own rules stay, such as straight-through estimators: each an Op, or made by
            ``jax.custom_vjp`` or ``jax.custom_jvp``.

    Returns:
        A function of the same arguments with the same value. It can be transformed like any other.

    Raises:
        InputError: if a hand rule has been applied already while tracing, because ``f`` itself differentiates. Strip
            the inner function then: ``jax.grad(dlfn.autodiff(inner))``. And if one of ``keep`` has no rule of its own.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @jax.custom_vjp
    ... def double(x):
    ...     return 2 * x
    >>> double.defvjp(lambda x: (2 * x, None), lambda _, dy: (3 * dy,))  # wrong
    >>> print(jax.grad(double)(1.0), jax.grad(dlfn.autodiff(double))(1.0))
    3.0 2.0
    """
    names = {"dlfn_op", "dlfn_linear", "custom_vjp_call"} | ({"custom_jvp_call"} if custom_jvp else set())
    strip = _Strip(frozenset(names), frozenset(map(_rule_of, keep)))

    @functools.wraps(f)
    def stripped(*args: Any, **kwargs: Any) -> Any:
        jaxpr, inputs, _, out_tree = jaxprs.trace(f, args, kwargs)
        plain = jax.make_jaxpr(lambda *values: _strip(jaxpr, values, strip))(*inputs)
        assert not _has_rules(plain, strip), "a rule survived stripping"
        return out_tree.unflatten(jaxprs.run(plain, inputs))

    return stripped


@dataclasses.dataclass(frozen=True)
class _Strip:
    """What is stripped: equations of these primitives, but for those of the rules that are kept."""

    names: frozenset[str]
    kept: frozenset[Any]

    def __contains__(self, eqn: Any) -> bool:
        return eqn.primitive.name in self.names and not self.keeps(eqn)

    def keeps(self, eqn: Any) -> bool:
        if not self.kept:
            return False
        return (eqn.params["call"].op if eqn.primitive is op_p else custom_rule_source(eqn)) in self.kept


def _rule_of(function: Any) -> Any:
    """What tells the equations of a function's rule from others: the Op itself, or where the function is written."""
    if hasattr(function, "definition"):
        return function
    if not isinstance(function, jax.custom_vjp | jax.custom_jvp):
        raise InputError(
            f"autodiff: {function!r} is to keep its rule, and has none of its own; pass an Op, or what "
            "jax.custom_vjp or jax.custom_jvp returned"
        )
    return function_source(function.fun)


def definition(call: Any, *leaves: jax.Array) -> list[jax.Array]:
    """An op's definition on flat arguments, under the call's vmaps."""

    def flat(*leaves: jax.Array) -> list[jax.Array]:
        y = call.op.definition(*call.tree.unflatten(leaves), **dict(call.static))
        return [strong(leaf) for leaf in jax.tree.leaves(y)]

    for level in call.levels:
        flat = jax.vmap(flat, level.in_axes, axis_name=level.name, axis_size=level.size, spmd_axis_name=level.spmd_name)
    return flat(*leaves)


def _has_rules(jaxpr: Any, strip: _Strip) -> bool:
    return any(
        eqn in strip or (not strip.keeps(eqn) and any(_has_rules(sub, strip) for sub in jaxprs.subjaxprs(eqn)))
        for eqn in jaxprs.parts(jaxpr)[0].eqns
    )


def _strip(jaxpr: Any, values: Sequence[Any], strip: _Strip) -> list[Any]:
    return jaxprs.run(jaxpr, values, functools.partial(_visit, strip=strip))


def _visit(eqn: Any, values: list[Any], strip: _Strip) -> Sequence[Any]:
    name, params = eqn.primitive.name, eqn.params
    if eqn.primitive is linear_p or (eqn.primitive is op_p and params["residuals"]):
        call = params["linear"].call if eqn.primitive is linear_p else params["call"]
        raise InputError(
            f"autodiff: the hand-derived rule of {call.op.name} was applied while tracing "
            f"({jaxprs.source_line(eqn)}), because the function itself differentiates; "
            "strip the inner function instead: jax.grad(dlfn.autodiff(inner))"
        )
    if strip.keeps(eqn):
        return jaxprs.bind(eqn, values)
    if eqn.primitive is op_p:
        return _checked_definition(eqn, values)
    if eqn not in strip and not any(_has_rules(sub, strip) for sub in jaxprs.subjaxprs(eqn)):
        return jaxprs.bind(eqn, values)
    if name in ("custom_vjp_call", "custom_jvp_call"):
        return _strip(params["call_jaxpr"], values, strip)
    if name in ("jit", "pjit", "closed_call", "core_call"):
        return _strip(params["jaxpr"], values, strip)
    if name in _LOOPS:
        return _strip_loop(eqn, values, strip)
    if name in ("remat2", "checkpoint"):
        body = jax.checkpoint(
            lambda *values: _strip(params["jaxpr"], values, strip),
            prevent_cse=params["prevent_cse"],
            policy=params["policy"],
        )
        return body(*values)
    if name == "shard_map":
        body = jax.shard_map(
            lambda *values: tuple(_strip(params["jaxpr"], values, strip)),
            mesh=params["mesh"],
            in_specs=tuple(params["in_specs"]),
            out_specs=tuple(params["out_specs"]),
            axis_names=params["newly_manual_axes"],
            check_vma=params["check_vma"],
        )
        return body(*values)
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


def _strip_loop(eqn: Any, values: list[Any], strip: _Strip) -> Sequence[Any]:
    params = eqn.params
    if eqn.primitive.name == "scan":
        n_consts, n_carry = jaxprs.scan_counts(eqn)
        consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]

        def step(carry: Any, x: Any) -> Any:
            outs = _strip(params["jaxpr"], [*consts, *carry, *x], strip)
            return outs[:n_carry], outs[n_carry:]

        loop = {key: params[key] for key in ("length", "reverse", "unroll")}
        carry, ys = jax.lax.scan(step, carry, xs, **loop)
        return [*carry, *ys]
    if eqn.primitive.name == "cond":
        branches = [functools.partial(lambda branch, *ops: _strip(branch, ops, strip), b) for b in params["branches"]]
        return jax.lax.switch(values[0], branches, *values[1:])
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, carry = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
    return jax.lax.while_loop(
        lambda carry: _strip(params["cond_jaxpr"], [*cond_consts, *carry], strip)[0],
        lambda carry: _strip(params["body_jaxpr"], [*body_consts, *carry], strip),
        carry,
    )
