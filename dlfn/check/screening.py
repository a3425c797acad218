"""One call of a rule, checked by itself at the values that it got: in one small program, at every step of the loops
that it is in."""

import dataclasses
import functools
import hashlib
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
from dlfn.core.primitives import is_float
from dlfn.core.stripping import strip_equation

__all__ = ["Errors", "Screen", "worst_of"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["gap", "scale", "coordinate", "got", "expected"],
    meta_fields=["what"],
)
@dataclasses.dataclass(frozen=True)
class Errors:
    """How far one thing is from what it should be: the largest difference, the largest entry, at which flat coordinate
    they differ, and both numbers there. ``what`` is ``"value"``, ``"gradient"`` or ``"linearity"``, what is special of
    the derivative, and the number of the output or operand."""

    what: tuple[str, str, int]
    gap: Any
    scale: Any
    coordinate: Any
    got: Any
    expected: Any


Check = Callable[[Any, Any], list["Errors"]]


def worst_of(found: Found, errors: Sequence[Errors]) -> tuple[Errors, Any, float]:
    """The error that is largest in units of what is tolerated, at which step, and how many such units it is. Tolerated
    are 1e-10 of the largest entry of what it is in (in narrower dtypes the root of their spacing), and the rounding of
    the largest of its kind, where a gradient is zero but for rounding."""
    ran = np.asarray(found.reached)
    eps = max((float(jnp.finfo(x.dtype).eps) for x in found.value if is_float(x.dtype)), default=1e-16)
    relative = 1e-10 if eps < 1e-15 else eps**0.5

    def excess(error: Errors) -> np.ndarray:
        largest = np.max([other.scale for other in errors if other.what[0] == error.what[0]], axis=0)
        bound = np.maximum(relative * error.scale, 32 * eps * largest)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ran & (error.gap > 0), error.gap / bound, 0.0)

    worst = max(errors, key=lambda error: np.max(excess(error)))
    sizes = excess(worst)
    at = np.unravel_index(np.argmax(sizes), sizes.shape)
    return worst, at, float(sizes[at])


class Screen:
    """Checks calls; those whose programs are the same, as the calls of a layer that is used eight times, are compiled
    once."""

    def __init__(self, seed: int):
        self.seed = seed
        self.programs: dict[Any, Any] = {}

    def __call__(self, found: Found) -> list[Errors]:
        """The errors of a call, each an array over the loops around it."""
        eqn = found.place.eqn
        outs = [var.aval for var in eqn.outvars if is_float(var.aval.dtype)]
        # Arguments, not constants, with which XLA would compute while it compiles.
        drawn = [cotangents(outs, (self.seed, k)) for k in range(2)]
        traced = jax.jit(_over_loops(found, functools.partial(_errors, eqn))).trace(found.value, drawn)
        key = _fingerprint(traced.jaxpr)
        if key not in self.programs:
            self.programs[key] = traced.lower().compile(compiler_options=QUICK)
        return jax.tree.map(np.asarray, self.programs[key](found.value, drawn))


def _fingerprint(jaxpr: Any) -> tuple[str, str]:
    """Equal for programs that do the same: two rules of one factory differ in a constant alone."""
    consts = hashlib.sha256()
    for const in jaxprs.parts(jaxpr)[1]:
        consts.update(np.asarray(const).tobytes())
    return f"{jaxpr.in_avals} {jaxpr}", consts.hexdigest()


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


def _errors(eqn: Any, values: Sequence[Any], drawn: Any) -> list[Errors]:
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
    u, v = (_alike(ys, each) for each in drawn)
    a, b = MIXTURE
    # A loop over the three cotangents, so that the backward pass is compiled once.
    stacked = [jnp.stack([p, q, a * p + b * q]) for p, q in zip(u, v, strict=True)]
    all_three = lax.map(back, stacked)
    by_rule, of_other, mixed = ([g[k] for g in all_three] for k in range(3))
    by_definition = definition_back(u)

    found = [_error(("value", "", i), *pair) for i, pair in enumerate(zip(ys, expected, strict=True))]
    for i, got, want, other, mixture in zip(at, by_rule, by_definition, of_other, mixed, strict=True):
        found.append(_error(("gradient", "", i), got, want))
        found.append(_error(("linearity", "", i), mixture, a * got + b * other))
    for wrt, which, how in _subsets(eqn, at, len(ys)):
        _, back = jax.vjp(outputs(_bind, wrt, which), *[values[i] for i in wrt])
        _, definition_back = jax.vjp(outputs(strip_equation, wrt, which), *[values[i] for i in wrt])
        given = [u[i] for i in which]
        for i, got, want in zip(wrt, back(given), definition_back(given), strict=True):
            found.append(_error(("gradient", how, i), got, want))
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


def _error(what: tuple[str, str, int], got: Any, expected: Any) -> Errors:
    if not expected.size:
        zero = jnp.zeros(())
        return Errors(what, zero, zero, jnp.int32(0), zero, zero)
    got, expected = got.ravel(), expected.ravel()
    same = (got == expected) | (jnp.isnan(got) & jnp.isnan(expected))
    gap = jnp.where(same, 0.0, jnp.abs(got - expected))
    gap = jnp.where(jnp.isnan(gap), jnp.inf, gap)
    at = jnp.argmax(gap)
    scale = jnp.max(jnp.where(jnp.isfinite(expected), jnp.abs(expected), 0.0))
    return Errors(what, gap[at], scale, at, got[at], expected[at])
