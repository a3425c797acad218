"""Running a program again with something else done at some of its equations: inside ``jit``, loops, branches,
``checkpoint`` and ``shard_map`` too, each of which is built anew around what is done in it.

:func:`dlfn.autodiff` puts definitions in the place of rules this way; an audit keeps what arrives at every rule.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from dlfn.core import _jax, jaxprs
from dlfn.core.errors import InputError

__all__ = [
    "BUILT_ANEW", "CALLS", "ENTERED", "PLAIN", "Found", "Place", "Visitor", "enter", "kept_steps", "occurs",
]  # fmt: skip

_Around = tuple[tuple[Any, int], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """An equation and those around it, from outside to inside: a scan, the jit in it, … The same equation is found at
    several places where JAX has traced a function once that is called from several.

    Attributes:
        eqn: the equation.
        around: pairs of an equation and which of its bodies this is in: a number of a branch, 0 for a condition of a
            ``while_loop`` and 1 for its body, and 0 where there is one body alone.
    """

    eqn: Any
    around: _Around = ()

    def _key(self) -> tuple[Any, ...]:
        return id(self.eqn), *((id(eqn), body) for eqn, body in self.around)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @property
    def line(self) -> str:
        """The user's line: that of the innermost equation that has one."""
        outwards = (self.eqn, *(eqn for eqn, _ in reversed(self.around)))
        return next(filter(None, map(jaxprs.source_line, outwards)), "")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "reached", "rank", "steps"],
    meta_fields=["place", "specs", "used"],
)
@dataclasses.dataclass(frozen=True)
class Found:
    """What a visitor found at a place: ``value``, a tree of arrays, and whether the equation ran, for it may be in a
    branch that was not taken. Both have an axis in front for each loop and each ``shard_map`` around the place, from
    outside to inside: the steps of a scan (all, or those of :func:`kept_steps`); the first and the last of a
    ``while_loop``; where the visitor ranks, and not all steps are kept, that of the highest rank before the last; the
    devices over which each array varies: ``specs`` has for each ``shard_map`` those of the leaves of ``value``.
    ``used`` is what :func:`dlfn.core.used.used_outputs` says, where it was asked. ``steps`` has for each loop the
    numbers of the steps that are kept, but for scans that are entered without a budget."""

    place: Place
    value: Any
    reached: Any
    specs: tuple[tuple[PartitionSpec, ...], ...] = ()
    used: tuple[bool, ...] = ()
    rank: Any = 0.0
    steps: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Visitor:
    """What is done where.

    Attributes:
        wanted: whether an equation is visited.
        visit: ``visit(place, values) -> (outputs, found)``. Outputs of None leave the equation as it is, except that
            the calls and loops are built anew in which there are equations to visit; what is found is a tree of arrays,
            or None.
        budget: how many bytes of what is found in a scan are kept at most; see :func:`kept_steps`.
        left: takes the names of primitives with equations to visit in them that cannot be built anew, which then stay
            as they are. Without it they are an error.
        rank: ``rank(place, values)``, a number by which a step is chosen of loops of which not all are kept.
        ranked: whether this is in such a loop.
    """

    wanted: Callable[[Any], bool]
    visit: Callable[[Place, list[Any]], tuple[Sequence[Any] | None, Any]]
    budget: float = math.inf
    left: dict[str, None] | None = None
    rank: Callable[[Place, list[Any]], Any] | None = None
    ranked: bool = False

    def run(self, jaxpr: Any, values: Sequence[Any], around: _Around = ()) -> tuple[list[Any], list[Found]]:
        """Evaluates a jaxpr: its outputs, and what was found, in the order of the equations."""
        found: list[Found] = []

        def at(eqn: Any, values: list[Any]) -> Sequence[Any]:
            outs = None
            if self.wanted(eqn):
                place = Place(eqn, around)
                outs, seen = self.visit(place, values)
                if seen is not None:
                    rank = self.rank(place, values) if self.rank and self.ranked else jnp.float32(0)
                    found.append(Found(place, seen, jnp.bool_(True), rank=rank))
            if outs is not None:
                return outs
            if not any(occurs(self.wanted, sub) for sub in jaxprs.subjaxprs(eqn)):
                return jaxprs.bind(eqn, values)
            if self.left is not None and eqn.primitive.name not in ENTERED:
                self.left[eqn.primitive.name] = None
                return jaxprs.bind(eqn, values)
            outs, more = enter(self, eqn, values, around)
            found.extend(more)
            return outs

        return jaxprs.run(jaxpr, values, at), found


def occurs(wanted: Callable[[Any], bool], jaxpr: Any) -> bool:
    """Whether an equation is wanted anywhere in a jaxpr."""
    return any(
        wanted(eqn) or any(occurs(wanted, sub) for sub in jaxprs.subjaxprs(eqn)) for eqn in jaxprs.parts(jaxpr)[0].eqns
    )


def kept_steps(length: int, bytes_per_step: int, budget: float) -> np.ndarray:
    """The steps of a scan of which what is found is kept: all within the budget, otherwise as many as are, evenly
    spaced from the first to the last."""
    if length * bytes_per_step <= budget:
        return np.arange(length)
    n = min(length, max(2, int(budget / bytes_per_step)))
    return np.linspace(0, length - 1, n).round().astype(int)


# In the place of one of these functions its body is run.
_CUSTOM = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vmap_call": "call"}
PLAIN = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "jaxpr",
    "core_call": "jaxpr",
    "eval_jaxpr": "call_jaxpr",
}
CALLS = {**_CUSTOM, **PLAIN}


def enter(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> tuple[Sequence[Any], list[Found]]:
    """Runs an equation with bodies, which are visited."""
    name = eqn.primitive.name
    if name in CALLS:
        return visitor.run(eqn.params[CALLS[name]], values, (*around, (eqn, 0)))
    if name not in _ENTER:
        raise InputError(f"cannot enter {name!r} ({jaxprs.source_line(eqn)})")
    return _ENTER[name](visitor, eqn, values, around)


def _checkpoint(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    params = eqn.params
    body = jax.checkpoint(
        lambda *values: visitor.run(params["jaxpr"], values, (*around, (eqn, 0))),
        prevent_cse=params["prevent_cse"],
        policy=params["policy"],
    )
    return body(*values)


def _scan(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    params = eqn.params
    n_consts, n_carry = jaxprs.scan_counts(eqn)
    consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]

    def step(carry: Any, x: Any) -> Any:
        outs, found = visitor.run(params["jaxpr"], [*consts, *carry, *x], (*around, (eqn, 0)))
        return outs[:n_carry], (outs[n_carry:], found)

    length, loop = params["length"], {key: params[key] for key in ("length", "reverse", "unroll")}
    if math.isinf(visitor.budget):
        carry, (ys, found) = lax.scan(step, carry, xs, **loop)
        return [*carry, *ys], found
    types = _types(lambda carry, xs: step(carry, [x[0] for x in xs])[1][1], carry, xs) if length else []
    arrays = jax.tree.leaves([(one.value, one.reached) for one in types])
    at = kept_steps(length, sum(t.size * t.dtype.itemsize for t in arrays), visitor.budget)
    if len(at) == length:
        carry, (ys, found) = lax.scan(step, carry, xs, **loop)
        return [*carry, *ys], [_numbered(one, jnp.arange(length)) for one in found]
    visitor = dataclasses.replace(visitor, ranked=True)
    slots = jnp.searchsorted(at, jnp.arange(length)), jnp.isin(jnp.arange(length), at)

    def step_into(state: Any, inputs: Any) -> Any:
        (carry, kept, worst), (x, t, slot, keep) = state, inputs
        carry, (ys, found) = step(carry, x)
        kept = jax.tree.map(lambda old, new: old.at[slot].set(jnp.where(keep, new, old[slot])), kept, found)
        return (carry, kept, _worse(worst, found, t)), ys

    kept = jax.tree.map(lambda t: jnp.broadcast_to(_jax.zeros(t)[None], (len(at), *t.shape)), types)
    start = carry, kept, _none_yet(types)
    (carry, found, worst), ys = lax.scan(step_into, start, (xs, jnp.arange(length), *slots), **loop)
    return [*carry, *ys], _with_worst(visitor, found, worst, jnp.asarray(at, jnp.int32))


# A step and what was found in it, for each place; the step is -1 before there is any.
_Worst = list[tuple[Any, Found]]


def _none_yet(types: Any) -> _Worst:
    return [(jnp.int32(-1), jax.tree.map(_jax.zeros, one)) for one in types]


def _worse(worst: _Worst, found: Sequence[Found], t: Any) -> _Worst:
    """What is of the highest rank so far."""

    def of_place(step: Any, old: Found, new: Found) -> tuple[Any, Found]:
        replaced = (step < 0) | (jnp.max(new.rank, initial=-1.0) > jnp.max(old.rank, initial=-1.0))
        chosen = jax.tree.map(lambda a, b: jnp.where(replaced, b, a), old, new)
        return jnp.where(replaced, jnp.int32(t), step), chosen

    return [of_place(step, old, new) for (step, old), new in zip(worst, found, strict=True)]


def _with_worst(visitor: Visitor, kept: Sequence[Found], worst: _Worst, steps: Any) -> list[Found]:
    """What was kept of some steps of a loop, in front of the last that of the highest rank, if the visitor ranks."""
    if visitor.rank is None:
        return [_numbered(one, steps) for one in kept]

    def inserted(many: Any, one: Any) -> Any:
        return jnp.concatenate([many[:-1], one[None], many[-1:]])

    return [
        _numbered(jax.tree.map(inserted, one, found), inserted(steps, step))
        for one, (step, found) in zip(kept, worst, strict=True)
    ]


def _numbered(found: Found, steps: Any) -> Found:
    return dataclasses.replace(found, steps=(steps, *found.steps))


def _cond(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    index, *operands = values
    branches = eqn.params["branches"]

    # What is found in the branches that are not taken is zeros, and marked as not reached.
    def visited(i: int, *operands: Any) -> Any:
        return visitor.run(branches[i], operands, (*around, (eqn, i)))

    types = [_types(lambda *ops, i=i: visited(i, *ops)[1], *operands) for i in range(len(branches))]

    def run(i: int, *operands: Any) -> Any:
        outs, mine = visited(i, *operands)
        found = [mine if j == i else jax.tree.map(_jax.zeros, other) for j, other in enumerate(types)]
        return outs, found

    outs, found = lax.switch(index, [functools.partial(run, i) for i in range(len(branches))], *operands)
    # The index may vary over a mesh where what is found does not.
    return outs, [
        dataclasses.replace(entry, reached=entry.reached & (index == i)) for i, one in enumerate(found) for entry in one
    ]


def _while(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    params = eqn.params
    visitor = dataclasses.replace(visitor, ranked=True)
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, carry = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]

    def go_on(carry: Any) -> Any:
        return visitor.run(params["cond_jaxpr"], [*cond_consts, *carry], (*around, (eqn, 0)))[0][0]

    def body(carry: Any) -> Any:
        return visitor.run(params["body_jaxpr"], [*body_consts, *carry], (*around, (eqn, 1)))

    types = _types(lambda *carry: body(carry)[1], *carry)
    if not types:
        return lax.while_loop(go_on, lambda carry: body(carry)[0], list(carry)), []

    def step(state: Any) -> Any:
        carry, first, _, worst, t = state
        carry, last = body(carry)
        first = jax.tree.map(lambda old, new: jnp.where(t > 0, old, new), first, last)
        return carry, first, last, _worse(worst, last, t), t + 1

    nothing = jax.tree.map(_jax.zeros, types)
    start = (list(carry), nothing, nothing, _none_yet(types), jnp.int32(0))
    carry, first, last, worst, t = lax.while_loop(lambda state: go_on(state[0]), step, start)
    ends = jax.tree.map(lambda *ends: jnp.stack(ends), first, last)
    return carry, _with_worst(visitor, ends, worst, jnp.stack([jnp.int32(0), jnp.maximum(t - 1, 0)]))


def _shard_map(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    params = eqn.params
    axes = tuple(params["newly_manual_axes"])
    specs: list[Any] = []

    def spec(x: Any) -> PartitionSpec:
        over = tuple(axis for axis in axes if axis in _jax.varying_axes(x)) if params["check_vma"] else axes
        return PartitionSpec(over) if over else PartitionSpec(None)

    def body(*values: Any) -> Any:
        outs, found = visitor.run(params["jaxpr"], values, (*around, (eqn, 0)))
        over = [tuple(map(spec, jax.tree.leaves(one.value))) for one in found]
        found = [dataclasses.replace(one, specs=(mine, *one.specs)) for one, mine in zip(found, over, strict=True)]
        specs[:] = [jax.tree.map(spec, found)]
        return tuple(outs), jax.tree.map(lambda x: x[None], found)

    def mapped(body: Any, out_specs: Any) -> Any:
        return jax.shard_map(
            body,
            mesh=params["mesh"],
            in_specs=tuple(params["in_specs"]),
            out_specs=out_specs,
            axis_names=params["newly_manual_axes"],
            check_vma=params["check_vma"],
        )

    # How what is found varies has to be said before the body is traced, and is known after that.
    outs = mapped(lambda *values: body(*values)[0], tuple(params["out_specs"]))(*values)
    if not specs[0]:
        return list(outs), []
    outs, found = mapped(body, (tuple(params["out_specs"]), specs[0]))(*values)
    return list(outs), found


def _linear_solve(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    """What is found is what arrives in A x at the solution, for there it is differentiated, and not in the solver."""
    programs, counts = eqn.params["jaxprs"], eqn.params["const_lengths"]
    consts, rest = {}, list(values)
    for name, n in zip(("matvec", "vecmat", "solve", "transpose_solve"), counts, strict=True):
        consts[name], rest = rest[:n], rest[n:]
    n_aux = len(eqn.outvars) - len(rest)

    def visited(name: str, x: Sequence[Any]) -> tuple[Sequence[Any], list[Found]]:
        return visitor.run(getattr(programs, name), [*consts[name], *x], (*around, (eqn, 0)))

    def solver(name: str) -> Any:
        def solve(_: Any, b: Sequence[Any]) -> Any:
            outs = visited(name, b)[0]
            return (outs[: len(rest)], outs[len(rest) :]) if n_aux else outs

        return solve

    solution = lax.custom_linear_solve(
        lambda x: visited("matvec", x)[0],
        rest,
        solver("solve"),
        None if programs.transpose_solve is None else solver("transpose_solve"),
        symmetric=programs.vecmat is programs.matvec,
        has_aux=n_aux > 0,
    )
    outs = [*solution[0], *solution[1]] if n_aux else list(solution)
    return outs, visited("matvec", outs[: len(rest)])[1] if occurs(visitor.wanted, programs.matvec) else []


def _hi_primitive(visitor: Visitor, eqn: Any, values: list[Any], around: _Around) -> Any:
    """What it expands to is run, as the body of any function with a rule is."""
    body = jax.make_jaxpr(functools.partial(_jax.expand, eqn))(*values)
    return visitor.run(body, values, (*around, (eqn, 0)))


_ENTER: dict[str, Any] = {
    _jax.HIJAX: _hi_primitive,
    "custom_linear_solve": _linear_solve,
    "remat2": _checkpoint,
    "checkpoint": _checkpoint,
    "scan": _scan,
    "cond": _cond,
    "while": _while,
    "shard_map": _shard_map,
}
# Those around whose bodies more is built than a call.
BUILT_ANEW = frozenset(_ENTER) - {"custom_linear_solve", _jax.HIJAX}
ENTERED = frozenset((*CALLS, *_ENTER))  # the primitives whose bodies are visited


def _types(f: Callable[..., Any], *args: Any) -> Any:
    """The types of what a function returns, which say how arrays vary over a mesh."""
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr.out_avals)
