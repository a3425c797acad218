"""What a model costs, layer by layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from dlfn.nn.layer import Layer, output_shape
from dlfn.nn.sequence import values_of
from dlfn.nn.types import Params, State

__all__ = ["Visit", "count_flops", "count_parameters", "summary", "visits"]

_HEADER = ("path", "layer", "output", "parameters", "FLOPs", "parameter bytes", "output bytes")
_TEXT_COLUMNS = 3


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


def summary(model: Layer, x: Any) -> str:
    """A table of every layer's path, output, parameters, FLOPs of one forward pass and bytes, with their totals.

    Only shapes are computed; ``x`` is an example of the input, an array or a ``jax.ShapeDtypeStruct``. A layer that is
    repeated has one row, with what all its repetitions cost.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Serial(hidden=nn.Linear(64), activation=nn.GELU(), logits=nn.Linear(10))
    >>> print(nn.summary(model, jax.ShapeDtypeStruct((1, 784), jnp.float32)))
    path        layer                output         parameters    FLOPs  parameter bytes  output bytes
    hidden      Linear(features=64)  float32[1,64]      50,240  100,352          200,960           256
    activation  gelu()               float32[1,64]           0       64                0           256
    logits      Linear(features=10)  float32[1,10]         650    1,280            2,600            40
    total                                               50,890  101,696          203,560           552
    """
    rows: list[tuple[Any, ...]] = []
    for visit in visits(model, x):
        layer, children = visit.layer, visit.layer.children()
        flops = layer.flops(values_of(visit.x), values_of(visit.y))
        if flops or not children:
            name = type(layer).__name__ if children else str(layer)
            own = _own(visit.params, children)
            costs = (visit.times * cost for cost in (count_parameters(own), flops, _bytes(own), _bytes(visit.y)))
            output = " ".join(map(_described, jax.tree.leaves(visit.y)))
            rows.append(("/".join(visit.path), f"{visit.times} × " * (visit.times > 1) + name, output, *costs))
    rows.append(("total", "", "", *(sum(row[i] for row in rows) for i in range(_TEXT_COLUMNS, len(_HEADER)))))
    return _table([_HEADER, *([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows)])


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
        times = self.times * self.layer.repeats()
        children = {
            name: _Visited(child, (*self.path, name) if name else self.path, times, self.found)
            for name, child in self.layer.children().items()
        }
        layer = self.layer.with_children(children) if children else self.layer
        params, state = layer.init(key, x)
        y = output_shape(self.layer, params, state, x)
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


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < _TEXT_COLUMNS else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
