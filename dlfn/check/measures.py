"""What a gradient check measures: a scalar to differentiate, its gradient by hand rules, errors."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "FINITE_DIFFERENCE_TOLERANCE",
    "LINEARITY",
    "MIXTURE",
    "NUMERIC",
    "QUICK",
    "cotangents",
    "hand_gradients",
    "norm",
    "projected",
    "pulled_back",
    "relative_error",
    "worst_coordinate",
]  # fmt: skip

NUMERIC, LINEARITY = "finite diff.", "linearity"  # how tables call these two checks
FINITE_DIFFERENCE_TOLERANCE = 1e-6
# Options for XLA: the programs of a check run a few times each, so that most of their time is compilation. The emitters
# of fused loops take two thirds of that; from jax 0.11 on there is no other way of making these.
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    QUICK["xla_cpu_use_fusion_emitters"] = False


def cotangents(shapes: Any, seed: Any) -> list[jax.Array | None]:
    """A seeded random cotangent for every output, ``None`` for those that are not floating point, in the dtypes of
    ``shapes``. That of a single number is below -2: at 1 a rule that drops its cotangent, squares it or takes its
    absolute value would look right."""
    rng = np.random.default_rng(
        [*np.atleast_1d(seed), 1]
    )  # not the numbers that arguments are made of from the same seed

    def drawn(s: Any) -> jax.Array | None:
        numbers = rng.normal(size=s.shape)
        if not jnp.issubdtype(s.dtype, jnp.floating):
            return None
        return jnp.asarray(numbers if numbers.size != 1 else -2 - np.abs(numbers), s.dtype)

    return [drawn(s) for s in jax.tree.leaves(shapes)]


def projected(f: Callable[..., Any], cotangents: Sequence[jax.Array | None]) -> Callable[..., jax.Array]:
    """``f`` times the cotangents, summed: a scalar function whose gradient is a vjp of ``f``. They are the same numbers
    when ``f`` is then called in a wider dtype than they were made for."""

    def loss(*args: Any) -> jax.Array:
        outs = zip(jax.tree.leaves(f(*args)), cotangents, strict=True)
        terms = [jnp.sum(leaf * c.astype(leaf.dtype)) for leaf, c in outs if c is not None]
        return functools.reduce(jnp.add, terms)

    return loss


def pulled_back(f: Callable[..., Any], point: Any, cotangents: Sequence[jax.Array | None]) -> tuple[Any, Any]:
    """Value and gradient of the projection of ``f``, without its products' and its sum's own roundings in the
    gradient."""
    given = [c for c in cotangents if c is not None]

    def outputs(point: Any) -> list[jax.Array]:
        return [y for y, c in zip(jax.tree.leaves(f(point)), cotangents, strict=True) if c is not None]

    ys, back = jax.vjp(outputs, point)
    value = functools.reduce(jnp.add, [jnp.sum(y * c) for y, c in zip(ys, given, strict=True)])
    return value, back(given)[0]


# The factors a and b of the mixture of two cotangents: one of each sign, and both exact in every dtype. The mixture is
# made in a unit far from 1, so that a rule that clips its cotangent clips it; but not in float16, where gradients might
# then overflow.
MIXTURE, _UNIT = (-0.75, 1.25), 1024.0


def hand_gradients(
    f: Callable[..., Any],
    point: Any,
    first: Sequence[jax.Array | None],
    second: Sequence[jax.Array | None],
    *,
    compiled: bool = True,
) -> tuple[Any, Any, Any, Any]:
    r"""``(value, gradient, mixed, sum)``: the projection of ``f`` on the first cotangents and its gradient, by whatever
    rules ``f`` has; and the two sides of :math:`vjp(a u + b v) = a\, vjp(u) + b\, vjp(v)` for its two cotangents."""

    def outputs(point: Any) -> list[jax.Array]:
        return [y for y, c in zip(jax.tree.leaves(f(point)), first, strict=True) if c is not None]

    pairs = [(u, v) for u, v in zip(first, second, strict=True) if u is not None and v is not None]
    unit = _UNIT if all(float(jnp.finfo(u.dtype).max) > 1e30 for u, _ in pairs) else 1.0
    a, b = MIXTURE
    stacked = [jnp.stack([u, v, unit * (a * u + b * v)]) for u, v in pairs]
    ys, back = jax.vjp(outputs, point)
    if compiled:  # a loop over the three cotangents, so that the backward pass is compiled once
        found = jax.lax.map(lambda c: back(c)[0], stacked)
    else:
        each = [back([c[i] for c in stacked])[0] for i in range(3)]
        found = jax.tree.map(lambda *gradients: jnp.stack(gradients), *each)
    value = functools.reduce(jnp.add, [jnp.sum(y * c[0]) for y, c in zip(ys, stacked, strict=True)])
    gradient, other, mixed = (jax.tree.map(lambda g, i=i: g[i], found) for i in range(3))
    mixed = jax.tree.map(lambda g: g / unit, mixed)
    return value, gradient, mixed, jax.tree.map(lambda u, v: a * u + b * v, gradient, other)


def norm(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def relative_error(got: Any, expected: Any, scale: float | None = None) -> float | None:
    """‖got − expected‖∞ / ‖expected‖∞, absolute where the latter is zero; None if not finite."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return None
    scale = norm(expected) if scale is None else scale
    return norm(got - expected) / (scale or 1.0)


def worst_coordinate(got: Any, expected: Any) -> str:
    """Where the two differ most, and by how much: ``[2, 0]: 1.5 instead of 1.2``, or ``[2, 0]: 1.5, off by 2e-16``
    where the digits shown do not differ. A nan counts as the largest difference."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.size == 0:
        return "none"
    with np.errstate(invalid="ignore"):
        gap = np.abs(got - expected)
    at = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    where, ours, theirs = [int(i) for i in at], f"{got[at]:.6g}", f"{expected[at]:.6g}"
    return f"{where}: {ours} instead of {theirs}" if ours != theirs else f"{where}: {ours}, off by {gap[at]:.1g}"
