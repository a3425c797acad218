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
from dlfn.check.comparison import compare
from dlfn.check.describing import around, coordinate, inside, operands
from dlfn.check.measures import FINITE_DIFFERENCE_TOLERANCE, cotangents, finite_differences, projected
from dlfn.check.opinions import reason
from dlfn.check.reproducer import reproducer
from dlfn.check.rules import has_rule, moving, rule_of
from dlfn.check.screening import Errors, Screen
from dlfn.core import InputError, jaxprs
from dlfn.core.entering import Found, Visitor

__all__ = ["audit"]

# How many bytes of what arrives at rules in a loop are kept. Of a loop with more, some steps are checked.
_BUDGET = 2.0**28


def audit(f: Callable[..., Any], *, dtype: Any = "float64", seed: int = 0) -> Callable[..., Audit]:
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
            return _audit(f, args, kwargs, None, seed)
        with jax.enable_x64(jnp.dtype(dtype).itemsize == 8):
            try:
                return _audit(f, args, kwargs, dtype, seed)
            except Exception as error:
                if jnp.dtype(dtype) != jnp.float64:
                    raise
                why = reason(error)
        try:
            result = _audit(f, args, kwargs, None, seed)
        except Exception:
            raise InputError(f"audit: the function cannot be traced. {why}") from None
        note = f"float64: not available: {why}; audited in the arguments' own dtype"
        return dataclasses.replace(result, notes=(note, *result.notes))

    return audited


def _audit(f: Any, args: Any, kwargs: Any, dtype: Any, seed: int) -> Audit:
    cast = functools.partial(_cast, dtype=dtype)
    jaxpr, inputs, _, _ = jaxprs.trace(f, jax.tree.map(cast, args), jax.tree.map(cast, kwargs))
    inputs = [jnp.asarray(x) for x in inputs]
    found = _arriving(jaxpr, inputs)
    screen = Screen(seed)
    calls = [_checked(one, screen, seed) for one in found]
    notes: list[str] = []
    calls, error = _attributed(jaxpr, inputs, found, calls, seed, notes)
    computed = {x.dtype for one in found for x in one.value if jnp.issubdtype(x.dtype, jnp.floating)}
    described = " and ".join(sorted(map(str, computed))) or str(jnp.result_type(float))
    return Audit(tuple(calls), described, error, tuple(notes))


def _arriving(jaxpr: Any, inputs: Sequence[Any]) -> list[Found]:
    """What arrives at every rule that the program meets."""
    visitor = Visitor(has_rule, lambda place, values: (None, [jnp.asarray(x) for x in values]), _BUDGET)
    return jax.jit(lambda *inputs: visitor.run(jaxpr, inputs)[1])(*inputs)


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
    try:
        errors = screen(found)
    except Exception as error:  # as where the definition is a kernel, which has no derivative
        note = f"its definition cannot be differentiated: {reason(error)}"
        at = _last(ran)
        return _compared(dataclasses.replace(call, notes=(note,)), found, at, seed), at
    worst, at, excess = _worst(errors, ran, _tolerance(found))
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


def _tolerance(found: Found) -> tuple[float, float]:
    """The relative tolerance, and the spacing of the dtype at 1."""
    eps = max((float(jnp.finfo(x.dtype).eps) for x in found.value if _is_float(x)), default=1e-16)
    return (1e-10 if eps < 1e-15 else eps**0.5), eps


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _worst(errors: Sequence[Errors], ran: np.ndarray, tolerance: tuple[float, float]) -> tuple[Errors, Any, float]:
    """The error that is largest, in units of what is tolerated: of the largest entry of what it is in, or the rounding
    of the largest of its kind, where a gradient is zero but for rounding."""
    relative, eps = tolerance

    def excess(error: Errors) -> np.ndarray:
        largest = np.max([other.scale for other in errors if other.what[0] == error.what[0]], axis=0)
        bound = np.maximum(relative * error.scale, 32 * eps * largest)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ran & (error.gap > 0), error.gap / bound, 0.0)

    worst = max(errors, key=lambda error: np.max(excess(error)))
    found = excess(worst)
    at = np.unravel_index(np.argmax(found), found.shape)
    return worst, at, float(found[at])


def _alone(found: Found, at: Any) -> tuple[Callable[..., Any], list[int], list[jax.Array]]:
    """The equation at one step as a function of the operands in which it is differentiated, these, and their values."""
    eqn = found.place.eqn
    values = [jnp.asarray(np.asarray(x)[at]) for x in found.value]
    movers = moving(eqn, values)

    def alone(*given: Any) -> list[Any]:
        full = list(values)
        for i, x in zip(movers, given, strict=True):
            full[i] = x
        return [y for y in jaxprs.bind(eqn, full) if _is_float(y)]

    return alone, movers, [values[i] for i in movers]


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
    """The call, with the verdict of :func:`compare` on the rule alone, whose definition cannot be differentiated."""
    alone, movers, point = _alone(found, at)
    names = operands(found.place.eqn)
    where = inside(found, at)
    try:
        result = compare(alone, dtype=None, seed=seed)(*point)
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
        return _worst(screen(one), np.asarray(one.reached), _tolerance(one))[2] > 1

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
