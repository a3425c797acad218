"""The registry of cases: one entry per op feeds every test sweep, the gradient check and the benchmark."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import Op

__all__ = [
    "ENTRIES",
    "Bench",
    "Case",
    "Entry",
    "Trap",
    "absent",
    "as_argument",
    "class_ids",
    "integers",
    "key",
    "normal",
    "probabilities",
    "register",
    "uniform",
]

Spec = Callable[[np.random.Generator], Any]
Lead = tuple[int, ...]


# How an argument is made. Arrays are float64 here and cast to the dtype under test.


def normal(*shape: int) -> Spec:
    return lambda rng: rng.normal(size=shape)


def uniform(low: float, high: float, *shape: int) -> Spec:
    return lambda rng: rng.uniform(low, high, size=shape)


def probabilities(*shape: int) -> Spec:
    """Distributions along the last axis."""
    return lambda rng: rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def integers(low: int, high: int, *shape: int) -> Spec:
    return lambda rng: rng.integers(low, high, size=shape, dtype=np.int32)


def class_ids(classes: int, *shape: int) -> Spec:
    """Class ids, of which every other is the label that is ignored, -100; the first is not."""

    def made(rng: np.random.Generator) -> Any:
        ids = rng.integers(0, classes, size=shape, dtype=np.int32)
        ids.reshape(-1)[1::2] = -100
        return ids

    return made


def key() -> Spec:
    return lambda rng: jax.random.key(int(rng.integers(2**31)))


def absent(_: np.random.Generator) -> None:
    """An optional argument that is not given."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One configuration of an op.

    Attributes:
        arguments: the arguments' specs, given leading dimensions; the sweep over ranks calls it with 0 to 3 of them.
        static: keyword arguments.
        name: tells the op's cases apart.
        oracle: ``oracle(torch, *tensors, **static)``, the same function in PyTorch, float64; None where it has none.
            Where the op returns a tuple, so does the oracle.
        terms: n, the terms of the longest sum in value or gradients, given the arguments: float32 is held to 8 ε √n.
        scalar_rows: whether the op also takes arguments without leading dimensions.
        empty: whether a batch of no examples has a value; without one, such as a mean, it is refused as 0/0.
        slope: the derivative in long double: ``slope(x, **static) -> (value, size of the largest term)``; None unless
            the op is elementwise. Of JAX's float64 arrays it gives float64.
        bend: the second derivative likewise, nan where there is none.
        ignored: what does not matter by the arguments' labels, masks or lengths, whatever it holds:
            ``ignored(*args, **static) -> (of the arguments, of the outputs)``, each a boolean array or None for each
            argument and each output. None where the op ignores nothing.
    """

    arguments: Callable[[Lead], tuple[Spec, ...]]
    static: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    name: str = "default"
    oracle: Callable[..., Any] | None = None
    terms: Callable[..., int] = lambda *_: 1
    scalar_rows: bool = True
    empty: bool = True
    slope: Callable[..., tuple[Any, Any]] | None = None
    bend: Callable[..., tuple[Any, Any]] | None = None
    ignored: Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]] | None = None

    def make(self, lead: Lead = (4,), dtype: Any = "float64", seed: int = 0) -> tuple[Any, ...]:
        """Seeded arguments with the given leading dimensions, floating-point ones in ``dtype``."""
        rng = np.random.default_rng(seed)
        return tuple(as_argument(spec(rng), dtype) for spec in self.arguments(lead))


def as_argument(value: Any, dtype: Any) -> Any:
    """Arrays, in ``dtype`` where they are floating point; keys and None as they are."""

    def array(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray | np.generic | float):
            return leaf
        leaf = np.asarray(leaf)
        # Converted by NumPy, and no jnp.asarray, as JAX compiles either for every shape.
        return jax.device_put(leaf.astype(jnp.dtype(dtype)) if leaf.dtype.kind == "f" else leaf)

    return jax.tree.map(array, value)


@dataclasses.dataclass(frozen=True)
class Trap:
    """Hard input, for which autodiff of the textbook formula fails, and what is right.

    Attributes:
        name: the number and words of the trap.
        args: the arguments, as Python numbers and lists.
        value: the expected value, or None.
        gradients: expected cotangents by argument number, for a cotangent of ones.
        dtype: of the floating-point arguments.
        no_bend: why there is no second derivative in the arguments of ``gradients``, or one that is out of range; where
            there is one, "", and all orders of differentiation must give it.
    """

    name: str
    args: tuple[Any, ...]
    gradients: Mapping[int, Any]
    value: Any = None
    static: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str = "float32"
    rtol: float = 1e-6
    no_bend: str = ""


@dataclasses.dataclass(frozen=True)
class Bench:
    """A row of the benchmark: the op, or a function of ops, against the best plain JAX.

    Attributes:
        name: of the row.
        arguments: the arguments' specs.
        baselines: functions of the same arguments by name.
        peers: makers of more baselines, by the name of the package of the bench extra that they import.
        ours: None for the op itself.
        floor: the speedup that is asked of it; lower for single activations, whose exactness has a price.
        memory: the temporary memory that it may take, in multiples of a baseline's, not a peer's; None for no bound.
    """

    name: str
    arguments: tuple[Spec, ...]
    baselines: Mapping[str, Callable[..., Any]]
    ours: Callable[..., Any] | None = None
    static: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    floor: float = 0.97
    memory: float | None = 1.05
    peers: Mapping[str, Callable[[], Callable[..., Any]]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Entry:
    """Everything that is checked and measured of one op.

    Attributes:
        op: the op.
        formulas: ids of the rows of the documents' formulas that it implements.
        cases: its configurations; every one goes through every sweep.
        traps: hard inputs.
        benches: benchmark rows.
        homogeneous: where f(c x) is c^d f(x) for its first argument, d, and the settings, besides those of the first
            case, with which it is.
    """

    op: Op
    formulas: tuple[str, ...]
    cases: tuple[Case, ...]
    traps: tuple[Trap, ...] = ()
    benches: tuple[Bench, ...] = ()
    homogeneous: tuple[float, Mapping[str, Any]] | None = None

    @property
    def elementwise(self) -> bool:
        """Whether the op has a closed form of its slope. Such ops are all made by one function."""
        return all(case.slope for case in self.cases)


ENTRIES: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Adds an op's entry, or replaces it: from then on every sweep, ``dlfn check`` and ``dlfn bench`` include it."""
    ENTRIES[entry.op.name] = entry
    return entry
