"""Comparing hand rules with the definitions at probes: what :func:`dlfn.compare` does where ``probe=True``."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.kinks import is_convention
from dlfn.check.measures import norm, worst_coordinate
from dlfn.check.opinions import Setting, reason
from dlfn.check.probes import Probe, cotangent_kinds, is_a, subsets, vary
from dlfn.check.result import Comparison, Failure
from dlfn.check.shapes import reshaped
from dlfn.core import autodiff, jaxprs

__all__ = ["first_failure", "probed"]

# Two right formulas differ in their last digits, and a probe may magnify these: what is nearer than this is no failure,
# and what is not is still judged by the values of the function.
_TOLERANCE = 1e-8
# Entries of the output that are judged one by one, where a probe is at a kink of many.
_JUDGED = 6

Function = Callable[[list[Any]], Any]


def probed(
    result: Comparison, f: Function, reference: Function, values: Sequence[Any], names: Sequence[str], setting: Setting
) -> Comparison:
    """A comparison in which all agree, after the probes: functions of a list of arrays, and these with their names."""
    if result.dtype != "float64":
        note = "probes: left out, for they need float64"
    else:
        definition: Function = autodiff(reference, custom_jvp=setting.custom_jvp, keep=setting.intended)
        kinks = setting.at_kinks == "any"
        try:
            try:
                jax.eval_shape(f, list(values))
            except jax.errors.ConcretizationTypeError:  # it needs the numbers that its integers are
                f, definition, values, names = _of_floats(f, definition, values, names)
            failure, counted = first_failure(f, definition, values, names, kinks=kinks, seed=setting.seed)
        except Exception as error:
            failure, note = None, f"probes: not available: {reason(error)}"
        else:
            note = str(failure or f"probes: {counted} tried, all agree")
        result = dataclasses.replace(result, failure=failure)
    return dataclasses.replace(result, notes=(*result.notes, note))


def _of_floats(f: Function, definition: Function, values: Sequence[Any], names: Sequence[str]) -> Any:
    """The same of the floating-point arrays alone; the others are constants."""
    at = [i for i, x in enumerate(values) if is_a(x, jnp.floating)]

    def bound(function: Function) -> Function:
        def of_floats(floats: list[Any]) -> Any:
            new = dict(zip(at, floats, strict=True))
            return function([new.get(i, x) for i, x in enumerate(values)])

        return of_floats

    return bound(f), bound(definition), [values[i] for i in at], [names[i] for i in at]


def first_failure(
    f: Function, definition: Function, values: Sequence[Any], names: Sequence[str], *, kinks: bool, seed: int
) -> tuple[Failure | None, int]:
    """The first probe at which the gradients of ``f`` and of its definition differ, and neither rounding nor a kink
    accounts for it; and how many probes counted, those at which the definition's gradient is finite and no value nan.

    Args:
        f, definition: functions of a list of arrays.
        values: the arrays, those of floating point in float64.
        names: of the arrays.
        kinks: whether any convention will do at a kink, or the definition's alone.
        seed: that of the probes.
    """
    check = _Check(f, definition, kinks)
    counted = 0
    for name, probe, cotangents, program in _probes(check, list(values), names, seed):
        failure: Any = check(probe.values, cotangents, program)
        counted += failure is not _DOES_NOT_COUNT
        if isinstance(failure, tuple):
            at: int = failure[0]
            return Failure(name, names[at], failure[1]), counted
    return None, counted


_DOES_NOT_COUNT = "does not count"


def _probes(
    check: "_Check", values: list[Any], names: Sequence[str], seed: int
) -> Iterator[tuple[str, Probe, Any, Any]]:
    """A name, values, cotangents, and the program that differentiates; cheap ones first, as programs are shared."""
    outputs = jax.tree.leaves(jax.eval_shape(check.f, values))
    kinds = dict(cotangent_kinds(outputs, seed))
    (_, ordinary), *_ = kinds.items()
    as_given = Probe("", values, ())
    program = check.program()
    for name, cotangents in kinds.items():
        yield name, as_given, cotangents, program
    for probe in vary(values, seed):
        yield _named(probe, names), probe, ordinary, program
    floats = [i for i, x in enumerate(values) if is_a(x, jnp.floating)]
    if _knows_symbolic_zeros(jax.make_jaxpr(check.f)(values)):
        used = [j for j, c in enumerate(ordinary) if c is not None]
        for name, wrt, outs in subsets(len(floats), len(used)):
            chosen = [c if j in [used[o] for o in outs] else None for j, c in enumerate(ordinary)]
            yield name, as_given, chosen, check.program(tuple(floats[i] for i in wrt))
    for probe in reshaped(lambda *values: check.f(list(values)), values):
        shapes = jax.tree.leaves(jax.eval_shape(check.f, probe.values))
        _, cotangents = next(cotangent_kinds(shapes, seed))
        yield _named(probe, names), probe, cotangents, program


def _named(probe: Probe, names: Sequence[str]) -> str:
    return f"{probe.name} in {', '.join(names[i] for i in probe.changed)}"


def _knows_symbolic_zeros(jaxpr: Any) -> bool:
    """Whether a rule in it may do otherwise where a tangent or cotangent is zero."""
    return any(
        eqn.params.get("symbolic_zeros") or any(map(_knows_symbolic_zeros, jaxprs.subjaxprs(eqn)))
        for eqn in jaxprs.parts(jaxpr)[0].eqns
    )


@dataclasses.dataclass(frozen=True)
class _Check:
    """A hand rule against the definition, at any values."""

    f: Function
    definition: Function
    kinks: bool

    def program(self, wrt: tuple[int, ...] | None = None) -> Callable[..., tuple[list[Any], list[Any], Any]]:
        """The gradients by both, in the arrays ``wrt`` or in all of floating point, and the size of what is
        differentiated. Outputs of cotangent None are not used."""

        @jax.jit
        def both(values: list[Any], cotangents: Any) -> tuple[list[Any], list[Any], Any]:
            hand, _ = _pullback(self.f, values, cotangents, wrt)
            return hand, *_pullback(self.definition, values, cotangents, wrt)

        return both

    @functools.cached_property
    def value(self) -> Callable[[list[Any], Any], Any]:
        """The function times cotangents, where an infinite output that no cotangent uses does not matter."""

        @jax.jit
        def projected(values: list[Any], cotangents: Any) -> Any:
            outs = zip(jax.tree.leaves(self.f(values)), cotangents, strict=True)
            return sum(jnp.sum(jnp.where(c != 0, y * c, 0)) for y, c in outs if c is not None)

        return projected

    def __call__(self, values: list[Any], cotangents: Any, program: Any) -> Any:
        """The index of an array and the worst coordinate of its gradient, where the rule is wrong; None where it is
        right, and ``_DOES_NOT_COUNT``."""
        try:
            hand, defined, size = program(values, cotangents)
        except Exception:  # the definition or the rule does not take such values, and says so
            return _DOES_NOT_COUNT
        if np.isnan(size) or not all(np.isfinite(g).all() for g in defined if g is not None):
            return _DOES_NOT_COUNT
        failure = _difference(values, hand, defined, size)
        entries = [(j, i) for j, c in enumerate(cotangents) if c is not None for i in np.flatnonzero(c)]
        if failure is None or self._explained(values, cotangents, entries, program, [_JUDGED]):
            return None
        return failure

    def _explained(
        self, values: list[Any], cotangents: Any, entries: Any, program: Any, left: list[int]
    ) -> bool | None:
        """Whether a kink or a definition that is wrong itself accounts for the difference that these entries of the
        cotangents make; None if they make none. Kinks whose signs differ hide each other: the entries that make a
        difference are found by bisection, and judged one by one."""
        chosen = [None if c is None else np.zeros_like(c) for c in cotangents]
        for j, i in entries:
            chosen[j].flat[i] = cotangents[j].flat[i]
        hand, defined, size = program(values, chosen)
        if _difference(values, hand, defined, size) is None:
            return None
        if len(entries) == 1:
            left[0] -= 1
            return self._is_convention(values, chosen, hand)
        half = len(entries) // 2
        found = []
        for part in (entries[:half], entries[half:]):
            found.append(self._explained(values, cotangents, part, program, left) if left[0] > 0 else None)
            if found[-1] is False:
                return False
        return any(found) or left[0] <= 0

    def _is_convention(self, values: list[Any], cotangents: Any, hand: list[Any]) -> bool:
        floats = [i for i, g in enumerate(hand) if g is not None]

        def loss(point: list[Any]) -> Any:
            new = dict(zip(floats, point, strict=True))
            return self.value([new.get(i, x) for i, x in enumerate(values)], cotangents)

        gradients = [np.asarray(hand[i]) for i in floats]
        return is_convention(loss, [values[i] for i in floats], gradients, kinks=self.kinks)


def _pullback(f: Function, values: list[Any], cotangents: Any, wrt: tuple[int, ...] | None) -> tuple[list[Any], Any]:
    """For each array its gradient, None if it is not differentiated in; and the sum of the sizes of the outputs times
    cotangents, without those that are infinite."""
    at = [i for i, x in enumerate(values) if is_a(x, jnp.floating) and (wrt is None or i in wrt)]

    def used(*floats: Any) -> list[Any]:
        new = dict(zip(at, floats, strict=True))
        outs = jax.tree.leaves(f([new.get(i, x) for i, x in enumerate(values)]))
        return [y for y, c in zip(outs, cotangents, strict=True) if c is not None]

    outs, back = jax.vjp(used, *(values[i] for i in at))
    chosen = [jnp.asarray(c) for c in cotangents if c is not None]
    terms = [jnp.abs(y * c) for y, c in zip(outs, chosen, strict=True)]
    size = sum(jnp.sum(jnp.where(jnp.isinf(term), 0, term)) for term in terms)
    found = dict(zip(at, back(chosen), strict=True))
    return [found.get(i) for i in range(len(values))], size


def _difference(values: list[Any], hand: list[Any], defined: list[Any], size: Any) -> tuple[int, str] | None:
    """The array whose gradients differ most, by more than rounding, and where. A slope of which the last digits of
    ``size`` are as large is 0 but for rounding. At an infinite entry a gradient need only be finite."""
    largest = max((norm(g) for g in defined if g is not None), default=0.0)
    found: dict[int, float] = {}
    for i, (ours, theirs) in enumerate(zip(hand, defined, strict=True)):
        if ours is None:
            continue
        here = np.isfinite(values[i])
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        gap = np.abs(ours - theirs)
        gap = norm(np.where(np.isfinite(gap), np.where(here, gap, 0), np.inf))
        length = max(1.0, norm(np.where(here, values[i], 0)))
        bound = _TOLERANCE * norm(theirs) + 64 * np.finfo(float).eps * (largest + float(size) / length)
        if gap > bound:
            found[i] = gap / (bound or 1e-300)
    if not found:
        return None
    at = max(found, key=found.__getitem__)
    return at, worst_coordinate(hand[at], defined[at])
