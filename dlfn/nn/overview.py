"""What a model costs, layer by layer."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from dlfn.nn.layer import Layer, output_shape
from dlfn.nn.sequence import values_of
from dlfn.nn.tied import Tied
from dlfn.nn.types import Params, State

__all__ = ["Visit", "count_flops", "count_parameters", "summary", "visits"]

_HEADER = ("path", "layer", "output", "parameters", "FLOPs", "parameter bytes", "output bytes")
_TEXT_COLUMNS = 3
# In this order columns are left out, from the end, where the table is too wide. Text that can be folded takes so many
# characters at least.
_IMPORTANCE = ("path", "parameters", "layer", "output", "FLOPs", "parameter bytes", "output bytes")
_FOLDED = {"path": 24, "layer": 25}


def count_parameters(params: Any) -> int:
    """The number of elements in all the arrays of ``params``."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_flops(model: Layer, x: Any) -> int:
    """The floating-point operations of one forward pass, by the layers' own counts.

    >>> import jax.numpy as jnp, dlfn.nn as nn
    >>> count_flops(nn.Linear(10), jnp.zeros((5, 64)))
    6400
    """
    return sum(each.times * each.layer.flops(values_of(each.x), values_of(each.y)) for each in visits(model, x))


def summary(model: Layer, x: Any, *, width: int | None = None) -> str:
    """A table of every layer's path, output, parameters, FLOPs of one forward pass and bytes, with their totals.

    Only shapes are computed; ``x`` is an example of the input, an array or a ``jax.ShapeDtypeStruct``. A layer that is
    repeated has one row, with what all its repetitions cost; and so has each of equal blocks that follow each other,
    ``blocks/0-5``. The table is no wider than ``width`` characters, if that is given: text is folded, and the last
    columns are left out.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Serial(hidden=nn.Linear(64), activation=nn.GELU(), logits=nn.Linear(10))
    >>> print(nn.summary(model, jax.ShapeDtypeStruct((1, 784), jnp.float32)))
    path        layer                output         parameters    FLOPs  parameter bytes  output bytes
    hidden      Linear(features=64)  float32[1,64]      50,240  100,352          200,960           256
    activation  gelu()               float32[1,64]           0       64                0           256
    logits      Linear(features=10)  float32[1,10]         650    1,280            2,600            40
    total                                               50,890  101,696          203,560           552
    """
    rows: list[_Row] = []
    for visit in visits(model, x):
        layer, children = visit.layer, visit.layer.children()
        flops = layer.flops(values_of(visit.x), values_of(visit.y))
        if flops or not children:
            name = type(layer).__name__ if children else str(layer)
            own = _own(visit.params, children)
            costs = tuple(visit.times * cost for cost in (count_parameters(own), flops, _bytes(own), _bytes(visit.y)))
            output = " ".join(map(_described, jax.tree.leaves(visit.y)))
            rows.append(_Row(visit.path, visit.times, name, output, costs))
    total = _Row(("total",), 1, "", "", tuple(map(sum, zip(*(row.costs for row in rows)))))
    return _table([_HEADER, *(row.cells() for row in (*_folded(rows), total))], width)


class _Row(NamedTuple):
    path: tuple[str, ...]
    times: int
    layer: str
    output: str
    costs: tuple[int, ...]

    def cells(self) -> tuple[str, ...]:
        layer = f"{self.times} × {self.layer}" if self.times > 1 else self.layer
        return ("/".join(self.path), layer, self.output, *(f"{cost:,}" for cost in self.costs))

    def alike(self) -> Any:
        """Equal for rows that differ in the numbers of their paths alone."""
        return re.sub(r"\d+", "#", "/".join(self.path)), *self[1:]


def _folded(rows: Sequence[_Row]) -> list[_Row]:
    """With one row for the same row of equal blocks that follow each other."""
    folded: list[_Row] = []
    start = 0
    while start < len(rows):
        length, copies = _repetition(rows, start)
        for index in range(start, start + length):
            row, last = rows[index], rows[index + length * (copies - 1)]
            path = tuple(_range(a, b) for a, b in zip(row.path, last.path))
            folded.append(row._replace(path=path, times=row.times * copies, costs=tuple(copies * c for c in row.costs)))
        start += length * copies
    return folded


def _repetition(rows: Sequence[_Row], start: int) -> tuple[int, int]:
    """How many rows the block has that begins there, and how often it is there in a row."""
    first = rows[start].path
    for depth in range(1, len(first) + 1):
        length = sum(
            1 for _ in itertools.takewhile(lambda row, depth=depth: row.path[:depth] == first[:depth], rows[start:])
        )
        block, copies = [row.alike() for row in rows[start : start + length]], 1
        while [row.alike() for row in rows[start + copies * length :][:length]] == block:
            copies += 1
        if copies > 1:
            return length, copies
    return 1, 1


def _range(first: str, last: str) -> str:
    """``block_0-5`` of the first name and the last one of a block."""
    parts = zip(re.split(r"(\d+)", first), re.split(r"(\d+)", last))
    return "".join(a if a == b else f"{a}-{b}" for a, b in parts)


class Visit(NamedTuple):
    """A layer of a model, how often it is there, and the shapes of its input, params and output."""

    path: tuple[str, ...]
    layer: Layer
    times: int
    x: Any
    params: Any
    y: Any


def visits(model: Layer, x: Any) -> list[Visit]:
    """Every layer, those inside a layer before it, in the order in which ``init`` reaches them with an example like x.
    Nothing is computed."""
    found: list[Visit] = []
    jax.eval_shape(_Visited(model, (), 1, found).init, jax.random.key(0), x)
    return found


@dataclass(frozen=True)
class _Visited(Layer):
    """Stands in for a layer, and notes it in ``found`` when it is initialised, its children first."""

    layer: Layer
    path: tuple[str, ...]
    times: int
    found: list[Visit]

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        times, inside = self.times * self.layer.repeats(), len(self.found)
        children = {
            name: _Visited(child, (*self.path, name) if name else self.path, times, self.found)
            for name, child in self.layer.children().items()
        }
        layer = self.layer.with_children(children) if children else self.layer
        params, state = layer.init(key, x)
        y = output_shape(self.layer, params, state, x)
        if isinstance(self.layer, Tied):
            for index, visit in enumerate(self.found[inside:], inside):
                own = self.layer.without(visit.path[len(self.path) :], visit.params)
                self.found[index] = visit._replace(params=own)
        self.found.append(Visit(self.path, self.layer, self.times, *map(_shapes, (x, params, y))))
        return params, state

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        return self.layer.apply(params, state, x, key=key, train=train)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _own(params: Any, children: Any) -> Any:
    """A layer's params without those of the layers inside."""
    if isinstance(params, dict) and "" not in children:
        return {name: value for name, value in params.items() if name not in children}
    return () if children else params


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _described(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _table(rows: Sequence[Sequence[str]], width: int | None) -> str:
    widths = _widths([max(map(len, column)) for column in zip(*rows, strict=True)], width)
    lines = []
    for row in rows:
        cells = {i: _wrapped(row[i], wide) if i < _TEXT_COLUMNS else [row[i]] for i, wide in widths.items()}
        for parts in itertools.zip_longest(*cells.values(), fillvalue=""):
            columns = zip(parts, widths.items())
            aligned = (part.ljust(wide) if i < _TEXT_COLUMNS else part.rjust(wide) for part, (i, wide) in columns)
            lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _widths(full: Sequence[int], width: int | None) -> dict[int, int]:
    """The columns that there is room for, by their numbers, and how wide they are."""
    if width is None:
        return dict(enumerate(full))
    room, widths = width + 2, {}
    for name in _IMPORTANCE:
        i = _HEADER.index(name)
        least = min(full[i], _FOLDED.get(name, full[i]))
        if room >= least + 2:
            widths[i], room = least, room - least - 2
    for i, least in sorted(widths.items()):
        more = min(room, full[i] - least)
        widths[i], room = least + more, room - more
    return dict(sorted(widths.items()))


def _wrapped(cell: str, width: int) -> list[str]:
    """Folded after a slash or a parenthesis or at a space, where there is one."""
    lines = [""]
    for piece in re.findall(r"[^/ (]*[/ (]|[^/ (]+", cell):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return [line.rstrip() for line in lines]
