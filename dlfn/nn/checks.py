"""What layers check: their settings when they are made, and params and state when they are applied."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn.layer import Layer, brief, spelled, title
from dlfn.ops.spatial.windows import pads, per_axis, window_sizes

__all__ = ["held", "kept", "require_keywords", "require_layer", "require_sizes", "require_windows", "required_key"]


def require_sizes(layer: Layer, *names: str) -> None:
    """The fields of these names must be positive integers."""
    for name in names:
        value = getattr(layer, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise InputError(f"{type(layer).__name__}: {name} is {value!r}, and must be a positive integer")


def kept(
    owner: str, keep_prob: float | None, rate: float | None, *, default: float | None = 1.0, prefix: str = ""
) -> float:
    """The probability of dropout to keep an entry, of a ``keep_prob``, which says it, or a ``rate``, 1 minus it.

    Args:
        owner: which layer or model has the two settings.
        keep_prob, rate: as they are given. A ``keep_prob`` that is None is not, nor one of 1 where that is the default.
        default: where neither is given; None where one must be.
        prefix: of the names of the settings.

    Raises:
        InputError: when both are given, neither is and one must be, and on a number out of range.

    >>> kept("Dropout", 0.9, None), kept("Dropout", None, 0.1), kept("Dropout", None, None, default=0.5)
    (0.9, 0.9, 0.5)
    """
    names = f"{prefix}keep_prob", f"{prefix}rate"
    if rate is None:
        keep_prob = default if keep_prob is None else keep_prob
        if keep_prob is None:
            raise InputError(f"{owner}: give {names[0]}, the fraction kept, or {names[1]}, the fraction dropped")
        if not isinstance(keep_prob, Real) or not 0 < keep_prob <= 1:
            raise InputError(f"{owner}: {names[0]} is the fraction kept, in (0, 1], got {keep_prob}")
        return keep_prob
    if keep_prob is not None and not keep_prob == default == 1:
        raise InputError(
            f"{owner}: {names[0]} is {keep_prob!r} and {names[1]} is {rate!r}, of which one must be given; the "
            f"fraction kept is 1 - {names[1]}"
        )
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= rate < 1:
        raise InputError(f"{owner}: {names[1]} is the fraction dropped, in [0, 1), got {rate}")
    return float(1 - Decimal(str(rate)))  # 0.1 of 0.9, where 1 - 0.9 is 0.09999999999999998


def require_windows(layer: Layer, window: Any, padding: Any = "VALID", *, strides: Any = 1, dilation: Any = 1) -> None:
    """Settings of windows must be those that the ops take."""
    kind = type(layer).__name__
    sizes = window_sizes(kind, "window", window)
    given = {"strides": strides, "dilation": dilation}
    n = len(sizes)
    pads(kind, padding, (1,) * n, sizes, *(per_axis(kind, name, value, n) for name, value in given.items()))


def require_keywords(function: Callable[..., Any], static: Iterable[str]) -> None:
    """The function must have keywords of these names, as far as it says which it has."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of builtins
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY or p.default is not p.empty]
    for name in static:
        if name not in parameters:
            found = suggestion(name, known) if known else "it has none"
            raise InputError(f"{spelled(function)} has no setting {name!r}; {found}")


def require_layer(outer: Layer, layer: Any, kind: type[Layer] | tuple[type[Layer], ...], what: str) -> None:
    """What is inside another layer must be of a kind, such as a cell."""
    if not isinstance(layer, kind):
        raise InputError(f"{type(outer).__name__}: {title(layer)} must be {what}")


def required_key(layer: Layer, key: Any) -> Any:
    """The key of a layer that draws in training."""
    if key is None:
        raise InputError(
            f"{type(layer).__name__} needs a key in training; "
            "call model.apply(params, state, x, key=jax.random.key(0), train=True)"
        )
    return key


def held(layer: Layer, what: str, values: Any, *names: str) -> tuple[Any, ...]:
    """The entries of these names in params or state."""
    if not isinstance(values, Mapping) or not all(name in values for name in names):
        raise InputError(
            f"{title(layer)}: {what} must be a dict of {', '.join(names)}, as init returned it, got {brief(values)}"
        )
    return tuple(values[name] for name in names)
