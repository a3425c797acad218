"""Mutable references (``jax.new_ref``) as values: a jaxpr that reads and writes them becomes one without references.

A reference is followed as a :class:`_Cell` that holds its present value. Reading it is indexing, writing it makes a new
value by ``.at[…].set`` or ``.at[…].add``, and loops and branches carry the values along. What is left has derivative
rules of its own, so that backpropagation needs none for references.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ref import AbstractRef, get

from dlfn.core import jaxprs
from dlfn.core.errors import InputError

__all__ = ["PRIMITIVES", "as_values", "mentioned"]


class _Cell:
    """A reference's present value: an array, where a jaxpr may have a constant that has no ``.at``."""

    def __init__(self, value: Any):
        self.value = jnp.asarray(value)


def mentioned(jaxpr: Any) -> bool:
    """Whether a jaxpr is given references, or it or a call, loop or branch in it makes some."""
    jaxpr, _ = jaxprs.parts(jaxpr)
    if any(isinstance(var.aval, AbstractRef) for var in (*jaxpr.constvars, *jaxpr.invars)):
        return True
    return any(any(isinstance(var.aval, AbstractRef) for var in eqn.outvars) or _inside(eqn) for eqn in jaxpr.eqns)


def _inside(eqn: Any) -> bool:
    return eqn.primitive.name in _BODIES and any(map(mentioned, jaxprs.subjaxprs(eqn)))


def as_values(jaxpr: Any, inputs: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
    """``(jaxpr, inputs, references)``: the same without references, to be given the values of those among the
    constants and inputs, which are all inputs now. After its outputs it returns what each of ``references`` then holds.

    Raises:
        InputError: where something that is no call, loop or branch is given a reference, naming the line.
    """
    open_jaxpr, consts = jaxprs.parts(jaxpr)
    variables, given = [*open_jaxpr.constvars, *open_jaxpr.invars], [*consts, *inputs]
    at = [i for i, var in enumerate(variables) if isinstance(var.aval, AbstractRef)]
    values = [get(x, ...) if i in at else x for i, x in enumerate(given)]

    def pure(*values: Any) -> Any:
        operands = [_Cell(x) if i in at else x for i, x in enumerate(values)]
        outs = jaxprs.run(open_jaxpr, operands[len(consts) :], _visit, operands[: len(consts)])
        return [*outs, *(operands[i].value for i in at)]

    return jax.make_jaxpr(pure)(*values), values, [given[i] for i in at]


def _run(jaxpr: Any, operands: Sequence[Any]) -> list[Any]:
    return jaxprs.run(jaxpr, operands, _visit)


def _visit(eqn: Any, values: list[Any]) -> Sequence[Any]:
    name, given = eqn.primitive.name, _cells(values)
    if name in _ACCESS:
        return _ACCESS[name](eqn, *values)
    if name in _BODIES and (given or _inside(eqn)):
        return _BODIES[name](eqn, values)
    if given:
        raise InputError(
            f"backprop: {name!r} is given a mutable reference ({jaxprs.source_line(eqn)}), and only jit, checkpoint, "
            "scan, while and cond can be; give it the reference's value, and write its result into the reference"
        )
    return jaxprs.bind(eqn, values)


# Access


class _Window:
    """The entries that one indexing of a reference names, by NumPy's rules. A slice that begins at a traced index is
    cut out of the array first."""

    def __init__(self, indices: Sequence[Any]):
        self.starts: list[Any] = [0] * len(indices)
        self.extents: list[int | None] = [None] * len(indices)
        index: list[Any] = list(indices)
        for axis, entry in enumerate(indices):
            if hasattr(entry, "stride"):
                start, extent = entry.start, (entry.size - 1) * entry.stride + 1 if entry.size else 0
                if not isinstance(start, int):
                    self.starts[axis], self.extents[axis], start = start, extent, 0
                index[axis] = slice(start, start + extent, entry.stride)
        self.index = tuple(index)
        self.moving = any(extent is not None for extent in self.extents)

    def _cut(self, value: Any) -> Any:
        if not self.moving:
            return value
        sizes = [n if extent is None else extent for n, extent in zip(value.shape, self.extents, strict=True)]
        return lax.dynamic_slice(value, self.starts, sizes)

    def read(self, value: Any) -> Any:
        return self._cut(value)[self.index]

    def write(self, value: jax.Array, change: Callable[[Any], Any]) -> jax.Array:
        """``change`` is given ``array.at[index]``."""
        part = change(self._cut(value).at[self.index])
        return lax.dynamic_update_slice(value, part, self.starts) if self.moving else part


def _windows(eqn: Any, flat: Sequence[Any]) -> list[_Window]:
    views = jax.tree.unflatten(eqn.params["tree"], flat)
    if any(not hasattr(view, "indices") for view in views):
        raise InputError(
            f"backprop: a view of a mutable reference that is no indexing ({jaxprs.source_line(eqn)}); read the "
            "reference, and reshape its value"
        )
    return [_Window(view.indices) for view in views] or [_Window(())]


def _write(value: Any, windows: Sequence[_Window], change: Callable[[Any], Any]) -> Any:
    first, *rest = windows
    return first.write(value, (lambda at: at.set(_write(at.get(), rest, change))) if rest else change)


def _read(value: Any, windows: Sequence[_Window]) -> Any:
    for window in windows:
        value = window.read(value)
    return value


def _empty(eqn: Any) -> list[Any]:
    aval = eqn.outvars[0].aval
    return [_Cell(jnp.zeros(aval.shape, aval.dtype))]


def _get(eqn: Any, cell: _Cell, *flat: Any) -> list[Any]:
    return [_read(cell.value, _windows(eqn, flat))]


def _swap(eqn: Any, cell: _Cell, new: Any, *flat: Any) -> list[Any]:
    windows = _windows(eqn, flat)
    old = _read(cell.value, windows)
    cell.value = _write(cell.value, windows, lambda at: at.set(new))
    return [old]


def _add(eqn: Any, cell: _Cell, more: Any, *flat: Any) -> list[Any]:
    cell.value = _write(cell.value, _windows(eqn, flat), lambda at: at.add(more))
    return []


_ACCESS: dict[str, Callable[..., list[Any]]] = {
    "new_ref": lambda eqn, value: [_Cell(value)],
    "empty_ref": _empty,
    "get": _get,
    "swap": _swap,
    "addupdate": _add,
    "freeze": lambda eqn, cell: [cell.value],
    "free_ref": lambda eqn, cell: [],
}
PRIMITIVES = frozenset(_ACCESS)


# Bodies that are given references, or make some


def _cells(operands: Sequence[Any]) -> list[_Cell]:
    return [x for x in operands if isinstance(x, _Cell)]


def _split(operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What the cells among the operands hold, and the arrays."""
    return [cell.value for cell in _cells(operands)], [x for x in operands if not isinstance(x, _Cell)]


def _threaded(jaxpr: Any, operands: Sequence[Any]) -> Any:
    """A jaxpr of such operands as a pure function: from :func:`_split`'s two lists to what the cells hold after it, and
    the outputs."""

    def pure(contents: Sequence[Any], arrays: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        cells, rest = [_Cell(value) for value in contents], iter(arrays)
        fresh = iter(cells)
        outs = _run(jaxpr, [next(fresh) if isinstance(x, _Cell) else next(rest) for x in operands])
        return [cell.value for cell in cells], outs

    return pure


def _put(operands: Sequence[Any], contents: Sequence[Any]) -> None:
    for cell, value in zip(_cells(operands), contents, strict=True):
        cell.value = value


def _call(eqn: Any, operands: list[Any]) -> list[Any]:
    return _run(eqn.params["jaxpr"], operands)


def _checkpoint(eqn: Any, operands: list[Any]) -> list[Any]:
    options = {key: eqn.params[key] for key in ("prevent_cse", "policy")}
    contents, outs = jax.checkpoint(_threaded(eqn.params["jaxpr"], operands), **options)(*_split(operands))
    _put(operands, contents)
    return outs


def _cond(eqn: Any, operands: list[Any]) -> list[Any]:
    index, *operands = operands
    contents, outs = lax.switch(index, [_threaded(b, operands) for b in eqn.params["branches"]], *_split(operands))
    _put(operands, contents)
    return outs


def _scan(eqn: Any, operands: list[Any]) -> list[Any]:
    n_consts, n_carry = jaxprs.scan_counts(eqn)
    consts, init, xs = operands[:n_consts], operands[n_consts : n_consts + n_carry], operands[n_consts + n_carry :]
    pure = _threaded(eqn.params["jaxpr"], operands)
    contents, arrays = _split(consts)

    def step(state: Any, x: Any) -> Any:
        contents, carry = state
        contents, outs = pure(contents, [*arrays, *carry, *x])
        return (contents, outs[:n_carry]), outs[n_carry:]

    loop = {key: eqn.params[key] for key in ("length", "reverse", "unroll")}
    (contents, carry), ys = lax.scan(step, (contents, init), xs, **loop)
    _put(consts, contents)
    return [*carry, *ys]


def _while(eqn: Any, operands: list[Any]) -> list[Any]:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts = operands[:n_cond], operands[n_cond : n_cond + n_body]
    init = operands[n_cond + n_body :]
    cells = list(dict.fromkeys(_cells([*cond_consts, *body_consts])))  # the two may share some
    condition = _threaded(eqn.params["cond_jaxpr"], [*cond_consts, *init])
    body = _threaded(eqn.params["body_jaxpr"], [*body_consts, *init])

    def of(consts: Sequence[Any], contents: Sequence[Any]) -> list[Any]:
        return [contents[cells.index(cell)] for cell in _cells(consts)]

    def proceed(state: Any) -> Any:
        contents, carry = state
        return condition(of(cond_consts, contents), [*_split(cond_consts)[1], *carry])[1][0]

    def step(state: Any) -> Any:
        contents, carry = state
        changed, carry = body(of(body_consts, contents), [*_split(body_consts)[1], *carry])
        after = dict(zip(_cells(body_consts), changed, strict=True))
        return [after.get(cell, value) for cell, value in zip(cells, contents, strict=True)], carry

    contents, carry = lax.while_loop(proceed, step, ([cell.value for cell in cells], init))
    _put(cells, contents)
    return carry


_BODIES: dict[str, Callable[[Any, list[Any]], list[Any]]] = {
    **dict.fromkeys(("jit", "pjit", "closed_call"), _call),
    **dict.fromkeys(("remat2", "checkpoint"), _checkpoint),
    "cond": _cond,
    "scan": _scan,
    "while": _while,
}
