"""One call of a rule, checked by itself at the values that it got: in one small program, at every step of the loops
that it is in."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from dlfn.check.measures import MIXTURE, QUICK, cotangents
from dlfn.check.rules import moving
from dlfn.core import jaxprs
from dlfn.core.entering import Found
from dlfn.core.primitives import Call, Linear, is_float
from dlfn.core.stripping import strip_equation

__all__ = ["Errors", "Screen", "badness", "drawn", "identity", "offenders", "tolerance", "used"]


@dataclasses.dataclass(frozen=True)
class Errors:
    """How far one thing is from what it should be, at every step of the loops around it: the largest difference, the
    largest entry, how large the terms are of whose rounding it may consist, at which flat coordinate they differ, and
    both numbers there. ``what`` is ``"value"``, ``"gradient"`` or ``"linearity"``, what is special of the derivative,
    and the number of the output or operand. Entries where what it should be is not finite have Errors of their own."""

    what: tuple[str, str, int]
    gap: Any
    scale: Any
    floor: Any
    coordinate: Any
    got: Any
    expected: Any


Check = Callable[[Any, Any], dict[str, Any]]


def offenders(found: Found, errors: Sequence[Errors], eps: float = 0.0) -> list[tuple[float, Errors, Any]]:
    """The errors that are too large, the largest first: in how many units of what is tolerated, and at which step.

    Tolerated are 1e-10 of the largest entry of what it is in (in narrower dtypes the root of their spacing, of which
    ``eps`` is the largest that is met within), and the rounding of the largest of its kind and of the value, where a
    gradient is zero but for rounding."""
    ran = np.asarray(found.reached)
    eps = max(eps, *(float(jnp.finfo(x.dtype).eps) for x in found.value if is_float(x.dtype)))
    relative = tolerance(eps)

    def excess(error: Errors) -> np.ndarray:
        largest = np.max([other.scale for other in errors if other.what[0] == error.what[0]], axis=0)
        bound = np.maximum(relative * error.scale, 32 * eps * np.maximum(largest, error.floor))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ran & (error.gap > 0), error.gap / bound, 0.0)

    every = [
        (sizes, error, np.unravel_index(np.argmax(sizes), sizes.shape))
        for sizes, error in zip(map(excess, errors), errors)
    ]
    wrong = [(float(sizes[at]), error, at) for sizes, error, at in every if sizes[at] > 1]
    return sorted(wrong, key=lambda one: -one[0])


def tolerance(eps: float) -> float:
    """Relative to the largest entry, by the spacing of a dtype at 1."""
    return 1e-10 if eps < 1e-15 else eps**0.5


# Of how many bytes of operands the loops around a call are gone through at once; else step by step.
_AT_ONCE = 2**26


class Screen:
    """Checks calls; those whose programs are the same, as the calls of a layer that is used eight times, are compiled
    once. A program computes what is to be compared, and NumPy compares it, which takes as long to compile again."""

    def __init__(self, seed: int):
        self.seed = seed
        self.programs: dict[Any, Any] = {}

    def __call__(self, found: Found) -> list[Errors]:
        """The errors of a call, each an array over the loops around it."""
        steps = [found.value]
        if sum(x.nbytes for x in found.value) > _AT_ONCE and next(_around(found), "") in _LOOPS:
            steps = [[x[i : i + 1] for x in found.value] for i in range(len(found.reached))]
        each = [self._of(found, values) for values in steps]
        return [_joined(errors) for errors in zip(*each, strict=True)]

    def _of(self, found: Found, values: Sequence[Any]) -> list[Errors]:
        eqn, drawn = found.place.eqn, self._drawn(found)
        traced = jax.jit(_over_loops(found, functools.partial(_both, eqn))).trace(values, drawn)
        key = identity(traced.jaxpr)
        if key not in self.programs:
            self.programs[key] = traced.lower().compile(compiler_options=QUICK)
        both = self.programs[key](values, drawn)
        with np.errstate(all="ignore"):
            return _errors(found, values, drawn[0], both)

    def _drawn(self, found: Found) -> list[Any]:
        """Cotangents, as arguments of programs: with constants XLA would compute while it compiles."""
        return [drawn(found, self.seed, k) for k in range(2)]

    def coarsest(self, found: Found) -> float:
        """The spacing at 1 of the narrowest dtype that a call computes in, also where its operands are wider."""
        check = _over_loops(found, functools.partial(_both, found.place.eqn))
        return _coarsest(jax.make_jaxpr(check)(found.value, self._drawn(found)))


def used(found: Found) -> list[bool]:
    """Of the floating-point outputs of a call those that the function uses, or all where it uses none: a rule need not
    be right in what nobody asks for, such as how many steps a solver took."""
    outs = found.place.eqn.outvars
    every = [use for use, var in zip(found.used or [True] * len(outs), outs, strict=True) if is_float(var.aval.dtype)]
    return every if any(every) else [True] * len(every)


def drawn(found: Found, seed: int, k: int = 0) -> list[Any]:
    """Cotangents of the floating-point outputs of a call, which are 0 for those that are not used."""
    outs = [var.aval for var in found.place.eqn.outvars if is_float(var.aval.dtype)]
    every: list[Any] = cotangents(outs, (seed, k))
    return [c if use else 0 * c for c, use in zip(every, used(found), strict=True)]


def identity(jaxpr: Any) -> tuple[Any, ...]:
    """What tells a closed jaxpr from others."""
    return (f"{jaxpr.in_avals} {jaxpr}", *_beside_its_text(jaxpr))


def _beside_its_text(jaxpr: Any) -> Iterator[Any]:
    """Two rules of one factory may differ in a constant alone, or in the op that they call."""
    for const in jaxprs.parts(jaxpr)[1]:
        yield (
            np.asarray(const).tobytes()
            if isinstance(const, np.ndarray | jax.Array) and _is_number(const)
            else id(const)
        )
    for eqn in jaxprs.parts(jaxpr)[0].eqns:
        calls = (eqn.params.get(name) for name in ("call", "linear"))
        yield from (hash(call) for call in calls if isinstance(call, Call | Linear))
        for sub in jaxprs.subjaxprs(eqn):
            yield from _beside_its_text(sub)


def _is_number(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.number) or jnp.issubdtype(x.dtype, jnp.bool_)


def _coarsest(jaxpr: Any) -> float:
    spacings = [0.0]
    for eqn in jaxprs.parts(jaxpr)[0].eqns:
        spacings += [float(jnp.finfo(var.aval.dtype).eps) for var in eqn.outvars if is_float(var.aval.dtype)]
        spacings += map(_coarsest, jaxprs.subjaxprs(eqn))
    return max(spacings)


_LOOPS = ("scan", "while")


def _around(found: Found) -> Iterator[str]:
    """What around a place gives what is found there an axis, from outside to inside."""
    names = (eqn.primitive.name for eqn, _ in found.place.around)
    return (name for name in names if name in (*_LOOPS, "shard_map"))


def _over_loops(found: Found, check: Check) -> Check:
    """``check`` at every step of the loops around a place, and on every device of the ``shard_map``s around it, in
    which the arrays vary over the mesh as they did in the function."""
    specs = list(found.specs)
    wrappers: list[Callable[[Check], Check]] = []
    for eqn, _ in found.place.around:
        if eqn.primitive.name in _LOOPS:
            wrappers.append(_over_steps)
        elif eqn.primitive.name == "shard_map":
            wrappers.append(functools.partial(_over_devices, eqn, specs.pop(0)))
    for wrap in reversed(wrappers):
        check = wrap(check)
    return check


def _over_steps(check: Check) -> Check:
    return lambda values, drawn: lax.map(lambda step: check(step, drawn), values)


def _over_devices(eqn: Any, specs: Any, check: Check) -> Check:
    axes = tuple(eqn.params["newly_manual_axes"])

    def body(values: Any, drawn: Any) -> Any:
        return jax.tree.map(lambda x: jaxprs.varying_over(axes, x)[None], check([x[0] for x in values], drawn))

    return jax.shard_map(
        body,
        mesh=eqn.params["mesh"],
        in_specs=(list(specs), PartitionSpec()),
        out_specs=PartitionSpec(axes),
        axis_names=eqn.params["newly_manual_axes"],
        check_vma=eqn.params["check_vma"],
    )


def _both(eqn: Any, values: Sequence[Any], drawn: Any) -> dict[str, Any]:
    """Values and gradients of one call, by its rule and by its definition: the rule's for three cotangents, of which
    one is a mixture of the others."""
    at = moving(eqn, values)

    def pulled(apply: Callable[..., Any], wrt: Sequence[int], which: Sequence[int] | None = None) -> Any:
        def outputs(*xs: Any) -> list[Any]:
            full = list(values)
            for i, x in zip(wrt, xs, strict=True):
                full[i] = x
            ys = [y for y in apply(eqn, *full) if is_float(y.dtype)]
            return ys if which is None else [ys[i] for i in which]

        return jax.vjp(outputs, *[values[i] for i in wrt])

    (ys, back), (expected, definition_back) = pulled(_bind, at), pulled(strip_equation, at)
    u, v = (_alike(ys, each) for each in drawn)
    a, b = MIXTURE
    # A loop over the three cotangents, so that the backward pass is compiled once.
    three = lax.map(back, [jnp.stack([p, q, a * p + b * q]) for p, q in zip(u, v, strict=True)])
    parts = [
        [pulled(apply, wrt, which)[1]([u[i] for i in which]) for apply in (_bind, strip_equation)]
        for wrt, which, _ in _subsets(eqn, at, len(ys))
    ]
    return {"values": [ys, expected], "gradients": [three, definition_back(u)], "parts": parts}


def badness(eqn: Any, values: Sequence[Any]) -> Any:
    """How far gradients by a rule and by its definition differ, relative to the larger, in a program that has the call
    within: 0 where that cannot be told."""

    def gap(got: Any, want: Any) -> Any:
        size = jnp.maximum(jnp.max(jnp.abs(got), initial=0), jnp.max(jnp.abs(want), initial=0))
        off = jnp.max(jnp.abs(got - want), initial=0) / jnp.where(size > 0, size, 1)
        return jnp.where(jnp.isnan(off), jnp.inf, off).astype(jnp.float32)

    try:
        outs = [var.aval for var in eqn.outvars if is_float(var.aval.dtype)]
        both = _both(eqn, [jnp.asarray(x) for x in values], [cotangents(outs, k) for k in range(2)])
    except Exception:  # what the rule or its definition raises is said where the call is checked by itself
        return jnp.float32(0)
    pairs = [*zip(*both["values"]), *((three[0], want) for three, want in zip(*both["gradients"]))]
    return functools.reduce(jnp.maximum, (gap(*pair) for pair in pairs), jnp.float32(0))


def _errors(found: Found, values: Sequence[Any], u: Sequence[Any], both: dict[str, Any]) -> list[Errors]:
    """All errors of one call: of the value, of the gradients in each operand, of their linearity."""
    eqn, loops, (a, b) = found.place.eqn, np.ndim(found.reached), MIXTURE
    at, errors, floors, total = moving(eqn, values), [], {}, 0.0

    def rows(x: Any) -> np.ndarray:
        x = np.asarray(x).astype(np.float64, copy=False)
        return x.reshape(*x.shape[:loops], -1)

    for i, (got, want, p, use) in enumerate(zip(*both["values"], u, used(found), strict=True)):
        errors += _error(("value", "", i), rows(got), rows(want)) if use else []
        total = total + np.sum(np.abs(_finite(rows(got) * np.ravel(p))), -1)
    for i, three, want in zip(at, *both["gradients"], strict=True):
        # A slope below this would change no more than the last digits of the value.
        floors[i] = total / 8 / np.max(np.abs(_finite(rows(values[i]))), -1, initial=1.0)
        got, other, mixed = map(rows, np.moveaxis(np.asarray(three), loops, 0))
        errors += _error(("gradient", "", i), got, rows(want), floors[i])
        errors += _error(("linearity", "", i), mixed, a * got + b * other, floors[i])
    for (wrt, _, how), pair in zip(_subsets(eqn, at, len(u)), both["parts"], strict=True):
        for i, got, want in zip(wrt, *pair, strict=True):
            errors += _error(("gradient", how, i), rows(got), rows(want), floors[i])
    return errors


def _finite(x: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(x), x, 0.0)


def _bind(eqn: Any, *values: Any) -> list[Any]:
    return jaxprs.bind(eqn, values)


def _subsets(eqn: Any, at: Sequence[int], n_outputs: int) -> Iterator[tuple[list[int], list[int], str]]:
    """Operands to differentiate in and outputs to use, for rules that are told which of them matter."""
    if not jaxprs.sees_zeros(eqn):
        return
    outputs = list(range(n_outputs))
    if len(at) > 1:
        yield from (([i], outputs, "where no other argument is perturbed") for i in at)
    if n_outputs > 1:
        yield from ((list(at), [k], f"where output {k} alone is used") for k in outputs)


def _alike(ys: Sequence[Any], drawn: Sequence[Any]) -> list[Any]:
    """Cotangents that vary over the mesh as the outputs do."""
    return [jaxprs.varying_over(jaxprs.varying_axes(y), c) for y, c in zip(ys, drawn, strict=True)]


def _error(what: tuple[str, str, int], got: np.ndarray, expected: np.ndarray, floor: Any = 0.0) -> list[Errors]:
    """The errors of the last axis where what is expected is finite, and those where it is not."""
    if not expected.size:
        return []
    finite = np.isfinite(expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    gap = np.where(finite, np.abs(got - expected), 0.0)
    gap = np.where(np.isnan(gap), np.inf, gap)
    other = np.where(finite | same, 0.0, np.inf)
    scale = np.max(np.abs(_finite(expected)), -1)

    def of(gap: np.ndarray) -> Errors:
        at = np.argmax(gap, -1)
        there = (np.take_along_axis(x, at[..., None], -1)[..., 0] for x in (gap, got, expected))
        largest, *numbers = there
        return Errors(what, largest, scale, np.broadcast_to(floor, scale.shape), at, *numbers)

    return [of(gap), of(other)]


def _joined(steps: Sequence[Errors]) -> Errors:
    """The same errors at further steps of the outermost loop."""
    first, *more = steps
    fields = ("gap", "scale", "floor", "coordinate", "got", "expected")
    each = {name: [getattr(one, name) for one in steps] for name in fields}
    return dataclasses.replace(first, **{name: np.concatenate(x) for name, x in each.items()}) if more else first
