"""What layers check: their settings when they are made, and params and state when they are applied."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn.layer import Layer, brief, spelled, title
from dlfn.ops.spatial.windows import pads, per_axis, window_sizes

__all__ = ["held", "require_keywords", "require_layer", "require_sizes", "require_windows"]


def require_sizes(layer: Layer, *names: str) -> None:
    """The fields of these names must be positive integers."""
    for name in names:
        value = getattr(layer, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise InputError(f"{type(layer).__name__}: {name} is {value!r}, and must be a positive integer")


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


def held(layer: Layer, what: str, values: Any, *names: str) -> tuple[Any, ...]:
    """The entries of these names in params or state."""
    if not isinstance(values, Mapping) or not all(name in values for name in names):
        raise InputError(
            f"{title(layer)}: {what} must be a dict of {', '.join(names)}, as init returned it, got {brief(values)}"
        )
    return tuple(values[name] for name in names)
