"""Opinions on a gradient, of which any may be missing: whatever fails in one of them, the others stand."""

import dataclasses
import functools
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.advice import kept_rules
from dlfn.check.measures import NUMERIC, cotangents, finite_differences, hand_gradients, norm, projected
from dlfn.core import InputError, autodiff, backprop

__all__ = ["Opinions", "Setting", "gather", "reason"]

_HERE = Path(__file__).parents[1]
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in (_HERE / "check", _HERE / "core", Path(jax.__file__).parent))
# How many coordinates in all finite differences try where the function must run outside jit.
_UNCOMPILED = 24


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
    """The error in one line, with the last line of code in the traceback that is neither JAX's nor dlfn's."""
    text = str(error).strip().split("\n")[0]
    text = text if len(text) <= 200 else f"{text[:197]}..."
    if isinstance(error, InputError):  # which names its line
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARIES)]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What :func:`dlfn.compare` was asked for."""

    dtype: Any
    tolerance: Any  # a number, once the dtype is known
    coordinates: int
    seed: int
    custom_jvp: bool
    reference: Callable[..., Any] | None
    probe: bool
    at_kinks: str
    intended: Sequence[Callable[..., Any]]


@dataclasses.dataclass(frozen=True)
class Opinions:
    """Gradients of a projection of a function, each a list of arrays; None where there is none, which a note explains.

    Attributes:
        loss: the projection of the function on a cotangent.
        value, our_value: that of the definitions or the reference, and that of the hand rules' forward.
        expected: the gradient that the others are compared with, and ``reference`` whose it is.
        hand, walked: those by hand rule and by backprop.
        sides: what a mixture of two cotangents gives by the hand rule, and the mixture of what each gives.
        differences: for each leaf the coordinates that finite differences tried, what they found, and how much of it
            may be rounding.
    """

    loss: Callable[..., Any]
    value: float
    our_value: float
    expected: list[np.ndarray]
    reference: str
    hand: list[np.ndarray] | None
    sides: tuple[list[np.ndarray], list[np.ndarray]] | None
    walked: list[np.ndarray] | None
    differences: list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None
    notes: list[str]


def gather(
    f: Callable[..., Any], truth: Callable[..., Any] | None, point: list[jax.Array], setting: Setting
) -> Opinions:
    """All opinions on the gradient of ``f`` at a point, a list of floating-point arrays; ``truth`` is the reference, or
    None for the definitions."""
    shapes = _output_types(f, point)
    if not any(jnp.issubdtype(s.dtype, jnp.floating) for s in jax.tree.leaves(shapes)):
        raise InputError("compare: the function returns no floating-point array, so there is no gradient to compare")
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
    by_hand = opinion("hand rule", lambda: _by_hand(f, point, drawn, others))
    if truth is None:
        reference = "autodiff"
        defined = opinion(reference, lambda: _by_definition(loss, point, setting.custom_jvp, setting.intended))
    else:
        reference = "reference"
        defined = opinion(reference, lambda: _by_reference(projected(truth, drawn), point, setting.custom_jvp))
    if isinstance(by_hand, Missing) and isinstance(defined, Missing):
        raise InputError(f"compare: there is no gradient to compare. {by_hand}. {defined}")
    hand: Any = None
    value: Any = None
    our_value: Any = None
    found, sides = noted(by_hand), None
    if found is not None:
        hand, *mixture = map(shown, found[1:])
        our_value, sides = float(found[0]) / unit, (mixture[0], mixture[1])
    defined = noted(defined)
    if defined is not None:
        value, expected = float(defined[0]) / unit, shown(defined[1])
        our_value = value if our_value is None else our_value
    else:
        reference, expected = "hand rule", hand
        # Without differentiation a rule's function runs, and with it the rule's forward.
        value = opinion("value", lambda: float(loss(point)) / unit)
        value = our_value if isinstance(value, Missing) else value
    walked = noted(opinion("backprop", lambda: shown(jax.jit(backprop(loss))(point))))
    differences = None
    # The values of a function do not tell what a rule is intended to be that is not their slope.
    if jnp.result_type(*point) == jnp.float64 and setting.coordinates and not setting.intended:
        rng = np.random.default_rng(setting.seed)
        chosen = [np.sort(rng.permutation(x.size)[: setting.coordinates]) for x in point]
        if hand is not None and defined is not None:
            chosen = list(map(functools.partial(_with_the_worst, setting.tolerance), chosen, hand, expected))
        tried = noted(opinion(NUMERIC, lambda: _by_differences(loss, point, chosen)))
        if tried is not None:
            differences = [(at, values / unit, rounding / unit) for at, (values, rounding) in zip(*tried, strict=True)]
    if defined is None and differences is None:
        notes.append("there is nothing to compare the hand rule with; pass reference=, a function with the same values")
    return Opinions(loss, value, our_value, expected, reference, hand, sides, walked, differences, notes)


def _by_hand(f: Callable[..., Any], point: Any, drawn: Any, others: Any) -> Any:
    """What :func:`hand_gradients` returns. Functions that jit refuses, as their Python code depends on values, run
    outside it, as ``jax.grad`` runs them."""
    try:
        return jax.jit(functools.partial(hand_gradients, f))(point, drawn, others)
    except jax.errors.ConcretizationTypeError:
        return hand_gradients(f, point, drawn, others, compiled=False)


def _by_definition(loss: Callable[..., Any], point: Any, custom_jvp: bool, keep: Any = ()) -> tuple[Any, Any]:
    """Value and gradient with every hand rule but those to keep replaced by its definition."""
    return jax.jit(jax.value_and_grad(autodiff(loss, custom_jvp=custom_jvp, keep=keep)))(point)


def _by_reference(loss: Callable[..., Any], point: Any, custom_jvp: bool) -> tuple[Any, Any]:
    """Value and gradient of a reference, by its definitions too, or as it is where those cannot be differentiated."""
    by_definition = opinion("", lambda: _by_definition(loss, point, custom_jvp))
    return jax.jit(jax.value_and_grad(loss))(point) if isinstance(by_definition, Missing) else by_definition


def _by_differences(loss: Callable[..., Any], point: list[jax.Array], chosen: Sequence[Any]) -> tuple[Any, Any]:
    """The flat coordinates of each leaf that were tried, and what :func:`finite_differences` found there."""
    try:
        return chosen, finite_differences(loss, point, chosen)
    except jax.errors.ConcretizationTypeError:
        few = [np.asarray(at)[: max(1, _UNCOMPILED // len(point))] for at in chosen]
        return few, finite_differences(loss, point, few, compiled=False)


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


def _with_the_worst(tolerance: float, chosen: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The chosen coordinates, and as many more where two gradients differ most, and by more than the tolerance."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(ours - theirs).ravel()
    gap = np.where(np.isfinite(gap), gap, np.inf)
    worst = np.argsort(-gap, kind="stable")[: max(len(chosen), 1)]
    return np.union1d(chosen, worst[gap[worst] > tolerance * norm(ours[np.isfinite(ours)])])
