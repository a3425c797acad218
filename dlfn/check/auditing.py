"""Auditing every hand-written rule that a function meets, each by itself, at the values that it got there."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.attribution import shares
from dlfn.check.calls import Audit, Call
from dlfn.check.comparison import comparison
from dlfn.check.describing import around, coordinate, inside, operands
from dlfn.check.differences import finite_differences
from dlfn.check.measures import FINITE_DIFFERENCE_TOLERANCE, QUICK, cotangents, projected
from dlfn.check.opinions import Setting, reason
from dlfn.check.probing import first_failure
from dlfn.check.reproducer import reproducer
from dlfn.check.rules import has_rule, moving, rule_of
from dlfn.check.screening import Errors, Screen, worst_of
from dlfn.check.types import wrong_types_of
from dlfn.core import InputError, jaxprs
from dlfn.core.entering import Found, Visitor
from dlfn.core.primitives import is_float
from dlfn.core.stripping import strip_equation

__all__ = ["audit"]

# How many bytes of what arrives at rules in a loop are kept. Of a loop with more, some steps are checked.
_BUDGET = 2.0**28


def audit(f: Callable[..., Any], *, dtype: Any = "float64", seed: int = 0, probe: bool = False) -> Callable[..., Audit]:
    r"""Checks every hand-written rule that a function meets, by itself, and names those that are wrong.

    :func:`dlfn.compare` says that a gradient is wrong; this says whose rule is. ``f`` runs forwards once, and the
    values are kept that arrive at each function with a rule of its own: of ``jax.custom_vjp``, ``jax.custom_jvp``,
    ``jax.experimental.hijax``, or a :class:`dlfn.Op`, inside ``jit``, ``scan``, ``cond``, ``while_loop``, ``vmap``,
    ``checkpoint`` and ``shard_map`` too. At these values (in a scan: at every step) the rule's value and its gradient
    in each argument, for random cotangents, are compared with those of autodiff of its definition; and the gradient
    must be linear in the cotangent. A rule that is told which of its arguments and outputs matter, by
    ``symbolic_zeros``, is tried with each alone. What differs is judged once more by :func:`dlfn.compare`, with finite
    differences.

    Args:
        f: the function; it need not know of dlfn. JAX's own rules are not audited.
        dtype: floating-point arguments are cast to it, None leaves them as they are. What cannot run in float64 is
            audited in the arguments' own dtype.
        seed: that of the random cotangents.
        probe: whether to try other values at every rule too, made of those that it got, at which rules have been wrong
            that are right at ordinary ones: ties, zeros, an empty group, a row of -inf, …; see :func:`dlfn.compare`.

    Returns:
        A function of the arguments of ``f`` that returns an :class:`Audit`, which is true if all rules are right. It
        names each wrong rule, where it is defined and where it is called, in which step of a loop, in which argument
        and coordinate, how much of the error of the whole gradient it explains, and a program that shows it alone.

    Raises:
        InputError: when ``f`` cannot be traced, as where its Python code depends on the values of arguments.

    >>> import jax, jax.numpy as jnp, dlfn
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3.003 * x * x * dy,))  # 0.1 % off
    >>> @jax.jit
    ... def f(x):
    ...     return jax.lax.scan(lambda c, _: (jnp.sin(cube(c)), None), x, length=3)[0]
    >>> result = dlfn.audit(f)(jnp.arange(1.0, 4.0))
    >>> (call,) = result.failures
    >>> result.ok, call.rule.name, call.inside.startswith("scan step"), round(call.error, 6)
    (False, 'cube', True, 0.001)
    """

    @functools.wraps(f)
    def audited(*args: Any, **kwargs: Any) -> Audit:
        if dtype is None:
            return _audit(f, args, kwargs, None, seed, probe)
        with jax.enable_x64(jnp.dtype(dtype).itemsize == 8):
            try:
                return _audit(f, args, kwargs, dtype, seed, probe)
            except Exception as error:
                if jnp.dtype(dtype) != jnp.float64:
                    raise
                why = reason(error)
        try:
            result = _audit(f, args, kwargs, None, seed, probe)
        except Exception:
            raise InputError(f"audit: the function cannot be traced. {why}") from None
        note = f"float64: not available: {why}; audited in the arguments' own dtype"
        return dataclasses.replace(result, notes=(note, *result.notes))

    return audited


def _audit(f: Any, args: Any, kwargs: Any, dtype: Any, seed: int, probe: bool) -> Audit:
    cast = functools.partial(_cast, dtype=dtype)
    jaxpr, inputs, _, _ = jaxprs.trace(f, jax.tree.map(cast, args), jax.tree.map(cast, kwargs))
    inputs = [jnp.asarray(x) for x in inputs]
    found = _arriving(jaxpr, inputs)
    screen = Screen(seed)
    calls = [_checked(one, screen, seed) for one in found]
    if probe:
        calls = [_probed(call, one, seed) for call, one in zip(calls, found, strict=True)]
    notes: list[str] = []
    calls, error = _attributed(jaxpr, inputs, found, calls, seed, notes)
    computed = {x.dtype for one in found for x in one.value if jnp.issubdtype(x.dtype, jnp.floating)}
    described = " and ".join(sorted(map(str, computed))) or str(jnp.result_type(float))
    return Audit(tuple(calls), described, error, tuple(notes))


def _arriving(jaxpr: Any, inputs: Sequence[Any]) -> list[Found]:
    """What arrives at every rule that the program meets."""
    visitor = Visitor(has_rule, lambda place, values: (None, [jnp.asarray(x) for x in values]), _BUDGET)
    return jax.jit(lambda *inputs: visitor.run(jaxpr, inputs)[1], compiler_options=QUICK)(*inputs)


def _cast(leaf: Any, dtype: Any) -> Any:
    if dtype is not None and hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(leaf, dtype)
    return leaf


def _checked(found: Found, screen: Screen, seed: int) -> Call:
    """The verdict on one call, and a program that shows its failure."""
    call, at = _judged(found, screen, seed)
    return call if call.ok else dataclasses.replace(call, reproducer=_reproducer(call, found, at, screen))


def _judged(found: Found, screen: Screen, seed: int) -> tuple[Call, Any]:
    """The verdict on one call, and at which steps of the loops around it that is."""
    place, rule = found.place, rule_of(found.place.eqn)
    assert rule is not None
    call = Call(rule, place.line, "", True, None, nested=around(place))
    ran = np.asarray(found.reached)
    if not ran.any():
        return dataclasses.replace(call, reached=False), ()
    if not moving(place.eqn, found.value) or not any(is_float(var.aval.dtype) for var in place.eqn.outvars):
        return dataclasses.replace(call, notes=("it has no gradient: its arguments or results are integers",)), ()
    if wrong := next(wrong_types_of(place.eqn), ""):
        at = _last(ran)
        return dataclasses.replace(call, ok=False, worst=wrong, inside=inside(found, at)), at
    try:
        errors = screen(found)
    except Exception as error:  # as where the definition is a kernel, which has no derivative
        note = f"its definition cannot be differentiated: {reason(error)}"
        at = _last(ran)
        return _compared(dataclasses.replace(call, notes=(note,)), found, at, seed), at
    worst, at, excess = worst_of(found, errors)
    error = float(worst.gap[at] / (worst.scale[at] or 1.0))
    call = dataclasses.replace(call, error=error if np.isfinite(error) else None)
    if excess <= 1:
        return call, at
    kind, how, i = worst.what
    names = operands(place.eqn)
    of = f"value, output {i}," if kind == "value" else f"{kind} in {names[i]}{how and f' {how}'}"
    of += f" {coordinate(found, worst, at)}: {worst.got[at]:.6g} instead of {worst.expected[at]:.6g}"
    call = dataclasses.replace(call, ok=False, worst=of, inside=inside(found, at))
    if how or any(eqn.primitive.name == "shard_map" for eqn, _ in place.around):
        return call, at
    return _arbitrated(call, found, at, worst, seed), at


def _last(ran: np.ndarray) -> tuple[int, ...]:
    """The last step in which a call ran."""
    return tuple(int(i) for i in np.argwhere(ran)[-1])


def _alone(found: Found, at: Any) -> tuple[Callable[..., Any], list[int], list[jax.Array]]:
    """The equation at one step as a function of the operands in which it is differentiated, these, and their values."""
    eqn = found.place.eqn
    values = [jnp.asarray(np.asarray(x)[at]) for x in found.value]
    movers = moving(eqn, values)

    def alone(*given: Any) -> list[Any]:
        full = list(values)
        for i, x in zip(movers, given, strict=True):
            full[i] = x
        return [y for y in jaxprs.bind(eqn, full) if is_float(y.dtype)]

    return alone, movers, [values[i] for i in movers]


def _probed(call: Call, found: Found, seed: int) -> Call:
    """The call, if it is right so far, after probes at its last step."""
    on_a_mesh = any(eqn.primitive.name == "shard_map" for eqn, _ in found.place.around)
    if not (call.ok and call.reached) or on_a_mesh or call.error is None:
        return call
    eqn, at = found.place.eqn, _last(np.asarray(found.reached))
    values = [jnp.asarray(np.asarray(x)[at]) for x in found.value]
    by_rule, by_definition = (lambda values: jaxprs.bind(eqn, values)), (lambda values: strip_equation(eqn, *values))
    try:
        failure, _ = first_failure(by_rule, by_definition, values, operands(eqn), kinks=True, seed=seed)
    except Exception as error:
        return dataclasses.replace(call, notes=(*call.notes, f"probes: not available: {reason(error)}"))
    if failure is None:
        return call
    return dataclasses.replace(call, ok=False, error=None, worst=str(failure), inside=inside(found, at))


def _arbitrated(call: Call, found: Found, at: Any, worst: Errors, seed: int) -> Call:
    """The call, of which finite differences say at the worst coordinate whether it is the rule that is wrong there, or
    the definition's derivative, as that of sin(x) / x at 0 is."""
    kind, _, i = worst.what
    alone, movers, point = _alone(found, at)
    if kind != "gradient" or point[0].dtype != jnp.float64:
        return call
    loss = projected(alone, cotangents(jax.eval_shape(alone, *point), (seed, 0)))
    leaf, coordinate = movers.index(i), int(worst.coordinate[at])
    chosen = [[coordinate] if k == leaf else [] for k in range(len(point))]
    try:
        (slope,), (rounding,) = finite_differences(lambda point: loss(*point), point, chosen)[leaf]
    except Exception:  # the function has no finite differences where it cannot be called by itself
        return call
    got, expected, scale = (float(np.asarray(x)[at]) for x in (worst.got, worst.expected, worst.scale))
    bound = FINITE_DIFFERENCE_TOLERANCE * max(abs(slope), scale) + rounding
    if abs(slope - got) <= bound and not abs(slope - expected) <= bound:
        note = f"the definition's own derivative is wrong, in {call.worst}: finite differences agree with the rule"
        return dataclasses.replace(call, ok=True, worst="", notes=(*call.notes, note))
    return call


def _compared(call: Call, found: Found, at: Any, seed: int) -> Call:
    """The call, with the verdict of a comparison on the rule alone, whose definition cannot be differentiated."""
    alone, movers, point = _alone(found, at)
    names = operands(found.place.eqn)
    where = inside(found, at)
    try:
        result = comparison(alone, point, {}, Setting(dtype=None, seed=seed))
    except InputError as error:
        return dataclasses.replace(call, ok=False, error=None, worst=str(error), inside=where)
    errors = [error for row in result.rows for error in (row.hand, row.finite_difference) if error is not None]
    named = [dataclasses.replace(row, path=names[i]) for row, i in zip(result.rows, movers, strict=True)]
    if result.ok:
        return dataclasses.replace(call, error=max(errors, default=0.0))
    bad = [row for row in named if not row.ok]
    if not bad:
        return dataclasses.replace(call, inside=where)
    row = max(bad, key=lambda row: np.inf if row.hand is None else row.hand)
    worst = call.worst or f"gradient in {row.path}, {row.worst}"
    return dataclasses.replace(call, ok=False, error=row.hand, worst=worst, inside=where)


def _reproducer(call: Call, found: Found, at: Any, screen: Screen) -> str:
    """A program that shows the failure of a call, which the screen sees too."""

    def fails(function: Callable[..., Any], args: Any, settings: Any) -> bool:
        jaxpr, inputs, _, _ = jaxprs.trace(functools.partial(function, **settings), args, {})
        (one, *_) = _arriving(jaxpr, [jnp.asarray(x) for x in inputs])
        return worst_of(one, screen(one))[2] > 1

    return reproducer(call.rule, found.place.eqn, [jnp.asarray(np.asarray(x)[at]) for x in found.value], fails)


def _attributed(
    jaxpr: Any, inputs: Sequence[Any], found: Sequence[Found], calls: list[Call], seed: int, notes: list[str]
) -> tuple[list[Call], float | None]:
    """The calls, of which the wrong ones have their share in the error of the whole gradient, and that error."""
    wrong = [i for i, call in enumerate(calls) if not call.ok and not call.nested]
    if not wrong:
        return calls, None
    try:
        each, total = shares(jaxpr, inputs, [found[i].place for i in wrong], seed)
    except Exception as error:
        notes.append(f"how much each wrong rule explains is not available: {reason(error)}")
        return calls, None
    calls = list(calls)
    for i, share in zip(wrong, each, strict=True):
        calls[i] = dataclasses.replace(calls[i], share=share)
    return calls, total
