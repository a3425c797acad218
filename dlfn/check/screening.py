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

__all__ = ["Errors", "Screen", "offenders", "tolerance"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["gap", "scale", "floor", "coordinate", "got", "expected"],
    meta_fields=["what"],
)
@dataclasses.dataclass(frozen=True)
class Errors:
    """How far one thing is from what it should be: the largest difference, the largest entry, how large the terms are
    of whose rounding it may consist, at which flat coordinate they differ, and both numbers there. ``what`` is
    ``"value"``, ``"gradient"`` or ``"linearity"``, what is special of the derivative, and the number of the output or
    operand. Entries where what it should be is not finite have Errors of their own."""

    what: tuple[str, str, int]
    gap: Any
    scale: Any
    floor: Any
    coordinate: Any
    got: Any
    expected: Any


Check = Callable[[Any, Any], list["Errors"]]


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


class Screen:
    """Checks calls; those whose programs are the same, as the calls of a layer that is used eight times, are compiled
    once."""

    def __init__(self, seed: int):
        self.seed = seed
        self.programs: dict[Any, Any] = {}

    def __call__(self, found: Found, *, located: bool = True) -> list[Errors]:
        """The errors of a call, each an array over the loops around it. ``located``: with the coordinates, which take
        longer to compile and are of interest where something is wrong."""
        eqn = found.place.eqn
        outs = [var.aval for var in eqn.outvars if is_float(var.aval.dtype)]
        # Arguments, not constants, with which XLA would compute while it compiles.
        drawn = [cotangents(outs, (self.seed, k)) for k in range(2)]
        traced = jax.jit(_over_loops(found, functools.partial(_errors, eqn, located))).trace(found.value, drawn)
        key = (f"{traced.jaxpr.in_avals} {traced.jaxpr}", *_identity(traced.jaxpr))
        if key not in self.programs:
            self.programs[key] = traced.lower().compile(compiler_options=QUICK)
        return jax.tree.map(np.asarray, self.programs[key](found.value, drawn))

    def coarsest(self, found: Found) -> float:
        """The spacing at 1 of the narrowest dtype that a call computes in, also where its operands are wider."""
        outs = [var.aval for var in found.place.eqn.outvars if is_float(var.aval.dtype)]
        drawn = [cotangents(outs, (self.seed, k)) for k in range(2)]
        check = _over_loops(found, functools.partial(_errors, found.place.eqn, False))
        return _coarsest(jax.make_jaxpr(check)(found.value, drawn))


def _identity(jaxpr: Any) -> Iterator[Any]:
    """With its text, what tells a program from others: two rules of one factory may differ in a constant alone, or in
    the op that they call."""
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
            yield from _identity(sub)


def _is_number(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.number) or jnp.issubdtype(x.dtype, jnp.bool_)


def _coarsest(jaxpr: Any) -> float:
    spacings = [0.0]
    for eqn in jaxprs.parts(jaxpr)[0].eqns:
        spacings += [float(jnp.finfo(var.aval.dtype).eps) for var in eqn.outvars if is_float(var.aval.dtype)]
        spacings += map(_coarsest, jaxprs.subjaxprs(eqn))
    return max(spacings)


def _over_loops(found: Found, check: Check) -> Check:
    """``check`` at every step of the loops around a place, and on every device of the ``shard_map``s around it, in
    which the arrays vary over the mesh as they did in the function."""
    specs = list(found.specs)
    wrappers: list[Callable[[Check], Check]] = []
    for eqn, _ in found.place.around:
        if eqn.primitive.name in ("scan", "while"):
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


def _errors(eqn: Any, located: bool, values: Sequence[Any], drawn: Any) -> list[Errors]:
    """All errors of one call: of the value, of the gradients in each operand, of their linearity."""
    at = moving(eqn, values)
    given = [values[i] for i in at]

    def outputs(apply: Callable[..., Any], wrt: Sequence[int], which: Sequence[int] | None = None) -> Any:
        def of(*xs: Any) -> list[Any]:
            full = list(values)
            for i, x in zip(wrt, xs, strict=True):
                full[i] = x
            ys = [y for y in apply(eqn, *full) if is_float(y.dtype)]
            return ys if which is None else [ys[i] for i in which]

        return of

    ys, back = jax.vjp(outputs(_bind, at), *given)
    expected, definition_back = jax.vjp(outputs(strip_equation, at), *given)
    error = functools.partial(_error, located)
    u, v = (_alike(ys, each) for each in drawn)
    a, b = MIXTURE
    # A loop over the three cotangents, so that the backward pass is compiled once.
    stacked = [jnp.stack([p, q, a * p + b * q]) for p, q in zip(u, v, strict=True)]
    all_three = lax.map(back, stacked)
    by_rule, of_other, mixed = ([g[k] for g in all_three] for k in range(3))
    by_definition = definition_back(u)

    found = [
        one
        for i, (got, want) in enumerate(zip(ys, expected, strict=True))
        for one in error(("value", "", i), got, want)
    ]
    # A slope below this would change no more than the last digits of the value.
    terms = [jnp.abs(y * p) for y, p in zip(ys, u, strict=True)]
    total = functools.reduce(jnp.add, [jnp.sum(jnp.where(jnp.isfinite(term), term, 0.0)) for term in terms])
    sizes = [jnp.max(jnp.where(jnp.isfinite(x), jnp.abs(x), 0.0), initial=1.0) for x in given]
    floors = [total / 8 / size for size in sizes]
    for i, floor, got, want, other, mixture in zip(at, floors, by_rule, by_definition, of_other, mixed, strict=True):
        found += error(("gradient", "", i), got, want, floor)
        found += error(("linearity", "", i), mixture, a * got + b * other, floor)
    for wrt, which, how in _subsets(eqn, at, len(ys)):
        _, back = jax.vjp(outputs(_bind, wrt, which), *[values[i] for i in wrt])
        _, definition_back = jax.vjp(outputs(strip_equation, wrt, which), *[values[i] for i in wrt])
        used = [u[i] for i in which]
        for i, got, want in zip(wrt, back(used), definition_back(used), strict=True):
            found += error(("gradient", how, i), got, want, floors[at.index(i)])
    return found


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


def _error(located: bool, what: tuple[str, str, int], got: Any, expected: Any, floor: Any = 0.0) -> list[Errors]:
    """The errors where what is expected is finite, and those where it is not."""
    if not expected.size:
        return []
    got, expected = got.ravel(), expected.ravel()
    finite = jnp.isfinite(expected)
    gap = jnp.where(finite, jnp.abs(got - expected), 0.0)
    gap = jnp.where(jnp.isnan(gap), jnp.inf, gap)
    same = (got == expected) | (jnp.isnan(got) & jnp.isnan(expected))
    other = jnp.where(finite | same, 0.0, jnp.inf)
    scale = jnp.max(jnp.where(finite, jnp.abs(expected), 0.0))
    floor = jnp.asarray(floor, scale.dtype)

    def of(gap: Any) -> Errors:
        if not located:
            return Errors(what, jnp.max(gap), scale, floor, None, None, None)
        at = jnp.argmax(gap)
        return Errors(what, gap[at], scale, floor, at, got[at], expected[at])

    return [of(gap), of(other)]
