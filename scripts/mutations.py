"""How many mistakes in backward passes are found: the backward of every op of dlfn is changed in one place, and what
``dlfn.audit`` and ``jax.test_util.check_grads`` say of it is counted.

    python scripts/mutations.py [OP ...] [--each 8] [--seed 0] [--json FILE]

A change is made to one equation of the backward's program: a term or a factor is dropped, a sum is left out, a mask is
ignored, two operands are swapped, a sign is changed in one half of a result, one coordinate of a result is off by 1e-4
of it. Changes after which the backward is the same function but for its last digits, at random arguments, are no
mistakes and not counted.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import dlfn
from dlfn.check.judging import checked, probed
from dlfn.check.rules import has_rule
from dlfn.check.screening import Screen, offenders
from dlfn.core import jaxprs
from dlfn.core.entering import Place, Visitor
from dlfn.registry.all import entries

Change = Callable[[list[Any], Any], Any]


def term(values: list[Any], y: Any) -> Any:
    return jnp.broadcast_to(values[0], y.shape)


def other_term(values: list[Any], y: Any) -> Any:
    return jnp.broadcast_to(values[1], y.shape)


def swapped(values: list[Any], y: Any) -> Any:
    return -y


def one_region(values: list[Any], y: Any) -> Any:
    first = jnp.arange(y.size).reshape(y.shape) < (y.size + 1) // 2
    return jnp.where(first, -y, y)


def one_coordinate(values: list[Any], y: Any) -> Any:
    return jnp.where(jnp.arange(y.size).reshape(y.shape) == y.size // 2, y * (1 + 1e-4), y)


def no_sum(values: list[Any], y: Any) -> Any:
    (x,) = values
    kept = list(range(x.ndim))
    while x.ndim > y.ndim:  # the first entry along axes that are summed, which are those that the result lacks
        axis = next(a for a in kept if x.shape[: a + 1] != y.shape[: a + 1])
        x = jnp.take(x, 0, axis)
        kept = list(range(x.ndim))
    return x


def no_mask(values: list[Any], y: Any) -> Any:
    return jnp.broadcast_to(values[1], y.shape)


ANY: list[Change] = [one_region, one_coordinate]
CHANGES: dict[str, list[Change]] = {
    "add": [term, other_term], "add_any": [term, other_term], "sub": [term, swapped],
    "mul": [term, other_term], "div": [term], "neg": [swapped], "reduce_sum": [no_sum], "select_n": [no_mask],
    "dot_general": [], "convert_element_type": [],
}  # fmt: skip


def mutated(op: dlfn.Op, number: int, change: Change) -> dlfn.Op:
    """The op with a change at one equation of its backward."""

    def backward(residuals: Any, dy: Any, **static: Any) -> Any:
        jaxpr, inputs, _, tree = jaxprs.trace(lambda r, d: op.backward(r, d, **static), (residuals, dy), {})
        count = [-1]

        def visit(place: Place, values: list[Any]) -> Any:
            count[0] += 1
            outs = jaxprs.bind(place.eqn, values)
            return [change(values, outs[0]).astype(outs[0].dtype)] if count[0] == number else outs, None

        return tree.unflatten(Visitor(is_changed, visit, left={}).run(jaxpr, inputs)[0])

    return dlfn.Op(op.definition, op.forward, backward, name=op.name)


def is_changed(eqn: Any) -> bool:
    """Whether an equation is one that is changed."""
    one = len(eqn.outvars) == 1 and jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating)
    return one and eqn.primitive.name in CHANGES and eqn.outvars[0].aval.size > 0


def changes(op: dlfn.Op, args: Any, static: Any) -> Iterator[tuple[int, str, Change]]:
    """All changes of an op's backward: the number of the equation, its primitive, what is done to it."""
    y, residuals = op.forward(*args, **static)
    found: list[Any] = []

    def visit(place: Place, values: list[Any]) -> Any:
        found.append(place.eqn)
        return None, None

    jaxpr, inputs, _, _ = jaxprs.trace(lambda r, d: op.backward(r, d, **static), (residuals, cotangent(y, 0)), {})
    Visitor(is_changed, visit, left={}).run(jaxpr, inputs)
    for i, eqn in enumerate(found):
        for change in [*CHANGES[eqn.primitive.name], *ANY]:
            shapes = [var.aval.shape for var in eqn.invars]
            yield from [(i, eqn.primitive.name, change)] if shapes else []


def cotangent(y: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    floats = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) if floats(leaf) else None, y)


def differ(a: Any, b: Any) -> bool:
    """Whether two gradients differ by more than their last digits."""
    size = np.max(np.abs(a), initial=0.0, where=np.isfinite(a))
    return not np.allclose(a, b, rtol=0, atol=1e-12 * size, equal_nan=True)


def is_another(op: dlfn.Op, mutant: dlfn.Op, case: Any) -> bool:
    """Whether the two backwards differ at any of three random arguments."""
    for seed in range(3):
        args = case.make((4,), "float64", seed)
        y, residuals = op.forward(*args, **case.static)
        dy = cotangent(y, seed)
        both = [jax.jit(lambda r, d, f=f: f.backward(r, d, **case.static))(residuals, dy) for f in (op, mutant)]
        if any(differ(a, b) for a, b in zip(*map(jax.tree.leaves, both), strict=True)):
            return True
    return False


def found_by_audit(mutant: dlfn.Op, case: Any, *, probe: bool) -> bool:
    """What ``dlfn.audit`` decides by, without its report."""
    jaxpr, inputs, _, _ = jaxprs.trace(lambda *args: mutant(*args, **case.static), case.make((4,), "float64", 0), {})
    inputs = [jnp.asarray(x) for x in inputs]
    (found,) = Visitor(has_rule, lambda place, values: (None, values)).run(jaxpr, inputs)[1]
    if offenders(found, Screen(0)(found)):
        return True
    return probe and not probed(checked(found, Screen(0), 0), found, 0).ok


def found_by_check_grads(mutant: dlfn.Op, case: Any, dtype: str) -> bool:
    args = case.make((4,), dtype, 0)
    moving = [i for i, x in enumerate(args) if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)]

    def of_floats(*xs: Any) -> Any:
        full = list(args)
        for i, x in zip(moving, xs, strict=True):
            full[i] = x
        return mutant(*full, **case.static)

    try:
        check_grads(of_floats, tuple(args[i] for i in moving), order=1, modes=["rev"])
    except AssertionError:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--each", type=int, default=8, help="changes per op, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with jax.enable_x64(True):
        for entry in entries(arguments.ops):
            case = entry.cases[0]
            every = list(changes(entry.op, case.make((4,), "float64", 0), case.static))
            rng = np.random.default_rng(arguments.seed)
            for k in sorted(rng.permutation(len(every))[: arguments.each]):
                number, primitive, change = every[k]
                mutant = mutated(entry.op, number, change)
                try:
                    if not is_another(entry.op, mutant, case):
                        continue
                except (TypeError, ValueError, dlfn.InputError):
                    continue  # a program that does not run is no mistake that is left in one
                row: dict[str, Any] = {"op": entry.op.name, "equation": number, "primitive": primitive}
                row["change"] = change.__name__
                for column, probe in (("audit", False), ("audit with probe=True", True)):
                    row[column] = found_by_audit(mutant, case, probe=probe)
                for dtype in ("float64", "float32"):
                    row[f"check_grads {dtype}"] = found_by_check_grads(mutant, case, dtype)
                rows.append(row)
                if not row["audit with probe=True"]:
                    print("not found:", row, flush=True)
            print(f"{entry.op.name}: {sum(r['op'] == entry.op.name for r in rows)} mistakes", flush=True)
    for column in ("audit", "audit with probe=True", "check_grads float64", "check_grads float32"):
        print(f"{column}: {sum(row[column] for row in rows)} of {len(rows)} found")
    print("by change:", dict(Counter(row["change"] for row in rows)))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0 if sum(row["audit with probe=True"] for row in rows) >= 0.99 * len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
