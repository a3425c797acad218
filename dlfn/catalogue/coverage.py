"""What implements a row and what checks it: values against functions that nobody here wrote (PyTorch where it is
installed, NumPy, SciPy, scikit-learn, optax), and gradients against autodiff of the definitions."""

import dataclasses
import functools
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import jax

from dlfn import nn, ops
from dlfn.catalogue.oracles import ORACLES
from dlfn.catalogue.oracles._table import require
from dlfn.catalogue.row import Row
from dlfn.check import compare
from dlfn.nn.layer import Layer
from dlfn.registry.all import entries
from dlfn.registry.entry import Entry
from dlfn.registry.gradients import check_case
from dlfn.registry.oracles import check_values, has_pytorch

__all__ = ["Check", "checks", "implemented_by", "resolve"]


@dataclasses.dataclass(frozen=True)
class Check:
    """``run`` returns None, or what is wrong in one line."""

    name: str
    run: Callable[[], str | None]


def implemented_by(row: Row) -> list[str]:
    """The row's objects, then the ops whose registry entries name it."""
    return list(
        dict.fromkeys([*row.objects, *(name for name, entry in _registered().items() if row.id in entry.formulas)])
    )


def _registered() -> dict[str, Entry]:
    """The entries of dlfn's own ops, by dotted name. Others have their row with whoever registered them."""
    return {f"dlfn.ops.{entry.op.name}": entry for entry in entries() if getattr(ops, entry.op.name, None) is entry.op}


def resolve(name: str) -> Any:
    """The object of a dotted name; ImportError or AttributeError where there is none."""
    return pkgutil.resolve_name(name)


def checks(row: Row) -> Iterator[Check]:
    """Of every op and layer of the row, and of the row itself where it has an oracle."""
    registered = _registered()
    for name in implemented_by(row):
        if name in registered:
            against = "PyTorch, " if has_pytorch() and any(case.oracle for case in registered[name].cases) else ""
            title = f"{name}: values against {against}its definition; gradients against autodiff and finite differences"
            yield Check(title, functools.partial(_op, name))
        elif name in LAYERS:
            yield Check(f"{name}: gradients against autodiff and finite differences", functools.partial(_layer, name))
    if row.id in ORACLES:
        against, run = ORACLES[row.id]
        yield Check(f"values against {against}", functools.partial(_message, run))


def _message(run: Callable[[], None]) -> str | None:
    try:
        with jax.enable_x64(True):
            run()
    except Exception as error:  # whatever it is, this check has failed, and the others have not
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


@functools.cache  # an op can implement several rows
def _op(name: str) -> str | None:
    entry = _registered()[name]

    def run() -> None:
        for case in entry.cases:
            check_values(entry, case)
        failed = [result for result in check_case(entry, entry.cases[0], "float64") if not result.ok]
        require(not failed, "; ".join(f"{r.path} in {r.argument}: {r.worst}" for r in failed))

    return _message(run)


@functools.cache
def _layer(name: str) -> str | None:
    layer, shape = LAYERS[name]

    def run() -> None:
        init, data, call = jax.random.split(jax.random.key(0), 3)
        ids = isinstance(layer, nn.Embedding)
        x = jax.random.randint(data, shape, 0, 3) if ids else jax.random.normal(data, shape)
        params, state = layer.init(init, x)

        def loss(params: Any, x: Any) -> Any:
            y, _ = layer.apply(params, state, x, key=call, train=True)
            return sum(jax.numpy.sum(leaf**3) for leaf in jax.tree.leaves(y))

        report = compare(functools.partial(loss, x=x))(params) if ids else compare(loss)(params, x)
        failed = [row for row in report.rows if not row.ok]
        require(report.ok, f"{len(failed)} leaves disagree, such as {failed[0] if failed else None}")

    return _message(run)


# Layers that are more than their op, with the shape of an example.
LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "dlfn.nn.BatchNorm": (nn.BatchNorm(), (5, 3)),
    "dlfn.nn.BayesianLinear": (nn.BayesianLinear(3), (4, 2)),
    "dlfn.nn.Bidirectional": (nn.Bidirectional(nn.GRU(3)), (2, 4, 2)),
    "dlfn.nn.Conv": (nn.Conv(2, (2, 2)), (2, 3, 3, 2)),
    "dlfn.nn.DropConnect": (nn.DropConnect(nn.Linear(3), keep_prob=0.5), (4, 2)),
    "dlfn.nn.Dropout": (nn.Dropout(0.5), (4, 3)),
    "dlfn.nn.Embedding": (nn.Embedding(3, 2), (2, 4)),
    "dlfn.nn.GRU": (nn.GRU(3), (2, 4, 2)),
    "dlfn.nn.GroupNorm": (nn.GroupNorm(2), (2, 3, 4)),
    "dlfn.nn.InstanceNorm": (nn.InstanceNorm(), (2, 3, 4)),
    "dlfn.nn.LSTM": (nn.LSTM(3), (2, 4, 2)),
    "dlfn.nn.LayerNorm": (nn.LayerNorm(), (2, 4)),
    "dlfn.nn.LearnedPositions": (nn.LearnedPositions(5), (2, 4, 3)),
    "dlfn.nn.Linear": (nn.Linear(3), (4, 2)),
    # Without positions the gradient of the keys' bias is 0 but for rounding.
    "dlfn.nn.MultiHeadAttention": (nn.MultiHeadAttention(2, positions="rope"), (2, 4, 8)),
    "dlfn.nn.PReLU": (nn.PReLU(), (4, 2)),
    "dlfn.nn.RNN": (nn.RNN(3), (2, 4, 2)),
    "dlfn.nn.Recurrent": (nn.Recurrent(nn.LSTMCell(3)), (2, 4, 2)),
    "dlfn.nn.Residual": (nn.Residual(nn.Linear(3), projection=nn.Linear(3)), (4, 2)),
    "dlfn.nn.SpatialDropout": (nn.SpatialDropout(0.5), (2, 3, 3, 4)),
    "dlfn.nn.Stacked": (nn.Stacked(nn.LSTM(3), nn.LSTM(2)), (2, 4, 2)),
    "dlfn.nn.TransformerBlock": (nn.TransformerBlock(2, positions="rope"), (2, 4, 8)),
    "dlfn.nn.Zoneout": (nn.Recurrent(nn.Zoneout(nn.GRUCell(3))), (2, 4, 2)),
}
