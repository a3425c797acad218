"""Where values that are not finite, zero, or without digits were born, told from each equation's operands and results.

An origin travels with the value that it spoilt. A nan is born where no operand is nan. An inf is born where all
operands are finite; one that was an argument or a constant is meant, as −inf in a mask is. A zero is noted where it
was rounded, and counts if a nan, an inf or a gradient of zeros comes of it; so is where a whole cotangent ends.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dlfn.check.plan import Step, is_inexact

__all__ = ["Origin", "Value", "born_outside", "judge"]

_ELEMENTWISE = frozenset((
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "clamp",
    "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
    "integer_pow", "lgamma", "log", "log1p", "logistic", "max", "min", "mul", "neg", "one_minus_square", "pow", "rem",
    "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh",
))  # fmt: skip
# A zero of theirs, of operands that are neither 0 nor infinite, is rounded.
_NEVER_ZERO = frozenset((
    "convert_element_type", "div", "erfc", "exp", "exp2", "integer_pow", "logistic", "mul", "pow", "square",
))  # fmt: skip
_RULES = ("backward rule of ", "backward of ", "rule of ")  # how dlfn.core.tracked names what derivatives run
_SUMS = frozenset(("add", "add_any", "sub", "reduce_sum"))


@dataclasses.dataclass(eq=False)
class Origin:
    """An equation that spoilt a value: what it did to which coordinates, with which operands there.

    Attributes:
        kind: "nan"; "inf"; "zero", rounded to 0; "dead", where a whole cotangent ends; or "lossy".
        number: its place in the order of execution.
        at: flat positions in its result.
        operands: the numbers that it had at the first of them; summaries of operands of another shape.
        cotangents: which of these depend on a cotangent.
        causes: the origins of what was already wrong with these.
        factor, error: of a lossy one, by how much it enlarged the relative error, and to what.
    """

    kind: str
    number: int
    step: Step | None
    path: tuple[str, ...]
    backward: bool
    shape: tuple[int, ...]
    dtype: str
    at: np.ndarray
    operands: tuple[Any, ...] = ()
    cotangents: tuple[bool, ...] = ()
    causes: tuple["Origin", ...] = ()
    factor: float = 1.0
    error: float = 0.0

    @property
    def primitive(self) -> str:
        return self.step.eqn.primitive.name if self.step else "argument"

    @property
    def derivative_of(self) -> str:
        """The primitive whose derivative the equation belongs to; empty where it belongs to the function itself."""
        of = self.step.derivative_of if self.step else ""
        return of if self.backward or self.primitive != of else ""

    @property
    def phase(self) -> str:
        in_rule = any(name.startswith(_RULES) for name in self.path)
        return "backward" if self.backward or self.derivative_of or in_rule else "forward"

    @property
    def lines(self) -> tuple[str, ...]:
        return self.step.lines if self.step else ()


@dataclasses.dataclass(eq=False)
class Value:
    """What is known of a value besides itself: its twin in float64, whether it depends on a cotangent, and origins."""

    narrow: Any
    wide: Any = None
    backward: bool = False
    rounded: bool = False  # whether the twin went through equations that have no form in float64
    unit: float = 0.0  # the coarsest spacing at 1 of the dtypes that it came through
    error: float = 0.0  # the largest, relative to the largest entry
    bad: Origin | None = None
    zero: Origin | None = None
    lossy: Origin | None = None

    @property
    def floating(self) -> bool:
        return is_inexact(self.narrow.dtype)

    def numbers(self) -> np.ndarray:
        """The value for NumPy's functions, some of which do not know the half types."""
        array = np.asarray(self.narrow)
        return array if array.dtype.kind == "c" or array.dtype.itemsize > 2 else array.astype(np.float32)


_count = itertools.count()


def born_outside(value: Value, name: str) -> None:
    """Notes a nan in an argument, which has no origin in an equation."""
    nan = np.isnan(value.numbers()) if value.floating else np.zeros(0, bool)
    if nan.any():
        at = np.flatnonzero(nan)
        value.bad = Origin("nan", next(_count), None, (name,), False, nan.shape, str(value.narrow.dtype), at)


def judge(step: Step, ins: Sequence[Value], outs: Sequence[Value], path: tuple[str, ...]) -> None:
    """Gives the results of an equation the origins of its operands, or new ones."""
    operands = [value for value in ins if value.floating]
    backward = any(value.backward for value in ins)
    numbers: list[np.ndarray] | None = None
    for out in outs:
        out.backward = backward
        if not out.floating or not out.narrow.size:
            continue
        numbers = [value.numbers() for value in operands] if numbers is None else numbers
        judged = _Judged(step, path, operands, numbers, out)
        judged.not_finite()
        judged.zeros()
        judged.digits()


class _Judged:
    """One result beside the operands."""

    def __init__(self, step: Step, path: tuple[str, ...], operands: list[Value], numbers: list[np.ndarray], out: Value):
        self.step, self.path, self.operands, self.numbers, self.out = step, path, operands, numbers, out
        self.result = out.numbers()
        self.elementwise = step.eqn.primitive.name in _ELEMENTWISE
        if self.elementwise:
            self.numbers = [np.broadcast_to(x, self.result.shape) for x in numbers]

    def not_finite(self) -> None:
        wrong = ~np.isfinite(self.result)
        if not wrong.any():
            return
        nan = np.isnan(self.result)
        kind, found, test = ("nan", nan, np.isnan) if nan.any() else ("inf", wrong, _not_finite)
        inherited = self.spread(test)
        fresh = found & ~inherited
        if not fresh.any():
            here = found if self.elementwise else ...
            sources = [v.bad for v, x in zip(self.operands, self.numbers) if v.bad and test(x)[here].any()]
            self.out.bad = min(sources, key=lambda origin: origin.number, default=None)
            if self.out.bad or kind == "inf":
                return
            fresh = found  # of a nan among the constants
        at = np.flatnonzero(fresh)
        causes = []
        for value, x in zip(self.operands, self.numbers):
            here = x.ravel()[at[:1]] if self.elementwise else x
            if value.bad and _not_finite(here).any():
                causes.append(value.bad)
            if value.zero and value.zero.kind == "zero" and self.elementwise and here == 0:
                causes.append(value.zero)
        self.out.bad = self.origin(kind, at, causes=tuple(causes))

    def spread(self, test: Any) -> np.ndarray:
        """The coordinates of the result that come from operands of which ``test`` holds."""
        if self.elementwise:
            return functools.reduce(np.logical_or, map(test, self.numbers), np.zeros(self.result.shape, bool))
        return np.full(self.result.shape, any(test(x).any() for x in self.numbers))

    def zeros(self) -> None:
        zero, name = self.result == 0, self.step.eqn.primitive.name
        if not zero.any():
            return
        live = [x for value, x in zip(self.operands, self.numbers) if value.backward]
        ended = zero.all() and bool(live) and all(x.any() for x in live) and name not in _SUMS
        at = np.flatnonzero(zero) if ended else np.flatnonzero(zero & self.rounded_to_zero())
        before = [value.zero for value, x in zip(self.operands, self.numbers) if value.zero and (x == 0).any()]
        if len(at):
            self.out.zero = self.origin("dead" if ended else "zero", at, causes=tuple(before))
        elif before:
            self.out.zero = min(before, key=lambda origin: origin.number)

    def rounded_to_zero(self) -> Any:
        """Where a result is 0 that would not be, computed exactly."""
        name = self.step.eqn.primitive.name
        if not self.elementwise or not self.numbers:
            return False
        proper = functools.reduce(np.logical_and, [np.isfinite(x) & (x != 0) for x in self.numbers])
        if name in _NEVER_ZERO:
            return proper
        if name in _SUMS and self.out.wide is not None:
            size = np.max([np.abs(x).max(initial=0) for x in self.numbers])
            return proper & (np.abs(self.out.wide) > 1e-12 * size)
        return False

    def digits(self) -> None:
        out, wide = self.out, self.out.wide
        if wide is None:
            return
        epsilon = float(jnp.finfo(out.narrow.dtype).eps)
        out.unit = max([epsilon, *(value.unit for value in self.operands)])
        out.rounded |= any(value.rounded for value in self.operands)
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(self.result.astype(wide.dtype) - wide)
            size = np.abs(wide).max()
        if not (np.isfinite(difference).all() and size > 0):
            return
        out.error = float(difference.max() / size)
        before = max((value.error for value in self.operands), default=0.0)
        sources = [value.lossy for value in self.operands if value.lossy]
        out.lossy = max(sources, key=lambda origin: origin.factor, default=None)
        if out.error < 16 * out.unit:
            out.lossy = None
            return
        factor = out.error / max(before, epsilon)
        if self.step.bits is None and (out.lossy is None or factor > out.lossy.factor):
            at = np.array([int(difference.argmax())])
            out.lossy = self.origin("lossy", at, causes=(), factor=factor, error=out.error)

    def origin(self, kind: str, at: np.ndarray, **more: Any) -> Origin:
        here = int(at[0])

        operands = tuple(x.ravel()[here].item() if self.elementwise else _summary(x) for x in self.numbers)
        cotangents = tuple(value.backward for value in self.operands)
        shape, dtype = self.result.shape, str(self.out.narrow.dtype)
        return Origin(
            kind, next(_count), self.step, self.path, self.out.backward, shape, dtype, at, operands, cotangents, **more
        )


def _not_finite(x: np.ndarray) -> np.ndarray:
    return ~np.isfinite(x)


def _summary(x: np.ndarray) -> str:
    if x.size == 1:
        return f"{x.item():.7g}"
    finite = x[np.isfinite(x)]
    parts = [f"{x.shape}"] if not finite.size else [f"{list(x.shape)} of {finite.min():.4g} to {finite.max():.4g}"]
    for name, count in (("nan", np.isnan(x).sum()), ("inf", np.isinf(x).sum())):
        if count:
            parts.append(f"{count} {name}")
    return ", ".join(parts)
