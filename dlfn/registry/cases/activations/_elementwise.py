"""What the entries of elementwise ops share: how they are made, and derivatives in long double."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dlfn.core import Op
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal

__all__ = ["EXEMPT", "INF", "LIMIT", "entry", "flat", "largest_of", "namespace", "sigmoid", "single"]

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
    bend: Callable[..., tuple[Any, Any]],
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
        slope: as in :class:`dlfn.registry.entry.Case`; and so is ``bend``.
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
        tuple(Case(arguments, static, name, oracle, slope=slope, bend=bend) for name, static in named.items()),
        tuple(traps),
        tuple(Bench(name, large, {rival: baseline}, static=static, floor=floor) for name, static in named.items()),
    )


def namespace(x: Any) -> Any:
    """NumPy or jax.numpy, whichever x is of: by the one, closed forms are evaluated in long double, and by the other in
    float64, on an accelerator."""
    return x.__array_namespace__()


def single(value: Any) -> tuple[Any, Any]:
    return value, abs(value)


def largest_of(*terms: Any) -> tuple[Any, Any]:
    """The sum of terms, and the largest of them."""
    xp = namespace(terms[0])
    return sum(terms), xp.max(xp.abs(xp.stack(xp.broadcast_arrays(*terms))), axis=0)


def sigmoid(x: Any) -> Any:
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, 1) / (1 + e)


def flat(*kinks: float) -> Callable[..., tuple[Any, Any]]:
    """The second derivative of what consists of straight lines: 0, and nan at the kinks, where there is none."""

    def bend(x: Any, **_: Any) -> tuple[Any, Any]:
        return single(namespace(x).where(sum(x == kink for kink in kinks) > 0, math.nan, 0 * _finite(x)))

    return bend


def _finite(x: Any) -> Any:
    return namespace(x).clip(x, -LIMIT, LIMIT)
