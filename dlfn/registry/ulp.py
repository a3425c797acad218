"""The error of an elementwise op's derivative, in units in the last place, against a closed form in long double."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.table import format_table
from dlfn.core import InputError, autodiff
from dlfn.registry.entry import Case, Entry

__all__ = ["BOUNDS", "Exact", "Figure", "Measurement", "derivative", "inputs", "measure", "report", "ulp_error"]

# What is measured, and its bound in ULP.
BOUNDS = {
    ("float32", 20.0): 4.0,
    ("float32", math.inf): 4.0,
    ("bfloat16", math.inf): 1.0,
    ("float16", math.inf): 1.0,
}
# Further out autodiff often is not even finite.
AUTODIFF = (("float32", 20.0), ("bfloat16", 5.0))

CHUNK = 1 << 22
# Where long double is no wider than float64 (MSVC, macOS on ARM), it is float64: exact enough, but worth saying.
LONG_DOUBLE = "long double" if np.finfo(np.longdouble).nmant > 52 else "float64 (long double is no wider here)"

Slope = Callable[..., tuple[Any, Any]]
Static = Mapping[str, Any] | None


def derivative(f: Callable[..., Any], static: Static = None) -> Callable[[Any], np.ndarray]:
    """f′ of an elementwise function: ``jax.vjp`` with a cotangent of ones, under ``jax.jit``."""

    @jax.jit
    def slope(x: Any) -> Any:
        y, pullback = jax.vjp(lambda x: f(x, **(static or {})), x)
        return pullback(jnp.ones_like(y))[0]

    return lambda x: np.asarray(slope(x))


class Exact:
    """The exact derivative at points x, none of them nan, and how large an ULP is there: in long double, or in float64
    ``on_device``, which is JAX's default and needs its x64 mode.

    An ULP is the spacing of x's dtype at the exact derivative; near a root, where terms of more than twice its size
    cancel, it is the spacing at the largest of them. A result below the smallest normal number
    counts as zero, and so does a subnormal x where that serves better: XLA flushes both on CPU. Float16 it computes in
    float32: subnormal results are there, and are held to their spacing.
    """

    def __init__(self, slope: Slope, x: np.ndarray, static: Static = None, *, on_device: bool = False):
        info = jnp.finfo(x.dtype)
        xp = self.xp = jnp if on_device else np
        self.x = x
        self.wide = jnp.float64 if on_device else np.longdouble
        self.tiny = float(info.smallest_normal)
        wide = self._widened(x)
        with np.errstate(all="ignore"):
            self.value, largest = slope(wide, **(static or {}))
            self.at_zero = slope(xp.zeros(1, self.wide), **(static or {}))[0]
        # A number that is 0 near a kink may stand for one beside it, where it is not.
        self.at_zero = xp.where(xp.isnan(self.at_zero), self.value, self.at_zero)
        size = xp.where(abs(self.value) < largest / 2, largest, abs(self.value))
        exponent = xp.maximum(xp.frexp(size)[1] - 1, int(info.minexp))
        self.unit = xp.ldexp(xp.ones((), self.wide), exponent - int(info.nmant))
        self.subnormal = abs(wide) < self.tiny

    def errors(self, got: np.ndarray) -> Any:
        """Errors of derivatives in ULP; infinite where they are nan, and nan where there is no derivative."""
        xp, wide = self.xp, self._widened(got)
        error = self._distance(wide, self.value)
        error = xp.where(self.subnormal, xp.minimum(error, self._distance(wide, self.at_zero)), error) / self.unit
        return xp.where(xp.isnan(self.value), xp.nan, xp.where(xp.isnan(error), xp.inf, error))

    def _widened(self, x: np.ndarray) -> Any:
        # By way of NumPy's float64: bfloat16 has no cast to long double, and XLA flushes on CPU.
        return self.xp.asarray(x.astype(np.float64), self.wide)

    def _distance(self, got: Any, value: Any) -> Any:
        distance = abs(got - value)
        if self.x.dtype == np.float16:
            return distance
        return self.xp.where(abs(value) < self.tiny, self.xp.maximum(abs(got) - self.tiny, 0), distance)


def ulp_error(f: Callable[..., Any], slope: Slope, x: np.ndarray, static: Static = None) -> np.ndarray:
    """Errors of f′ in ULP of x's dtype, by :class:`Exact`.

    Args:
        f: an elementwise function.
        slope: its derivative in long double, as in :class:`dlfn.registry.entry.Case`.
        x: points in a dtype of 32 or 16 bits, none of them nan.
        static: keyword arguments of both.

    >>> x = np.array([1.0, 2.0], np.float32)
    >>> [float(error) for error in ulp_error(lambda x: x**3, lambda x: (3 * x * x * (1 + 2**-20), 3 * x * x), x)]
    [12.0, 12.0]
    """
    return Exact(slope, x, static).errors(derivative(f, static)(x))


def inputs(dtype: str, slope: Slope, static: Static = None, *, exhaustive: bool = False) -> Iterator[np.ndarray]:
    """The points to measure at, in chunks: all of a half type, of float32 a dense sample or, if ``exhaustive``, all."""
    if dtype != "float32":
        yield _numbers(np.arange(1 << 16, dtype=np.uint16).view(jnp.dtype(dtype)))
    elif exhaustive:
        for start in range(0, 1 << 32, CHUNK):
            yield _numbers(np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32))
    else:
        yield _sample(slope, static)


def _numbers(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a signalling nan raises it
        return x[~np.isnan(x)]


def _sample(slope: Slope, static: Static) -> np.ndarray:
    """Some 10⁶ float32 numbers: even steps where exponentials live, every exponent, and every point where f′ changes
    its sign, saturates or underflows, with its neighbours near and far."""
    rng = np.random.default_rng(0)
    info = np.finfo(np.float32)
    exponents = np.repeat(np.arange(-149, 128), 600)
    sizes = np.ldexp(rng.uniform(1, 2, exponents.size), exponents)
    ends = [0.0, -0.0, info.max, -info.max, info.tiny, -info.tiny, np.inf, -np.inf]
    spread = [np.linspace(-20, 20, 400_001), np.linspace(-110, 110, 220_001), sizes, -sizes, ends]
    x = np.unique(np.concatenate(spread).astype(np.float32))
    with np.errstate(all="ignore"):
        value = np.asarray(slope(x.astype(np.longdouble), **(static or {}))[0])
    marks = [value, np.abs(value) - info.tiny, np.abs(1 - value) - info.eps]
    at = np.flatnonzero(np.any([np.diff(np.sign(mark)) != 0 for mark in marks], axis=0))
    x64 = x.astype(np.float64)
    # A step around ±20 has 1000 numbers, so that nearly all of those next to the point are in.
    inside = np.clip(x64, *np.finfo(np.float32).max * np.array([-1.0, 1.0]))
    near = [np.linspace(inside[max(i - 1, 0)], inside[min(i + 2, len(x) - 1)], 4001) for i in at if np.isfinite(x[i])]
    far = [x64[i] * np.linspace(0.97, 1.03, 2001) for i in at]
    with np.errstate(all="ignore"):
        return np.concatenate([x, *(points.astype(np.float32) for points in near + far)])


@dataclasses.dataclass
class Figure:
    """The largest error over inputs of a dtype with \\|x\\| up to a bound, in ULP, and the input ``at`` which it is."""

    dtype: str
    bound: float
    ulp: float = -1.0
    at: float = math.nan

    def update(self, x: np.ndarray, error: np.ndarray) -> None:
        error = np.where(np.abs(x.astype(np.float64)) <= self.bound, error, -1)
        if error.size and (worst := int(np.argmax(error))) >= 0 and error[worst] > self.ulp:
            self.ulp, self.at = float(error[worst]), float(x[worst])

    def __str__(self) -> str:
        return f"{self.ulp:.3g} @ {self.at:.6g}" if self.ulp else "0"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One case: figures of the op, in the order of ``BOUNDS``, and of autodiff, in the order of ``AUTODIFF``."""

    name: str
    ours: tuple[Figure, ...]
    autodiff: tuple[Figure, ...]

    @property
    def ok(self) -> bool:
        return all(figure.ulp <= BOUNDS[figure.dtype, figure.bound] for figure in self.ours)


def measure(
    entry: Entry, case: Case, *, exhaustive: bool = False, watch: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Measurement:
    """Measures f′ of one case, and beside it autodiff of jax.nn's function (or of the definition, where the entry's
    benchmark has none). ``watch`` wraps the iteration over chunks of float32, to show progress."""
    if case.slope is None:
        raise InputError(f"{entry.op.name}/{case.name} has no closed form of its derivative to measure against")
    baselines = [bench.baselines for bench in entry.benches if bench.name == case.name]
    plain = next((b["jax.nn"] for b in baselines if "jax.nn" in b), autodiff(entry.op))
    rivals = [
        (derivative(f, case.static), tuple(Figure(*region) for region in regions))
        for f, regions in ((entry.op, BOUNDS), (plain, AUTODIFF))
    ]
    for dtype in ("float32", "bfloat16", "float16"):
        chunks = inputs(dtype, case.slope, case.static, exhaustive=exhaustive)
        for x in watch(chunks) if dtype == "float32" else chunks:
            exact = Exact(case.slope, x, case.static)
            for slope, figures in rivals:
                if of_dtype := [figure for figure in figures if figure.dtype == dtype]:
                    error = exact.errors(slope(x))
                    for figure in of_dtype:
                        figure.update(x, error)
    name = entry.op.name if len(entry.cases) == 1 else f"{entry.op.name} {case.name}"
    return Measurement(name, rivals[0][1], rivals[1][1])


def report(measurements: Iterable[Measurement]) -> str:
    """The table of measurements, with the bounds."""
    measurements = list(measurements)

    def heading(region: tuple[str, float]) -> str:
        return region[0] + (f" |x| ≤ {region[1]:g}" if region[1] < math.inf else "")

    header = ("op", *map(heading, BOUNDS), *(f"autodiff, {heading(region)}" for region in AUTODIFF), "")
    lines = [
        (m.name, *map(str, m.ours), *map(str, m.autodiff), "ok" if m.ok else "FAIL")
        for m in measurements
    ]  # fmt: skip
    bounds = ("bound", *(f"{bound:g}" for bound in BOUNDS.values()), *[""] * len(AUTODIFF), "")
    missed = sum(not m.ok for m in measurements)
    return "\n".join([
        format_table(header, [*lines, bounds]),
        f"largest error of f′ in ULP @ x, against {LONG_DOUBLE}; "
        + (f"{missed} MISS THEIR BOUNDS" if missed else "all within their bounds"),
    ])  # fmt: skip
