"""What implements a row and what checks it. Oracles are functions that nobody here wrote: autodiff of the definitions,
NumPy, SciPy, scikit-learn, optax."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from dlfn import nn
from dlfn.catalogue.oracles import ORACLES
from dlfn.catalogue.row import Row
from dlfn.check.compare import compare
from dlfn.check.gradients import check_case
from dlfn.check.registry import entries
from dlfn.nn.layer import Layer

__all__ = ["Check", "checks", "implemented_by", "resolve"]


@dataclasses.dataclass(frozen=True)
class Check:
    """``run`` returns None, or what is wrong in one line."""

    name: str
    run: Callable[[], str | None]


def implemented_by(row: Row) -> list[str]:
    """The row's objects, then the ops whose registry entries name it."""
    ops = [f"dlfn.ops.{entry.op.name}" for entry in entries() if row.id in entry.formulas]
    return list(dict.fromkeys([*row.objects, *ops]))


def resolve(name: str) -> Any:
    """The object of a dotted name; AttributeError or ImportError where there is none."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[i:], module)
    raise ImportError(f"no module named {parts[0]}")


def checks(row: Row) -> Iterator[Check]:
    """Gradients of every op and layer of the row, and the row's oracle."""
    registered = {f"dlfn.ops.{entry.op.name}": entry for entry in entries()}
    for name in implemented_by(row):
        if name in registered:
            yield Check(f"gradients of {name} against autodiff and finite differences", lambda n=name: _op_gradients(n))
        elif name in LAYERS:
            yield Check(
                f"gradients of {name} against autodiff and finite differences", lambda n=name: _layer_gradients(n)
            )
    if row.id in ORACLES:
        against, run = ORACLES[row.id]
        yield Check(f"values against {against}", lambda: _message(run))


def _message(run: Callable[[], None]) -> str | None:
    try:
        with jax.enable_x64(True):
            run()
    except Exception as error:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:300]}"
    return None


@functools.cache  # an op can implement several rows
def _op_gradients(name: str) -> str | None:
    (entry,) = entries([name.rpartition(".")[2]])
    failed = [result for result in check_case(entry, entry.cases[0], "float64") if not result.ok]
    return "; ".join(f"{r.path} in {r.argument}: {r.worst}" for r in failed) or None


# Layers that are more than their op, with the shape of an example.
LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "dlfn.nn.BayesianLinear": (nn.BayesianLinear(3), (4, 2)),
    "dlfn.nn.Bidirectional": (nn.Bidirectional(nn.GRU(3)), (2, 4, 2)),
    "dlfn.nn.DropConnect": (nn.DropConnect(nn.Linear(3), keep_prob=0.5), (4, 2)),
    "dlfn.nn.LearnedPositions": (nn.LearnedPositions(5), (2, 4, 3)),
    "dlfn.nn.MultiHeadAttention": (nn.MultiHeadAttention(2), (2, 4, 6)),
    "dlfn.nn.Residual": (nn.Residual(nn.Linear(3), projection=nn.Linear(3)), (4, 2)),
    "dlfn.nn.SpatialDropout": (nn.SpatialDropout(0.5), (2, 3, 3, 4)),
    "dlfn.nn.Stacked": (nn.Stacked(nn.LSTM(3), nn.LSTM(2)), (2, 4, 2)),
    "dlfn.nn.TransformerBlock": (nn.TransformerBlock(2), (2, 4, 6)),
    "dlfn.nn.Zoneout": (nn.Recurrent(nn.Zoneout(nn.GRUCell(3))), (2, 4, 2)),
}


@functools.cache
def _layer_gradients(name: str) -> str | None:
    layer, shape = LAYERS[name]
    init, data, call = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(data, shape)
    params, state = layer.init(init, x)

    def loss(params: Any, x: Any) -> Any:
        y, _ = layer.apply(params, state, x, key=call, train=True)
        return sum(jax.numpy.sum(leaf**2) for leaf in jax.tree.leaves(y))

    report = compare(loss)(params, x)
    return None if report.ok else str(report)
