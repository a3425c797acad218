"""Every transformation of JAX for functions whose backward pass is a rule of ``jax.custom_vjp``."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from dlfn.core import _jax, jaxprs
from dlfn.core.entering import Place, Visitor, occurs
from dlfn.core.errors import InputError
from dlfn.core.op import Op
from dlfn.core.primitives import is_float
from dlfn.core.stripping import autodiff

__all__ = ["from_vjp"]

_VJP = "custom_vjp_call"


def from_vjp(f: Callable[..., Any]) -> Callable[..., Any]:
    r"""Gives a ``jax.custom_vjp`` function the transformations that JAX does not: ``jvp``, ``jacfwd``, ``hessian``.

    The rule becomes an :class:`dlfn.Op`. Its reverse mode is the rule's ``bwd``, :math:`\bar x = J^T \bar y`, and its
    forward mode the transpose of that, :math:`\dot y = (J^T)^T \dot x`, so that one rule serves both; second
    derivatives follow from those of ``fwd`` and ``bwd``. To :func:`dlfn.autodiff` and :func:`dlfn.compare` the
    function's body is the definition.

    Args:
        f: a ``jax.custom_vjp`` function, or any function that calls some: every one becomes an Op, those that the rules
            themselves call too, inside ``jit``, loops, branches, ``checkpoint`` and ``shard_map``.

    Returns:
        A function of the same arguments, compiled. Static are those of ``nondiff_argnums`` and ``nondiff_argnames``,
        and whatever is neither an array nor a float by position; they must be hashable.

    ``None`` as a cotangent, integer and key arguments, trees and ``optimize_remat`` are as in JAX. Rules with
    ``symbolic_zeros`` are told that every floating-point argument is perturbed, and get cotangents that are arrays.
    Forward mode needs a ``bwd`` that JAX can transpose: one in plain JAX, without ``while_loop``, callback or kernel.

    Raises:
        InputError: when ``f`` calls no ``jax.custom_vjp`` function, on static arguments that are not hashable, on
            complex arrays, and on a traced array that a rule closes over instead of taking it as an argument.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * x * x * dy,))
    >>> smooth = dlfn.from_vjp(cube)  # jax.hessian(cube) is a TypeError
    >>> print(jax.jvp(smooth, (2.0,), (1.0,))[1], jax.hessian(smooth)(2.0))
    12.0 12.0
    """
    if not callable(f):
        raise InputError(f"from_vjp: f is {f!r}, and must be a function of jax.custom_vjp, or one that calls some")
    name = getattr(f, "__name__", type(f).__name__)
    static_positions = getattr(f, "nondiff_argnums", ())

    @functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
    def compiled(call: tuple[Any, ...], exact: str, *arrays: Any) -> Any:
        def flat(*arrays: Any) -> Any:
            tree, static = call
            given = iter(arrays)
            args, kwargs = tree.unflatten([next(given) if value is _ARRAY else value for value in static])
            return f(*args, **kwargs)

        jaxpr, inputs, _, tree = jaxprs.trace(flat, arrays, {})
        if not occurs(lambda eqn: eqn.primitive.name == _VJP, jaxpr):
            raise InputError(
                f"from_vjp: {name} calls no function of jax.custom_vjp; one that it has differentiated itself is gone: "
                "give the function that is differentiated"
            )
        return tree.unflatten(_as_ops(jaxpr, inputs))

    @functools.wraps(f)
    def transformable(*args: Any, **kwargs: Any) -> Any:
        paths, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
        dynamic = [_is_dynamic(path, leaf, static_positions) for path, leaf in paths]
        static = tuple(_ARRAY if moves else leaf for (_, leaf), moves in zip(paths, dynamic, strict=True))
        for (path, leaf), moves in zip(paths, dynamic, strict=True):
            if not (moves or _is_hashable(leaf)):
                raise InputError(
                    f"from_vjp: {name} takes {leaf!r} as a static argument ({jax.tree_util.keystr(path[1:])}), which "
                    "must be hashable: no array, and a tuple instead of a list"
                )
        arrays = [leaf for (_, leaf), moves in zip(paths, dynamic, strict=True) if moves]
        return compiled((tree, static), repr(static), *arrays)

    return transformable


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


_ARRAY = object()  # stands for an array among static arguments


def _is_dynamic(path: Any, leaf: Any, static_positions: Sequence[int]) -> bool:
    by_position = path[0].idx == 0
    if by_position and path[1].idx in static_positions:
        return False
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) or (by_position and isinstance(leaf, float))


def _as_ops(jaxpr: Any, values: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr with an Op in the place of each rule of ``custom_vjp``."""

    def visit(place: Place, values: list[Any]) -> tuple[Any, None]:
        eqn = place.eqn
        if eqn.primitive.name != _VJP:
            return jaxprs.bind(eqn, values), None
        n = eqn.params["num_consts"]
        outs = _Rule(eqn)(*map(_not_differentiated, values[:n]), *values[n:])
        return [_jax.weak(y) if v.aval.weak_type else y for y, v in zip(outs, eqn.outvars, strict=True)], None

    # Other rules, which have every transformation, would be lost if their bodies were entered.
    rules = (_VJP, "custom_jvp_call", _jax.HIJAX)
    return Visitor(lambda eqn: eqn.primitive.name in rules, visit).run(jaxpr, values)[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Weak:
    """A residual of weak type, as a Python number is: beside a bfloat16 it is one. Ops save none, but the tree of what
    they save tells that this was one."""

    value: Any


def _with_ops(f: Callable[..., Any]) -> Callable[..., Any]:
    def converted(*args: Any) -> Any:
        jaxpr, inputs, _, tree = jaxprs.trace(f, args, {})
        # The rule outlives the trace in which it was made, and with it what it closes over.
        for const in jaxprs.parts(jaxpr)[1]:
            if isinstance(const, Tracer):
                raise _closes_over(const)
        return tree.unflatten(_as_ops(jaxpr, inputs))

    return converted


class _Rule(Op):
    """The rule of one equation as an Op of the equation's flat operands."""

    def __init__(self, eqn: Any):
        self._body, n_consts = eqn.params["call_jaxpr"], eqn.params["num_consts"]
        rule_forward, rule_backward = _jax.custom_vjp_rules(eqn)

        def forward(*values: Any) -> tuple[Any, Any]:
            y, rest = rule_forward(values, [i >= n_consts and is_float(x.dtype) for i, x in enumerate(values)])
            return y, [_Weak(x) if jax.typeof(x).weak_type else x for x in rest]

        def backward(residuals: Any, dy: Any) -> tuple[Any, ...]:
            residuals = [_jax.weak(x.value) if isinstance(x, _Weak) else x for x in residuals]
            absent = [np.zeros(var.aval.shape, jax.dtypes.float0) for var in eqn.outvars]
            return tuple(rule_backward(residuals, [a if d is None else d for a, d in zip(absent, dy, strict=True)]))

        name, *self._places = _jax.rule_sources(eqn)
        super().__init__(autodiff(self.value), _with_ops(forward), _with_ops(backward), name=name)

    @property
    def places(self) -> tuple[str, str]:
        """Where the function and its ``bwd`` are written."""
        return self._places[0], self._places[1]

    def value(self, *values: Any) -> list[Any]:
        """The function's body, as in JAX: where nothing is differentiated no residuals are made."""
        return jaxprs.run(self._body, values)


@jax.custom_jvp
def _not_differentiated(x: jax.Array) -> jax.Array:
    """The identity, for an array that a rule closes over, and therefore has no cotangent of."""
    return x


@_not_differentiated.defjvp
def _(primals: Any, tangents: Any) -> Any:
    raise _closes_over(primals[0])


def _closes_over(x: Any) -> InputError:
    return InputError(
        f"from_vjp: a rule of jax.custom_vjp closes over a {x.dtype}{list(x.shape)} that is traced, by jit or to be "
        "differentiated; pass it as an argument"
    )
