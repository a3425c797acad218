"""The same function with every hand-derived rule replaced by its definition."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax

from dlfn.core import _jax, jaxprs
from dlfn.core.entering import Place, Visitor, occurs
from dlfn.core.errors import InputError
from dlfn.core.primitives import linear_p, op_p, strong

__all__ = ["autodiff", "definition", "keeps", "strip_equation"]


def autodiff(
    f: Callable[..., Any], *, custom_jvp: bool = False, keep: Sequence[Callable[..., Any]] = ()
) -> Callable[..., Any]:
    r"""Strips hand-derived rules: ``jax.grad(dlfn.autodiff(f))`` is pure autodiff, of the textbook formulas.

    Every :class:`dlfn.Op` in ``f`` becomes its definition, every ``jax.custom_vjp`` function its plain body, and every
    primitive of ``jax.experimental.hijax`` what its ``expand`` says, inside ``jit``, ``scan``, ``cond``,
    ``while_loop``, ``checkpoint`` and ``shard_map`` too. ``f`` need not know of dlfn.

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
    wanted = _Rules(custom_jvp, frozenset(map(_rule_of, keep)))

    @functools.wraps(f)
    def stripped(*args: Any, **kwargs: Any) -> Any:
        jaxpr, inputs, _, out_tree = jaxprs.trace(f, args, kwargs)
        plain = jax.make_jaxpr(lambda *values: _strip(jaxpr, values, wanted))(*inputs)
        assert wanted.kept or not occurs(wanted, plain), "a rule survived stripping"
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


def strip_equation(eqn: Any, *values: Any) -> Sequence[Any]:
    """The definition of one equation with a rule, in which the rules of others are stripped as by :func:`autodiff`."""
    return _plain(eqn, list(values), _Rules())


@dataclasses.dataclass(frozen=True)
class _Rules:
    """The condition that an equation has a rule, to be stripped or kept. Of those that are kept: an Op, or where the
    function is defined."""

    custom_jvp: bool = False
    kept: frozenset[Any] = frozenset()

    def __call__(self, eqn: Any) -> bool:
        name = eqn.primitive.name
        return name in _STRIPPED or (self.custom_jvp and name == "custom_jvp_call") or self.keeps(eqn)

    def keeps(self, eqn: Any) -> bool:
        if not self.kept:
            return False
        if eqn.primitive is op_p:
            return eqn.params["call"].op in self.kept
        return eqn.primitive.name in _OF_JAX and _jax.rule_sources(eqn)[1] in self.kept


_OF_JAX = frozenset({"custom_vjp_call", "custom_jvp_call", _jax.HIJAX})
# Outside of rules, which may have hidden them, JAX takes no gradients of custom_vmap functions.
_STRIPPED = frozenset({op_p.name, linear_p.name, "custom_vjp_call", "custom_vmap_call", _jax.HIJAX})


def keeps(functions: Sequence[Callable[..., Any]]) -> Callable[[Any], bool]:
    """Whether an equation has the rule of one of these functions."""
    return _Rules(kept=frozenset(map(_rule_of, functions))).keeps


def _rule_of(function: Any) -> Any:
    """What tells the equations of a function's rule from others."""
    if hasattr(function, "definition"):
        return function
    own = isinstance(function, jax.custom_vjp | jax.custom_jvp)
    code = getattr(inspect.unwrap(_jax.primal(function)), "__code__", None) if own else None
    if code is None:
        raise InputError(
            f"autodiff: {function!r} is to keep its rule, and has none of its own; pass an Op, or what jax.custom_vjp "
            "or jax.custom_jvp made of a Python function"
        )
    return _jax.code_place(code)


def _strip(jaxpr: Any, values: Sequence[Any], wanted: _Rules) -> list[Any]:
    def visit(place: Place, values: list[Any]) -> tuple[Sequence[Any], None]:
        return _plain(place.eqn, values, wanted), None

    return Visitor(wanted, visit).run(jaxpr, values)[0]


def _plain(eqn: Any, values: list[Any], wanted: _Rules) -> Sequence[Any]:
    if wanted.keeps(eqn):
        return jaxprs.bind(eqn, values)
    params = eqn.params
    if eqn.primitive is linear_p or (eqn.primitive is op_p and params["residuals"]):
        call = params["linear"].call if eqn.primitive is linear_p else params["call"]
        raise InputError(
            f"autodiff: the hand-derived rule of {call.op.name} was applied while tracing "
            f"({jaxprs.source_line(eqn)}), because the function itself differentiates; "
            "strip the inner function instead: jax.grad(dlfn.autodiff(inner))"
        )
    if eqn.primitive is op_p:
        return _checked_definition(eqn, values)
    if eqn.primitive.name == _jax.HIJAX:
        return _strip(jax.make_jaxpr(functools.partial(_jax.expand, eqn))(*values), values, wanted)
    return _strip(params["call" if eqn.primitive.name == "custom_vmap_call" else "call_jaxpr"], values, wanted)


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
