"""The verdict on one call of a rule: by the screen, and where that is not enough by finite differences, by slopes at a
kink, and by a comparison."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.calls import Call
from dlfn.check.comparison import comparison
from dlfn.check.describing import around, coordinate, inside, operands
from dlfn.check.differences import agree, finite_differences
from dlfn.check.kinks import is_convention
from dlfn.check.measures import FINITE_DIFFERENCE_TOLERANCE, QUICK, projected
from dlfn.check.opinions import Setting, reason
from dlfn.check.probing import first_failure
from dlfn.check.reproducer import reproducer
from dlfn.check.rules import has_rule, moving, rule_of
from dlfn.check.screening import Errors, Screen, badness, drawn, offenders, tolerance, used
from dlfn.check.types import wrong_types_of
from dlfn.core import InputError, jaxprs
from dlfn.core.entering import Found, Visitor
from dlfn.core.primitives import is_float
from dlfn.core.stripping import strip_equation
from dlfn.core.used import used_outputs

__all__ = ["arriving", "checked", "probed"]

# How many bytes of what arrives at rules in a loop are kept. Of a loop with more, some steps are checked.
_BUDGET = 2.0**28


def arriving(jaxpr: Any, inputs: Sequence[Any], wanted: Callable[[Any], bool]) -> tuple[list[Found], dict[str, None]]:
    """What arrives at every rule that the program meets, and the primitives into which it could not be followed."""
    left: dict[str, None] = {}
    rank = lambda place, values: badness(place.eqn, values)  # noqa: E731
    visitor = Visitor(wanted, lambda place, values: (None, [jnp.asarray(x) for x in values]), _BUDGET, left, rank)
    found = jax.jit(lambda *inputs: visitor.run(jaxpr, inputs)[1], compiler_options=QUICK)(*inputs)
    return [dataclasses.replace(one, used=tuple(used_outputs(jaxpr, one.place))) for one in found], left


def checked(found: Found, screen: Screen, seed: int) -> Call:
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
    if why := _unchecked(place.eqn, found.value):
        return dataclasses.replace(call, checked=False, notes=(why,)), ()
    if wrong := next(wrong_types_of(place.eqn), ""):
        at = _last(ran)
        return dataclasses.replace(call, ok=False, worst=wrong, inside=inside(found, at)), at
    try:
        errors = screen(found)
    except Exception as error:  # as where the definition is a kernel, which has no derivative
        return _without_screen(call, found, error, seed), _last(ran)
    if _eps(found) > 1e-15 and (measured := _by_rounding(call, found, errors, seed)) is not None:
        return measured
    wrong, eps, notes = offenders(found, errors), 0.0, ()
    if wrong and (eps := screen.coarsest(found)) > _eps(found):
        wrong = offenders(found, errors, eps)
        notes = (f"it computes in a narrower dtype than its arguments', and is judged to {tolerance(eps):.1e}",)
    if not wrong:
        largest = max(
            (float(np.max(e.gap / np.where(e.scale > 0, e.scale, 1.0), initial=0.0)) for e in errors), default=0.0
        )
        return dataclasses.replace(call, error=largest if np.isfinite(largest) else None, notes=notes), ()
    acquitted: list[str] = list(notes)
    for _, worst, at in wrong:
        error = float(worst.gap[at] / (worst.scale[at] or 1.0))
        failed = dataclasses.replace(
            call,
            ok=False,
            worst=_described(found, worst, at),
            inside=inside(found, at),
            error=error if np.isfinite(error) else None,
        )
        excuse = _excused(found, at, worst, seed)
        if not excuse:
            return failed, at
        acquitted.append(f"{excuse}: {failed.worst}")
    return dataclasses.replace(call, notes=tuple(acquitted)), ()


# How many spacings of its dtype, of four bytes or of two, a gradient may be off by before what rounding may change is
# measured, which takes a second.
_SPACINGS = {4: 4, 2: 1}


def _by_rounding(call: Call, found: Found, errors: Sequence[Errors], seed: int) -> tuple[Call, Any] | None:
    """The verdict in a narrow dtype, by the bounds of :mod:`dlfn.check.rounding` where rule and definition differ by
    more than a few roundings; None where these cannot be had."""
    on_a_mesh = any(eqn.primitive.name == "shard_map" for eqn, _ in found.place.around)
    if on_a_mesh or any(error.what[1] or error.what[0] == "value" for _, error, _ in offenders(found, errors)):
        return None
    few = _eps(found) * _SPACINGS[4 if _eps(found) < 1e-6 else 2]
    ran = np.asarray(found.reached)
    sizes = [np.where(ran, e.gap / np.where(e.scale > 0, e.scale, 1.0), 0.0) for e in errors if e.what[0] != "value"]
    worst = np.max(sizes, axis=0)
    largest, at = float(np.max(worst)), np.unravel_index(np.argmax(worst), worst.shape)
    if largest <= few:
        return dataclasses.replace(call, error=largest, hidden=largest + few), ()
    try:
        return _compared(call, found, at, seed), at
    except InputError:
        return None


def _unchecked(eqn: Any, values: Sequence[Any]) -> str:
    """Why the rule of an equation cannot be checked by itself."""
    dtypes = [*(x.dtype for x in values), *(var.aval.dtype for var in eqn.outvars)]
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return "its arguments or results are complex"
    if not moving(eqn, values) or not any(is_float(var.aval.dtype) for var in eqn.outvars):
        return "its arguments or results are integers, and it has no gradient"
    return ""


def _eps(found: Found) -> float:
    return max(float(jnp.finfo(x.dtype).eps) for x in found.value if is_float(x.dtype))


def _without_screen(call: Call, found: Found, error: Exception, seed: int) -> Call:
    """The verdict on a call that cannot be screened: its rule raises, or closes over a value of the function that it is
    called in, or its definition has no derivative, and differences decide."""
    at = _last(np.asarray(found.reached))
    alone, _, point = _alone(found, at)

    def differentiated() -> Any:
        ys, back = jax.vjp(lambda *xs: alone(*xs), *point)
        return back([jnp.ones_like(y) for y in ys])

    if found.place.eqn.params.get("num_consts", 0) and isinstance(error, TypeError):
        note = "it closes over a value of the function that it is called in; make that an argument"
        return dataclasses.replace(call, checked=False, notes=(note,))
    try:
        jax.eval_shape(differentiated)
    except Exception as own:
        return dataclasses.replace(call, ok=False, worst=f"the rule raises {reason(own)}", inside=inside(found, at))
    note = f"its definition cannot be differentiated: {reason(error)}"
    try:
        return _compared(dataclasses.replace(call, notes=(note,)), found, at, seed)
    except InputError as nothing:
        return dataclasses.replace(call, ok=False, worst=str(nothing), inside=inside(found, at), notes=(note,))


def _described(found: Found, worst: Errors, at: Any) -> str:
    kind, how, i = worst.what
    of = f"value, output {i}," if kind == "value" else f"{kind} in {operands(found.place.eqn)[i]}{how and f' {how}'}"
    return f"{of} {coordinate(found, worst, at)}: {worst.got[at]:.6g} instead of {worst.expected[at]:.6g}"


def _last(ran: np.ndarray) -> tuple[int, ...]:
    """The last step in which a call ran."""
    return tuple(int(i) for i in np.argwhere(ran)[-1])


def _at(x: jax.Array, at: Any) -> jax.Array:
    """What arrived at one step, on one device: random keys are no numbers for NumPy."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x[tuple(map(int, at))]
    return jnp.asarray(np.asarray(x)[at])


def _alone(found: Found, at: Any) -> tuple[Callable[..., Any], list[int], list[jax.Array]]:
    """The equation at one step as a function of the operands in which it is differentiated, of which it returns what is
    used; these operands, and their values."""
    eqn = found.place.eqn
    values = [_at(x, at) for x in found.value]
    movers = moving(eqn, values)

    def alone(*given: Any) -> list[Any]:
        full = list(values)
        for i, x in zip(movers, given, strict=True):
            full[i] = x
        return _used(found, jaxprs.bind(eqn, full))

    return alone, movers, [values[i] for i in movers]


def _used(found: Found, outs: Sequence[Any]) -> list[Any]:
    return [y for y, use in zip((y for y in outs if is_float(y.dtype)), used(found), strict=True) if use]


def probed(call: Call, found: Found, seed: int) -> Call:
    """The call, if it is right so far, after probes at its last step."""
    on_a_mesh = any(eqn.primitive.name == "shard_map" for eqn, _ in found.place.around)
    if not (call.ok and call.reached) or on_a_mesh or call.error is None:
        return call
    eqn, at = found.place.eqn, _last(np.asarray(found.reached))
    values = [_at(x, at) for x in found.value]
    by_rule, by_definition = (
        lambda values, apply=apply: _used(found, apply(eqn, values))
        for apply in (jaxprs.bind, lambda eqn, values: strip_equation(eqn, *values))
    )
    try:
        failure, _ = first_failure(by_rule, by_definition, values, operands(eqn), kinks=True, seed=seed)
    except Exception as error:
        return dataclasses.replace(call, notes=(*call.notes, f"probes: not available: {reason(error)}"))
    if failure is None:
        return call
    return dataclasses.replace(call, ok=False, error=None, worst=str(failure), inside=inside(found, at))


def _excused(found: Found, at: Any, worst: Errors, seed: int) -> str:
    """Why a rule is right although it differs from its definition's derivative, if it is: finite differences at the
    worst coordinate are with it, as for sin(x) / x at 0; it is one of the numbers that can be called the gradient at a
    kink; or the definition itself is not finite, which a stable rule avoids."""
    kind, how, i = worst.what
    got, expected, scale = (float(np.asarray(x)[at]) for x in (worst.got, worst.expected, worst.scale))
    if kind == "value":
        return "the definition is not finite" if np.isfinite(got) and not np.isfinite(expected) else ""
    alone, movers, point = _alone(found, at)
    on_a_mesh = any(eqn.primitive.name == "shard_map" for eqn, _ in found.place.around)
    if kind != "gradient" or how or on_a_mesh or point[0].dtype != jnp.float64:
        return ""
    bars = [c for c, use in zip(drawn(found, seed), used(found), strict=True) if use]
    loss = projected(alone, bars)
    leaf, place = movers.index(i), int(worst.coordinate[at])
    chosen = [[place] if k == leaf else [] for k in range(len(point))]
    try:
        (slope,), (rounding,) = finite_differences(lambda point: loss(*point), point, chosen)[leaf]
        bound = FINITE_DIFFERENCE_TOLERANCE * max(abs(slope), scale) + rounding
        if abs(slope - got) <= bound and not abs(slope - expected) <= bound:
            # At the coordinates where the two differ less, too.
            right = agree(lambda point: loss(*point), point, jax.vjp(alone, *point)[1](bars), seed)
            return "finite differences agree with the rule, and not with the definition's own derivative" * right
        if np.isfinite(got) and not np.isfinite(slope) and not np.isfinite(expected):
            return "the definition is not finite"
        if np.isfinite(got) and _at_a_kink(loss, point, leaf, place, got):
            # Of one sign, so that what many kinks allow adds up and does not cancel.
            bars = [abs(c) for c in bars]
            one_sided, gradients = projected(alone, bars), jax.vjp(alone, *point)[1](bars)
            if not is_convention(lambda point: one_sided(*point), point, gradients):
                return ""
            return "one of the numbers that can be called the gradient at a kink"
    except Exception:  # it may have no finite differences where it is called by itself
        return ""
    return ""


def _at_a_kink(loss: Callable[..., Any], point: Sequence[jax.Array], leaf: int, place: int, got: float) -> bool:
    """Whether the slopes on the two sides of a coordinate differ, and a number lies between them."""
    h = 1e-6 * max(1.0, abs(float(point[leaf].ravel()[place])))

    def moved(step: float) -> float:
        x = point[leaf].ravel().at[place].add(step).reshape(point[leaf].shape)
        return float(loss(*point[:leaf], x, *point[leaf + 1 :]))

    here = moved(0.0)
    low, high = sorted(((moved(h) - here) / h, (here - moved(-h)) / h))
    margin = 1e-3 * max(abs(low), abs(high))
    return high - low > margin and low - margin <= got <= high + margin


def _compared(call: Call, found: Found, at: Any, seed: int) -> Call:
    """The call, with the verdict of a comparison on the rule alone, whose definition cannot be differentiated."""
    alone, movers, point = _alone(found, at)
    names = operands(found.place.eqn)
    where = inside(found, at)
    result = comparison(alone, point, {}, Setting(dtype=None, seed=seed))
    errors = [error for row in result.rows for error in (row.hand, row.finite_difference) if error is not None]
    named = [dataclasses.replace(row, path=names[i]) for row, i in zip(result.rows, movers, strict=True)]
    if result.ok:
        hidden = max((row.hidden for row in result.rows if row.hidden is not None), default=None)
        return dataclasses.replace(call, error=max(errors, default=0.0), hidden=hidden)
    bad = [row for row in named if not row.ok]
    if not bad:
        return dataclasses.replace(call, ok=False, error=result.value_error, worst="value", inside=where)
    row = max(bad, key=lambda row: np.inf if row.hand is None else row.hand)
    worst = call.worst or f"gradient in {row.path}, {row.worst}"
    return dataclasses.replace(call, ok=False, error=row.hand, worst=worst, inside=where)


def _reproducer(call: Call, found: Found, at: Any, screen: Screen) -> str:
    """A program that shows the failure of a call, which the screen sees too."""

    def fails(function: Callable[..., Any], args: Any, settings: Any) -> bool:
        jaxpr, inputs, _, _ = jaxprs.trace(functools.partial(function, **settings), args, {})
        (one, *_), _ = arriving(jaxpr, [jnp.asarray(x) for x in inputs], has_rule)
        return bool(offenders(one, screen(one)))

    return reproducer(call.rule, found.place.eqn, [_at(x, at) for x in found.value], fails)
