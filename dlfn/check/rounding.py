r"""How far rounding may move a gradient: the same program in float64, with and without a small error at each equation.

A program that is traced in float32 or bfloat16 is run again with every array in float64, which gives what it would
compute without rounding. It is run :math:`K` more times with every number that it computes multiplied by
:math:`1 + u r`, where u is the rounding unit of the number's dtype and r is random, :math:`\tfrac12 \leq |r| \leq 1`:
this is Monte Carlo arithmetic. How far these runs scatter says how well conditioned the computation is at these
arguments.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from dlfn.check.measures import QUICK, norm
from dlfn.core import jaxprs
from dlfn.core.entering import ENTERED, Place, Visitor, enter

__all__ = ["RUNS", "Scatter", "measure", "precision", "rounds", "scatter", "unit"]

RUNS = 8


@dataclasses.dataclass(frozen=True)
class Scatter:
    r"""What rounding does to the arrays that a program returns.

    Attributes:
        exact: the arrays without rounding, in float64.
        largest: for each array g, :math:`M = \max_k \|g_k - g\|_\infty` over the perturbed runs.
        length: for each array, :math:`\max_k \|g_k - g\|_2`.
        slope: for each array, :math:`M' = \max_k |\langle g_k - g, g\rangle| / \langle g, g\rangle`.
        unit: u, the rounding unit of the coarsest argument.
        floor: the smallest number that its dtype can be trusted with.
    """

    exact: list[np.ndarray]
    largest: np.ndarray
    length: np.ndarray
    slope: np.ndarray
    unit: float
    floor: float

    def bound(self, i: int) -> float:
        r"""How far any entry of a rounded array of n may be from the exact one: :math:`3 (1 + n^{-1/2}) M +
        2 u \|g\|_\infty`, for the largest of few random numbers says less of their size than that of many."""
        return float(3 * (1 + self._few(i)) * self.largest[i] + 2 * self.unit * norm(self.exact[i]) + self.floor)

    def _few(self, i: int) -> float:
        return max(1, self.exact[i].size) ** -0.5

    def tests(self, i: int, got: Any) -> dict[str, tuple[float, float]]:
        r"""What of a rounded array is measured beside its entries, and how much that may be, relative to the exact one.

        As a whole it may be off by the factor :math:`1 \pm (4 M' + u (1 + n^{-1/2}))`, where n is the number of
        entries that matter, :math:`(\sum g^2)^2 / \sum g^4`, for single roundings cancel in a sum of many: this finds a
        wrong factor that is far smaller than the errors of the entries. The root of the mean of their squares may be
        that of the perturbed runs, if they are many, and half a unit: this finds sums that are made in a half type one
        term after the other, whose errors grow with the number of terms.
        """
        g = np.ravel(self.exact[i])
        gap, size = np.ravel(np.asarray(got, np.float64)) - g, float(np.linalg.norm(g))
        g, gap, length = (x / (size or 1.0) for x in (g, gap, self.length[i]))
        matter = float(np.sum(g**4)) ** 0.5
        tests = {"as a whole": (abs(float(np.dot(gap, g))), float(4 * self.slope[i] + self.unit * (1 + matter)))}
        if self.unit > unit("float32"):
            tests["by root mean square"] = (
                float(np.linalg.norm(gap)),
                float((1 + 5 * self._few(i)) * length + self.unit / 2),
            )
        return tests

    def scaled(self, factor: float) -> "Scatter":
        """That of the arrays times a factor."""
        exact, size = [factor * g for g in self.exact], abs(factor)
        return dataclasses.replace(self, exact=exact, largest=size * self.largest, length=size * self.length)


def scatter(program: Callable[[list[jax.Array]], Any], point: list[jax.Array], seed: int = 0) -> Scatter:
    """Measures a program, a function of a list of arrays, at a point in the dtypes in which it is to run."""
    jaxpr: Any = jax.make_jaxpr(lambda *point: jax.tree.leaves(program(list(point))))(*point)
    least = max(precision(x.dtype) for x in point)
    with jax.enable_x64(True):
        salts = np.random.default_rng(seed).integers(2**63, size=RUNS + 1, dtype=np.uint64)
        measured = jax.jit(functools.partial(measure, jaxpr, least), compiler_options=QUICK)
        exact, *measures = measured(list(map(_widened, point)), salts)
        largest, length, slope = (np.nan_to_num(np.asarray(m), nan=np.inf) for m in measures)
        return Scatter([np.asarray(g) for g in exact], largest, length, slope, *least)


def unit(dtype: Any) -> float:
    """The rounding unit: half the spacing of a dtype's numbers at 1."""
    return float(jnp.finfo(dtype).eps) / 2


def rounds(eqn: Any) -> bool:
    """Whether an equation rounds what it returns. Integers that become floating point are taken to be small."""
    if eqn.primitive.name != "convert_element_type":
        return eqn.primitive.name not in _EXACT
    source, target = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    floats = jnp.issubdtype(source, jnp.inexact) and jnp.issubdtype(target, jnp.inexact)
    return bool(floats and jnp.finfo(target).eps > jnp.finfo(source).eps)


def precision(dtype: Any) -> tuple[float, float]:
    """The rounding unit, and how far a number may be moved however small it is: float16 has numbers below its smallest
    normal one, and in the other dtypes these become 0."""
    info = jnp.finfo(dtype)
    return unit(dtype), float(info.smallest_subnormal if info.bits == 16 and info.nmant == 10 else info.tiny)


def measure(jaxpr: Any, least: tuple[float, float], point: list[Any], salts: Any) -> list[Any]:
    """The first four attributes of :class:`Scatter`, in one loop, whose first round is exact: so the program is
    compiled once, and only two of its gradients are in memory."""

    def run(state: Any, salt: Any) -> Any:
        i, exact, *most = state
        outs = _Noise(salt, jnp.where(i == 0, 0.0, 1.0), least).replay(jaxpr, point)
        exact = [jnp.where(i == 0, new, old) for new, old in zip(outs, exact, strict=True)]
        found = jnp.array([_gaps(new, old) for new, old in zip(outs, exact, strict=True)]).T
        return (i + 1, exact, *map(jnp.maximum, most, found)), None

    n = len(jaxpr.out_avals)
    start = 0, [jnp.zeros(aval.shape, jnp.float64) for aval in jaxpr.out_avals], *[jnp.zeros(n)] * 3
    (_, *found), _ = lax.scan(run, start, salts)
    return found


def _gaps(new: Any, exact: Any) -> list[Any]:
    gap, size = new - exact, jnp.sum(exact * exact)
    along = jnp.abs(jnp.sum(gap * exact)) / jnp.where(size > 0, size, 1.0)
    return [jnp.max(jnp.abs(gap), initial=0.0), jnp.sqrt(jnp.sum(gap * gap)), along]


# Equations that move numbers, or choose between them, and round none.
_EXACT = frozenset({
    "abs", "all_gather", "all_to_all", "argmax", "argmin", "bitcast_convert_type", "broadcast_in_dim", "ceil",
    "clamp", "complex", "concatenate", "conj", "copy", "copy_p", "cummax", "cummin", "device_put", "dynamic_slice",
    "dynamic_update_slice", "expand_dims", "floor", "gather", "imag", "iota", "max", "min", "neg",
    "optimization_barrier", "pad", "pcast", "pmax", "pmin", "ppermute", "pvary", "real", "reduce_max", "reduce_min",
    "reduce_precision", "reshape", "rev", "round", "scatter", "select_n", "sharding_constraint", "sign", "slice",
    "sort", "split", "squeeze", "stop_gradient", "top_k", "transpose",
})  # fmt: skip
_PRODUCTS = frozenset({"conv_general_dilated", "dot_general"})
# What JAX computes in a tree, in which every sum of neighbours is rounded, and is in many results.
_CUMULATIVE: dict[str, Callable[..., Any]] = {"cumsum": jnp.add, "cumprod": jnp.multiply, "cumlogsumexp": jnp.logaddexp}
# What reads the bits of its operands, or hands them to other code.
_OPAQUE = frozenset({"bitcast_convert_type", "debug_callback", "ffi_call", "io_callback", "pure_callback"})
# What combines two numbers by a program of its own.
_COMBINING = frozenset(
    {"reduce", "reduce_window", "scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul"}
)


class _Noise:
    """Runs jaxprs in float64, with errors of ``scale`` times what rounding in a number's dtype is, or ``least`` if that
    is more. A constant is as exact as its own dtype."""

    def __init__(self, salt: Any, scale: Any, least: tuple[float, float]):
        self.salt, self.scale, self.least = salt, scale, least
        self.counter = itertools.count(1)
        self.visitor = _Wide(lambda eqn: True, self.visit)

    def replay(self, jaxpr: Any, values: Sequence[Any]) -> list[Any]:
        noisy = [self.perturbed(x, aval.dtype) for x, aval in zip(values, jaxpr.in_avals, strict=True)]
        return self.visitor.run(jaxpr, noisy)[0]

    def visit(self, place: Place, values: list[Any]) -> tuple[Sequence[Any], None]:
        # An equation brings the settings under which it was traced, where float64 may be off.
        with jax.enable_x64(True):
            values = [self.operand(x, atom) for x, atom in zip(values, place.eqn.invars, strict=True)]
            return self.evaluate(place, values), None

    def evaluate(self, place: Place, values: list[Any]) -> Sequence[Any]:
        eqn, name = place.eqn, place.eqn.primitive.name
        if name == "custom_linear_solve":
            counts, programs = eqn.params["const_lengths"], eqn.params["jaxprs"]
            before = counts.matvec + counts.vecmat
            operands = [*values[before : before + counts.solve], *values[sum(counts) :]]
            return self.visitor.run(programs.solve, operands)[0]
        if name in ENTERED:
            return enter(self.visitor, eqn, values, place.around)[0]
        if name in _CUMULATIVE:
            dtype, combine = eqn.outvars[0].aval.dtype, _CUMULATIVE[name]
            rounded = lambda a, b: self.perturbed(combine(a, b), dtype)  # noqa: E731
            return [lax.associative_scan(rounded, values[0], eqn.params["reverse"], axis=eqn.params["axis"])]
        if name in _PRODUCTS:
            values = [self.perturbed(x, jnp.float64, (_of_sums(eqn), 0.0)) for x in values]
        outs = _in_float64(eqn, values)
        if not rounds(eqn):
            return outs
        return [self.perturbed(y, var.aval.dtype) for y, var in zip(outs, eqn.outvars, strict=True)]

    def operand(self, x: Any, atom: Any) -> Any:
        wide = _widened(x, atom.aval)
        dtype = getattr(atom.aval, "dtype", None)
        rounded = (
            isinstance(atom, Literal) and dtype is not None and jnp.issubdtype(dtype, jnp.floating) and not _is_exact(x)
        )
        return self.perturbed(wide, dtype, (0.0, 0.0)) if rounded else wide

    def perturbed(self, x: Any, dtype: Any, least: tuple[float, float] | None = None) -> Any:
        """r is a random function of the number itself, as the error of rounding is a function of what is rounded. So it
        differs from one step of a loop to the next, and equal numbers stay equal."""
        if not jnp.issubdtype(dtype, jnp.inexact):
            return x
        if jnp.issubdtype(dtype, jnp.complexfloating):
            real = jnp.finfo(dtype).dtype
            return lax.complex(self.perturbed(jnp.real(x), real), self.perturbed(jnp.imag(x), real))
        u, floor = max(precision(dtype), least or self.least)
        salt = self.salt ^ np.uint64((next(self.counter) * 0x9E3779B97F4A7C15) % 2**64)
        r = self.scale * _mixed(lax.bitcast_convert_type(x, jnp.uint64) ^ salt)
        return x * (1 + u * r) + jnp.where(x == 0, 0.0, floor * r)


class _Wide(Visitor):
    """What its bodies return is float64 too where it is a number in the program's text."""

    def run(self, jaxpr: Any, values: Sequence[Any], around: Any = ()) -> Any:
        outs, found = super().run(jaxpr, values, around)
        types = [atom.aval for atom in jaxprs.parts(jaxpr)[0].outvars]
        return [_widened(x, aval) for x, aval in zip(outs, types, strict=True)], found


def _of_sums(eqn: Any) -> float:
    """What rounding in the sums of a product comes to, as an error of each factor. They are made in float32 at least,
    one term after the other: the errors add up like a random walk, which is measured to be of this size on CPUs, and of
    less from about 2000 terms on. Other sums are made in pairs, and have errors like those of single terms."""
    left, right = (atom.aval for atom in eqn.invars[:2])
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        terms = math.prod(left.shape[axis] for axis in contracted)
    else:
        kernel = eqn.params["dimension_numbers"].rhs_spec
        terms = right.size // max(1, right.shape[kernel[0]])
    return min(unit(left.dtype), unit("float32")) * min(terms, 2048) ** 0.5 / 4


def _mixed(z: Any) -> Any:
    """A random number in ±[½, 1) for 64 bits, by mixing them as the generator splitmix64 does: a hundredth of the code
    of JAX's own generator, which would be compiled for every equation."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    size = 0.5 + (z >> np.uint64(12)).astype(jnp.float64) * 2.0**-53
    return jnp.where((z >> np.uint64(11)) & np.uint64(1), size, -size)


def _is_exact(constant: Any) -> bool:
    """Whether a number in a program's text is what was meant, such as 2, 0.75 or the length of an axis, and not what
    0.1 became by rounding."""
    x, u = float(constant), unit(np.asarray(constant).dtype)
    short = float(np.frexp(x)[0]) * 64
    return not np.isfinite(x) or short == round(short) or (x == round(x) and abs(x) * u <= 1)


def _wide_dtype(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.float64
    return jnp.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def _widened(x: Any, aval: Any = None) -> Any:
    """An array as float64, or as complex128; integers in the dtype that they were traced in."""
    dtype = (x if aval is None else aval).dtype
    return x if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.asarray(x, _wide_dtype(dtype))


def _in_float64(eqn: Any, values: list[Any]) -> list[Any]:
    """Evaluates an equation of float64 values. One that holds a program of its own, or depends on bits, is evaluated
    in its own dtypes."""
    name = eqn.primitive.name
    if name in _OPAQUE or (name not in _COMBINING and any(True for _ in jaxprs.subjaxprs(eqn))):
        values = [x if x.dtype == a.aval.dtype else x.astype(a.aval.dtype) for x, a in zip(values, eqn.invars)]
        outs = jaxprs.bind(eqn, values)
    else:
        wide = {key: _wide_parameter(value) for key, value in eqn.params.items()}
        outs = jaxprs.bind(eqn.replace(params=wide), values)
    return [_widened(y, var.aval) for y, var in zip(outs, eqn.outvars, strict=True)]


def _wide_parameter(value: Any) -> Any:
    """In the place of a floating-point dtype its wide one, and of a combining function of numbers that of wide ones."""
    if isinstance(value, np.dtype | type(jnp.float32)):
        return _wide_dtype(value)
    if not hasattr(value, "eqns"):
        return value
    avals: list[Any] = [var.aval for var in jaxprs.parts(value)[0].invars]
    wide_avals = [jax.ShapeDtypeStruct(aval.shape, _wide_dtype(aval.dtype)) for aval in avals]
    wide: Any = jax.make_jaxpr(lambda *xs: jaxprs.run(value, xs))(*wide_avals)
    return wide if hasattr(value, "jaxpr") else wide.jaxpr
