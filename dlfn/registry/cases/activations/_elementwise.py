"""What the entries of elementwise ops share: how they are made, and derivatives in long double."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dlfn.core import Op
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal

__all__ = ["EXEMPT", "INF", "LIMIT", "entry", "largest_of", "sigmoid", "single"]

INF = np.inf
# Exactness has a price where XLA already fuses to the memory limit: single activations may cost this much.
EXEMPT = 0.55
# At ±700 float32 has long underflowed, and float64 has not yet.
LIMIT = 700


def entry(
    op: Op,
    formulas: tuple[str, ...],
    oracle: Callable[..., Any] | None,
    baseline: Callable[..., Any],
    slope: Callable[..., tuple[Any, Any]],
    traps: Iterable[Trap],
    *,
    settings: Mapping[str, dict[str, Any]] | None = None,
    floor: float = EXEMPT,
    scale: float = 1.0,
    rival: str = "jax.nn",
) -> Entry:
    """The entry of an elementwise op.

    Args:
        baseline: the best plain JAX, with the same settings.
        slope: as in :class:`dlfn.registry.entry.Case`.
        settings: the static configuration of each case, by its name.
        scale: standard deviation of the arguments; some reach beyond the kinks at it.
        rival: what the baseline is from.
    """

    def arguments(lead: tuple[int, ...]) -> Any:
        return (lambda rng: scale * normal(*lead, 5)(rng),)

    named = settings or {"default": {}}
    large = (normal(1024, 1024),)
    return Entry(
        op,
        formulas,
        tuple(Case(arguments, static, name, oracle, slope=slope) for name, static in named.items()),
        tuple(traps),
        tuple(Bench(name, large, {rival: baseline}, static=static, floor=floor) for name, static in named.items()),
    )


def single(value: Any) -> tuple[Any, Any]:
    return value, np.abs(value)


def largest_of(*terms: Any) -> tuple[Any, Any]:
    """The sum of terms, and the largest of them."""
    return sum(terms), np.max(np.abs(np.stack(np.broadcast_arrays(*terms))), axis=0)


def sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)
