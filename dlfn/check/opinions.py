"""Opinions on a gradient, of which any may be missing: whatever fails in one of them, the others stand."""

import dataclasses
import functools
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.advice import kept_rules
from dlfn.check.differences import Search, Slopes
from dlfn.check.measures import NUMERIC, QUICK, cotangents, hand_gradients, projected, pulled_back, relative_error
from dlfn.check.rounding import Scatter, scatter
from dlfn.check.screening import identity
from dlfn.check.types import wrong_types
from dlfn.core import InputError, autodiff, backprop

__all__ = ["Opinions", "Setting", "derivatives", "gather", "opinion", "reason", "require_floating", "unlike_itself"]

_HERE = Path(__file__).parents[1]
_FOLDERS = (*(_HERE / room for room in ("check", "core", "registry", "testing")), Path(jax.__file__).parent)
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)
_STANDARD_LIBRARY = Path(os.__file__).parent


@dataclasses.dataclass(frozen=True)
class Missing:
    """Whose opinion could not be had, and why."""

    who: str
    why: str

    def __str__(self) -> str:
        return f"{self.who}: not available: {self.why.removeprefix(f'{self.who}: ')}"


def opinion(who: str, compute: Callable[[], Any]) -> Any:
    """What ``compute`` returns, or a :class:`Missing` with what it raises and at which line of the user's."""
    try:
        return compute()
    except Exception as error:
        return Missing(who, reason(error))


def reason(error: Exception) -> str:
    """The error in one line, with the last line of code in the traceback that is neither JAX's, dlfn's nor
    Python's."""
    text = str(error).strip().split("\n")[0]
    text = text if len(text) <= 200 else f"{text[:197]}..."
    if isinstance(error, InputError):  # which names its line
        return text
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_LIBRARIES) and Path(frame.filename).parent != _STANDARD_LIBRARY
    ]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"


def require_floating(who: str, dtype: Any) -> None:
    """Raises where a dtype is not one of floating point, or None."""
    try:
        floating = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise InputError(f"{who}: dtype is {dtype!r}, and must be a floating-point dtype, such as 'float32', or None")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What :func:`dlfn.compare` was asked for."""

    dtype: Any = "float64"
    tolerance: Any = None  # a number, once the dtype is known to be float64
    coordinates: int = 32
    seed: int = 0
    custom_jvp: bool = False
    reference: Callable[..., Any] | None = None
    seconds: float | None = None
    order: int = 1
    probe: bool = False
    at_kinks: str = "any"
    intended: Sequence[Callable[..., Any]] = ()
    rounded: bool = False  # whether anything is computed in a dtype that is narrower than float64

    def jit(self, f: Callable[..., Any]) -> Any:
        """``f`` compiled: quickly, or where its rounding is what is judged as it is compiled elsewhere."""
        return jax.jit(f, compiler_options=None if self.rounded else QUICK)


@dataclasses.dataclass(frozen=True)
class Opinions:
    """Gradients of a projection of a function, each a list of arrays; None where there is none, which a note explains.

    Attributes:
        loss: the projection of the function on a cotangent.
        again: what :func:`hand_gradients` returns in another call, of the same program or of one that is traced anew.
        value, our_value: that of the definitions or the reference, and that of the hand rules' forward.
        expected: the gradient that the others are compared with, and ``reference`` whose it is.
        hand, walked: those by hand rule and by backprop.
        sides: what a mixture of two cotangents gives by the hand rule, and the mixture of what each gives.
        differences: what finite differences found, for each leaf.
        rounding: what it may do to the value, and to each leaf of the gradient after that, in narrow dtypes.
        types: which rules return cotangents of other dtypes than their arguments.
    """

    loss: Callable[..., Any]
    again: Callable[[bool], Any]
    value: float
    our_value: float
    expected: list[np.ndarray]
    reference: str
    hand: list[np.ndarray] | None
    sides: tuple[list[np.ndarray], list[np.ndarray]] | None
    walked: list[np.ndarray] | None
    differences: list[Slopes] | None
    rounding: Scatter | None
    types: list[str]
    notes: list[str]


def gather(
    f: Callable[..., Any], truth: Callable[..., Any] | None, point: list[jax.Array], setting: Setting
) -> Opinions:
    """All opinions on the gradient of ``f`` at a point, a list of floating-point arrays; ``truth`` is the reference, or
    None for the definitions."""
    deadline = time.monotonic() + (math.inf if setting.seconds is None else setting.seconds)
    shapes = _output_types(f, point)
    if not any(jnp.issubdtype(s.dtype, jnp.floating) for s in jax.tree.leaves(shapes)):
        returned = ", ".join(str(s.dtype) for s in jax.tree.leaves(shapes)) or "nothing"
        raise InputError(
            f"compare: the function returns no floating-point array ({returned}), so there is no gradient to compare"
        )
    if truth is not None:
        _require_alike(shapes, _output_types(truth, point))
    drawn = cotangents(shapes, setting.seed)
    others = [None if c is None else -c for c in cotangents(shapes, (setting.seed, 1))]  # that of a number: positive
    loss = projected(f, drawn)
    # Where the function returns a single number, its gradient is shown without the cotangent, as jax.grad gives it.
    unit = float(drawn[0]) if len(drawn) == 1 and drawn[0] is not None and drawn[0].shape == () else 1.0

    def shown(gradient: Any) -> list[np.ndarray]:
        return [np.asarray(leaf, np.float64) / unit + 0.0 for leaf in gradient]  # no zero is negative

    notes: list[str] = []

    def noted(found: Any) -> Any:
        if isinstance(found, Missing):
            notes.append(str(found))
            return None
        return found

    if not setting.custom_jvp:
        kept = opinion("", lambda: list(kept_rules(loss, point)))
        notes += [] if isinstance(kept, Missing) else kept
    wrong = opinion("", lambda: list(wrong_types(loss, point)))
    types = [] if isinstance(wrong, Missing) else wrong
    notes += types
    program = _by_hand(f, setting)

    def again(anew: bool) -> Any:
        return (_by_hand(f, setting) if anew else program)(point, drawn, others)

    by_hand = opinion("hand rule", lambda: again(False))
    reference = "autodiff" if truth is None else "reference"
    defined = opinion(reference, lambda: _by_definition(truth or f, drawn, point, setting, truth is not None))
    if isinstance(by_hand, Missing) and isinstance(defined, Missing):
        raise InputError(f"compare: there is no gradient to compare. {by_hand}. {defined}")
    hand: Any = None
    value: Any = None
    our_value: Any = None
    found, sides = noted(by_hand), None
    if found is not None:
        hand, *mixture = map(shown, found[1:])
        our_value, sides = float(found[0]) / unit, (mixture[0], mixture[1])
    defined, rounding = noted(defined), None
    if defined is not None:
        if isinstance(defined, Scatter):
            rounding = defined.scaled(1 / unit)
            defined = defined.exact[0], defined.exact[1:]
        value, expected = float(defined[0]) / unit, shown(defined[1])
        our_value = value if our_value is None else our_value
    else:
        reference, expected = "hand rule", hand
        # Without differentiation a rule's function runs, and with it the rule's forward.
        value = opinion("value", lambda: float(loss(point)) / unit)
        value = our_value if isinstance(value, Missing) else value
    over = f"the {setting.seconds} seconds were over"

    def in_time(who: str, compute: Callable[[], Any]) -> Any:
        return noted(opinion(who, compute) if time.monotonic() < deadline else Missing(who, over))

    walked = in_time("backprop", lambda: shown(setting.jit(backprop(loss))(point)))
    differences = None
    # The values of a function do not tell what a rule is intended to be that is not their slope.
    if not setting.rounded and setting.coordinates and not setting.intended:
        search = Search(setting.coordinates, setting.seed, setting.tolerance, deadline)
        other = hand if defined is not None else None
        tried = in_time(NUMERIC, lambda: search.slopes(lambda point: loss(point) / unit, point, expected, other))
        if tried is not None:
            differences, skipped = tried
            notes += [f"{NUMERIC}: {skipped} of {len(point)} leaves were left out: {over}"] if skipped else []
    if defined is None and differences is None:
        notes.append("there is nothing to compare the hand rule with; pass reference=, a function with the same values")
    return Opinions(
        loss, again, value, our_value, expected, reference, hand, sides, walked, differences, rounding, types, notes
    )


def derivatives(
    f: Callable[..., Any], truth: Callable[..., Any] | None, point: list[jax.Array], setting: Setting
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The gradient of a projection of ``f`` by its hand rules, and by its definitions or those of ``truth``: functions
    of a point, to be compared as others are."""
    drawn = cotangents(_output_types(f, point), setting.seed)
    plain = autodiff(projected(truth or f, drawn), custom_jvp=setting.custom_jvp, keep=setting.intended)
    return jax.grad(projected(f, drawn)), jax.grad(plain)


def unlike_itself(found: Opinions, point: list[jax.Array]) -> float:
    """By how much value and gradient by hand rule differ between equal calls of one program, or of two that are traced
    anew, relative to the largest entry of each. What is traced to the same program again is not compiled again."""

    def calls() -> list[Any]:
        traced = [jax.make_jaxpr(jax.value_and_grad(found.loss))(point) for _ in range(2)]
        same = identity(traced[0]) == identity(traced[1])
        return [found.again(False), found.again(False), *([] if same else [found.again(True)])]

    made = opinion("", calls)
    if isinstance(made, Missing):
        return 0.0
    first, *others = (list(map(np.asarray, jax.tree.leaves(call[:2]))) for call in made)
    gaps = [relative_error(b, a) for other in others for a, b in zip(first, other, strict=True)]
    return max((gap for gap in gaps if gap is not None), default=0.0)


def _by_hand(f: Callable[..., Any], setting: Setting) -> Callable[..., Any]:
    """:func:`hand_gradients` as one program. Functions that jit refuses, as their Python code depends on values, run
    outside it, as ``jax.grad`` runs them."""
    program = setting.jit(functools.partial(hand_gradients, f))

    def by_hand(*args: Any) -> Any:
        try:
            return program(*args)
        except jax.errors.ConcretizationTypeError:
            return hand_gradients(f, *args, compiled=False)

    return by_hand


def _by_definition(f: Callable[..., Any], drawn: Any, point: Any, setting: Setting, as_it_is: bool) -> Any:
    """Value and gradient with every hand rule replaced by its definition; as a :class:`Scatter` where there is
    rounding. ``as_it_is``: the function itself where its definitions cannot be differentiated."""

    def gradient(f: Callable[..., Any]) -> Any:
        if setting.rounded:
            return scatter(lambda point: pulled_back(f, point, drawn), point, setting.seed)
        return setting.jit(jax.value_and_grad(projected(f, drawn)))(point)

    stripped = autodiff(f, custom_jvp=setting.custom_jvp, keep=setting.intended)
    if not as_it_is:
        return gradient(stripped)
    by_definition = opinion("", lambda: gradient(stripped))
    return gradient(f) if isinstance(by_definition, Missing) else by_definition


def _output_types(f: Callable[..., Any], point: Any) -> Any:
    """The types of the outputs, also of a function that jit refuses."""
    try:
        return jax.eval_shape(f, point)
    except jax.errors.ConcretizationTypeError:
        return jax.tree.map(lambda y: jax.ShapeDtypeStruct(jnp.shape(y), jnp.result_type(y)), f(point))


def _require_alike(ours: Any, theirs: Any) -> None:
    described = [
        f"{jax.tree.structure(shapes)}: {', '.join(f'{s.dtype}{list(s.shape)}' for s in jax.tree.leaves(shapes))}"
        for shapes in (ours, theirs)
    ]
    alike = [[s.shape for s in jax.tree.leaves(shapes)] for shapes in (ours, theirs)]
    if jax.tree.structure(ours) != jax.tree.structure(theirs) or alike[0] != alike[1]:
        raise InputError(
            f"compare: reference returns {described[1]}, and must return what the function does, {described[0]}"
        )
