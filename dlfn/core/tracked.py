"""A function and its gradient in one jaxpr, whose equations say what they are the derivative of.

``jax.vjp`` writes one equation of a function as several, and runs the rules of ``custom_vjp``, ``custom_jvp`` and ops
as if all of a rule stood in the line that calls it. Here every equation is traced once more, under a name that its
derivative inherits, and every rule in a ``jit`` of its own, in which lines are those of the rule.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import _jax, jaxprs
from dlfn.core.entering import BUILT_ANEW, Place, Visitor
from dlfn.core.platforms import form_flat, form_p
from dlfn.core.primitives import Linear, evaluate, is_float, op_flat, op_p, transpose

__all__ = ["called", "derivative_of", "tracked_jaxpr", "tracked_vjp_jaxpr", "widened"]

_TAG = "dlfn_of_"
_CALLS = ("jit", "pjit", "closed_call", "core_call")
_WIDE: dict[Any, Any] = dict.fromkeys(map(jnp.dtype, ("float16", "bfloat16", "float32")), jnp.dtype("float64"))
_WIDE[jnp.dtype("complex64")] = jnp.dtype("complex128")


def tracked_jaxpr(jaxpr: Any, inputs: Sequence[Any]) -> Any:
    """The jaxpr of a function, with names."""
    return jax.make_jaxpr(lambda *values: _run(jaxpr, values))(*inputs)


def tracked_vjp_jaxpr(jaxpr: Any, inputs: Sequence[Any], cotangents: Sequence[Any]) -> Any:
    """The jaxpr of ``(*inputs, *cotangents) -> (*outputs, *gradients)``, of a function given by its jaxpr, with names:
    cotangents of its floating-point outputs, and gradients in its floating-point inputs."""
    wrt = [i for i, x in enumerate(inputs) if is_float(jnp.result_type(x))]

    def both(*operands: Any) -> list[Any]:
        values, bars = list(operands[: len(inputs)]), operands[len(inputs) :]

        def moving(*floats: Any) -> tuple[list[Any], list[Any]]:
            full = list(values)
            for i, x in zip(wrt, floats, strict=True):
                full[i] = x
            outs = _run(jaxpr, full)
            return [y for y in outs if is_float(y.dtype)], outs

        _, back, outs = jax.vjp(moving, *[values[i] for i in wrt], has_aux=True)
        return [*outs, *back(list(bars))]

    return jax.make_jaxpr(both)(*inputs, *cotangents)


def derivative_of(eqn: Any) -> str:
    """The primitive whose equation this one computes, or the derivative of; empty within rules."""
    _, tag, rest = _jax.name_stack(eqn).rpartition(_TAG)
    return rest.split("/")[0].rstrip(")") if tag else ""


def called(eqn: Any) -> Any:
    """The jaxpr that an equation runs on its operands as they are: that of a call, of a rule, of an op; else None."""
    if eqn.primitive in (op_p, form_p):
        flat = op_flat if eqn.primitive is op_p else form_flat
        types = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in eqn.invars]
        return jax.make_jaxpr(functools.partial(flat, **eqn.params))(*types)
    if eqn.primitive.name in (*_CALLS, "remat2", "checkpoint", "custom_vjp_call", "custom_jvp_call"):
        return eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return None


def widened(eqn: Any) -> Any:
    """The same equation for operands in float64 and complex128."""

    def wide(value: Any) -> Any:
        return _WIDE.get(jnp.dtype(value), value) if isinstance(value, type | np.dtype) else value

    return eqn.replace(params={name: wide(value) for name, value in eqn.params.items()})


def _run(jaxpr: Any, values: Sequence[Any]) -> list[Any]:
    def visit(place: Place, values: list[Any]) -> tuple[Sequence[Any], None]:
        return _visited(place.eqn, values), None

    outs, _ = Visitor(lambda eqn: eqn.primitive.name not in BUILT_ANEW, visit).run(jaxpr, values)
    return [jnp.asarray(y) for y in outs]


def _visited(eqn: Any, values: list[Any]) -> Sequence[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in _CALLS:
        return _named(params.get("name", name), lambda *values: _run(params["jaxpr"], values))(*values)
    if name == "custom_vjp_call":
        return _custom_vjp(eqn, values)
    if name == "custom_jvp_call":
        return _custom_jvp(eqn, values)
    if eqn.primitive is op_p and not params["residuals"]:
        return _op(eqn, values)
    with jax.named_scope(f"{_TAG}{name}"):
        return jaxprs.bind(eqn, values)


def _named(name: str, function: Callable[..., Any]) -> Any:
    """``function`` under ``jit``, by a name that the jaxpr shows."""

    def named(*values: Any) -> Any:
        return function(*values)

    named.__name__ = named.__qualname__ = name
    return jax.jit(named)


def _rule(name: str, function: Callable[..., Any]) -> Any:
    """The same of a rule, with its own lines."""

    def within(*values: Any) -> Any:
        with _jax.own_lines():
            return function(*values)

    return _named(name, within)


def _custom_vjp(eqn: Any, values: list[Any]) -> Sequence[Any]:
    name, *_ = _jax.rule_sources(eqn)
    needs = [is_float(jnp.result_type(x)) for x in values]
    forward, backward = _jax.custom_vjp_rules(eqn)

    function = jax.custom_vjp(lambda *values: _run(eqn.params["call_jaxpr"], values))
    function.defvjp(
        _rule(f"forward rule of {name}", lambda *values: forward(values, needs)),
        lambda rest, dy: tuple(_rule(f"backward rule of {name}", backward)(rest, dy)),
    )
    return function(*values)


def _op(eqn: Any, values: list[Any]) -> Sequence[Any]:
    call = eqn.params["call"]
    wrt = tuple(i for i, x in enumerate(values) if is_float(jnp.result_type(x)))
    linear: list[Linear] = []

    def forward(*values: Any) -> Any:
        (y, y_tree), (rest, rest_tree) = map(jax.tree.flatten, evaluate(call, True, *values))
        linear[:] = [Linear(call, wrt, y_tree, tuple(is_float(leaf.dtype) for leaf in y), rest_tree)]
        return y, rest

    def backward(rest: Any, dy: Any) -> tuple[Any, ...]:
        dy = [bar for bar, floating in zip(dy, linear[0].y_floats, strict=True) if floating]
        found = dict(zip(wrt, transpose(linear[0], rest, dy), strict=True))
        return tuple(found.get(i) for i in range(len(values)))

    function = jax.custom_vjp(_rule(call.op.name, functools.partial(op_flat, **eqn.params)))
    function.defvjp(_rule(f"forward of {call.op.name}", forward), _rule(f"backward of {call.op.name}", backward))
    return function(*values)


def _custom_jvp(eqn: Any, values: list[Any]) -> Sequence[Any]:
    (name, *_), n_outs = _jax.rule_sources(eqn), len(eqn.outvars)
    rule = _rule(f"rule of {name}", _jax.custom_jvp_rule(eqn))

    def jvp(primals: Any, tangents: Any) -> Any:
        outs = rule(*primals, *tangents)
        return list(outs[:n_outs]), list(outs[n_outs:])

    function = jax.custom_jvp(lambda *values: _run(eqn.params["call_jaxpr"], values))
    function.defjvp(jvp)
    return function(*values)
