"""Checks of arguments, each of which raises an :class:`~dlfn.InputError` of one line."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn.core import InputError
from dlfn.ops.support.dtypes import upcast

__all__ = [
    "axes_of",
    "describe",
    "is_int",
    "require_axes",
    "require_axis",
    "require_broadcast",
    "require_distribution",
    "require_float",
    "require_int",
    "require_key",
    "require_number",
    "require_positive",
    "require_rank",
    "require_same_shape",
    "require_values",
]


def describe(x: Any) -> str:
    if isinstance(x, jax.Array):
        return f"{x.dtype}{list(x.shape)}"
    text = " ".join(repr(x).split())
    return f"{type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def is_int(value: Any) -> bool:
    """Whether it is an int, and no bool: to Python True is 1, but who writes it means another argument."""
    return isinstance(value, int) and not isinstance(value, bool)


def require_int(op: str, name: str, value: Any, must_be: str, holds: Callable[[int], bool] = lambda _: True) -> None:
    """Raises unless the setting is an int, and no bool, for which ``holds`` is true."""
    if not is_int(value) or not holds(value):
        raise InputError(f"{op}: {name} is {value!r}, and must be {must_be}")


def require_number(op: str, name: str, value: Any, must_be: str, holds: Callable[[Any], bool] = math.isfinite) -> None:
    """Raises unless the setting is a number of Python or NumPy, and no bool, for which ``holds`` is true."""
    if not (is_int(value) or isinstance(value, float | np.integer | np.floating)) or not holds(value):
        raise InputError(f"{op}: {name} is {value!r}, and must be {must_be}")


def require_key(op: str, key: Any) -> None:
    """Raises unless the argument is one random key, of either kind."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and not (isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.ndim == 1):
        raise InputError(f"{op}: key is {describe(key)}, and must be a random key: pass jax.random.key(0)")
    if typed and key.ndim:
        raise InputError(f"{op}: key is {describe(key)}, and must be one key: pass one of them, or use jax.vmap")


def require_float(op: str, name: str, x: Any) -> None:
    if not isinstance(x, jax.Array):
        raise InputError(f"{op}: {name} is {describe(x)}, and must be a floating-point array")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        hint = "write a number as 1.0, not 1" if jax.typeof(x).weak_type else f"pass {name}.astype(jnp.float32)"
        raise InputError(f"{op}: {name} is {describe(x)}, and must be floating point; {hint} if that is what you mean")


def require_rank(op: str, name: str, x: jax.Array, axis: str) -> None:
    if x.ndim == 0:
        raise InputError(
            f"{op}: {name} is the scalar {describe(x)}, and must have {axis}; pass {name}[None] for a row of one"
        )


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes that ``axis`` names, counted from 0. It is an int, a tuple of them, or None for all axes."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def require_axis(op: str, x: jax.Array, axis: Any) -> None:
    must_be = f"an int from {-x.ndim} to {x.ndim - 1}, as x is {describe(x)}"
    require_int(op, "axis", axis, must_be, lambda a: -x.ndim <= a < x.ndim)


def require_axes(op: str, x: jax.Array, axis: Any, *, all_by_none: bool = True) -> None:
    """Raises unless ``axis`` is an axis of x, a tuple of different ones or, with ``all_by_none``, None for all axes."""
    if axis is None and all_by_none:
        return
    for a in axis if isinstance(axis, tuple) else (axis,):
        require_axis(op, x, a)
    if len(set(axes_of(axis, x.ndim))) != len(axes_of(axis, x.ndim)):
        raise InputError(f"{op}: axis is {axis!r}, and must not name an axis twice, as x is {describe(x)}")


def require_same_shape(op: str, name: str, x: jax.Array, other_name: str, other: jax.Array) -> None:
    if x.shape != other.shape:
        raise InputError(
            f"{op}: {name} is {describe(x)} and {other_name} is {describe(other)}, and they must have the same shape, "
            "since broadcasting here would hide mistakes; reshape or jnp.broadcast_to one of them"
        )


def require_values(op: str, name: str, x: Any, condition: jax.Array, must_be: str) -> None:
    """Raises unless ``condition``, of the shape of x, holds for every entry. Under jit and vmap, where there are no
    values yet, nothing is checked."""
    try:
        if jnp.all(condition):
            return
    except jax.errors.ConcretizationTypeError:
        return
    bad = np.ravel(np.asarray(lax.stop_gradient(x)))[jnp.argmin(condition)]
    found = "is" if jnp.ndim(x) == 0 else "has the entry"
    raise InputError(f"{op}: {name} {found} {str(bad).removesuffix('.0')}, and must be {must_be}")


def require_broadcast(op: str, but: int = 0, /, **arrays: jax.Array) -> None:
    """Raises unless the shapes, without their last ``but`` axes, broadcast against each other."""
    shapes = [array.shape[: -but or None] for array in arrays.values()]
    try:
        jnp.broadcast_shapes(*shapes)
    except ValueError:
        shown = [f"{name} is {describe(array)}" for name, array in arrays.items()]
        raise InputError(
            f"{op}: {_listed(shown)}: their {'leading axes' if but else 'shapes'} {_listed(map(list, shapes))} do not "
            "broadcast; pairs of sizes must be equal, or one of them 1: give what has fewer axes the missing ones by "
            "x[..., None]"
        ) from None


def _listed(parts: Iterable[Any]) -> str:
    *most, last = map(str, parts)
    return f"{', '.join(most)} and {last}"


def require_distribution(op: str, name: str, p: jax.Array, axes: tuple[int, ...] | None) -> None:
    """Raises if an entry of p is negative or, where ``axes`` are given, if the sums along them differ from 1 by more
    than the square root of the precision of p's dtype. Values that are not known yet are not checked."""
    require_values(op, name, p, p >= 0, f"0 or more, as probabilities are; of logits they are ops.softmax({name})")
    if axes is None:
        return
    total = jnp.sum(upcast(p), axes)
    close = jnp.abs(total - 1) <= float(jnp.finfo(p.dtype).eps) ** 0.5
    along = f"along axis {axes[0] if len(axes) == 1 else axes}"
    require_values(op, f"the sum of {name} {along}", total, close, f"1, as of probabilities; divide {name} by it")


def require_positive(op, name, x):
    require_float(op, name, x)
    require_values(op, name, x, (x > 0) & (x < jnp.inf), "positive and finite")
