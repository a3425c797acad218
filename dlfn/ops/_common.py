"""What the ops of this package share: argument checks, the dtype to compute in, and reductions."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from dlfn.core import InputError

__all__ = [
    "Static",
    "as_rows",
    "axes_of",
    "check_reduction",
    "describe",
    "dot",
    "in_shape_of",
    "is_explicit",
    "like",
    "power",
    "reduce",
    "require_axes",
    "require_broadcast",
    "require_distribution",
    "require_float",
    "require_focus",
    "require_rank",
    "require_same_shape",
    "require_values",
    "sharded_along",
    "sum_dtype",
    "upcast",
    "upcast_alike",
    "weight_of_each",
    "wide",
    "within",
]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """A hashable value, such as the arguments' dtypes, among the residuals."""

    value: Any


def upcast(*arrays: jax.Array) -> Any:
    """The arrays in their common dtype, but in float32 where that is a half type."""
    dtype = jnp.result_type(*arrays)
    if dtype.itemsize < 4:
        dtype = jnp.dtype(jnp.float32)
    cast = tuple(array.astype(dtype) for array in arrays)
    return cast[0] if len(arrays) == 1 else cast


def sum_dtype(dtype: Any) -> Any:
    """What sums of numbers of this dtype are accumulated in."""
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def dot(a: jax.Array, b: jax.Array, contracting: Any, precision: Any, out_sharding: Any = None) -> jax.Array:
    """The product summed over the axes ``contracting`` of both, in the dtype of sums."""
    return lax.dot_general(
        a,
        b,
        (contracting, ((), ())),
        precision=precision,
        preferred_element_type=sum_dtype(a.dtype),
        out_sharding=out_sharding,
    )


def upcast_alike(x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """:func:`upcast`, for two arrays of one shape that are to have one sharding too: that of x."""
    x, other = upcast(x, other)
    return x, like(other, jax.typeof(x))


def like(x: jax.Array, kind: Any) -> jax.Array:
    """x in the dtype and, where types have one, the sharding of the type ``kind``, such as an argument's."""
    x = x.astype(kind.dtype)
    if is_explicit(x) and not kind.sharding.mesh.empty and jax.typeof(x).sharding != kind.sharding:
        return jax.sharding.reshard(x, kind.sharding)
    return x


def sharded_along(ids: jax.Array, x: jax.Array, axes: int) -> jax.Array:
    """Where types have shardings, ids with that of x along the first ``axes`` axes, which they share."""
    if not is_explicit(x):
        return ids
    kind = jax.typeof(x).sharding
    spec = (*kind.spec[:axes], *[None] * (ids.ndim - axes))
    return jax.sharding.reshard(ids, NamedSharding(kind.mesh, PartitionSpec(*spec)))


def wide(lengths: jax.Array) -> jax.Array:
    """The lengths in a dtype that any number of steps is a number of."""
    return lengths if lengths.dtype.itemsize >= 4 else lengths.astype(jnp.int32)


def within(lengths: jax.Array, steps: int) -> jax.Array:
    """Which of the steps are within each length, (..., steps)."""
    lengths = wide(lengths)[..., None]
    return jnp.arange(steps, dtype=lengths.dtype).reshape(*[1] * (lengths.ndim - 1), steps) < lengths


def as_rows(x: jax.Array) -> jax.Array:
    """x with its leading axes made one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def describe(x: Any) -> str:
    if isinstance(x, jax.Array):
        return f"{x.dtype}{list(x.shape)}"
    text = " ".join(repr(x).split())
    return f"{type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


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
    """What ``axis`` means: an int, a tuple of them, or None for all axes."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def require_axes(op: str, x: jax.Array, axis: Any) -> None:
    for a in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        if not isinstance(a, int) or not -x.ndim <= a < x.ndim:
            raise InputError(
                f"{op}: axis is {a!r}, and must be an int from {-x.ndim} to {x.ndim - 1}, as x is {describe(x)}"
            )
    if len(set(axes_of(axis, x.ndim))) != len(axes_of(axis, x.ndim)):
        raise InputError(f"{op}: axis is {axis!r}, and must not name an axis twice, as x is {describe(x)}")


def require_same_shape(op: str, name: str, x: jax.Array, other_name: str, other: jax.Array) -> None:
    if x.shape != other.shape:
        raise InputError(
            f"{op}: {name} is {describe(x)} and {other_name} is {describe(other)}, and they must have the same shape, "
            "since broadcasting here would hide mistakes; reshape or jnp.broadcast_to one of them"
        )


def require_values(op: str, name: str, x: Any, condition: jax.Array, must_be: str) -> None:
    """``condition``, of the shape of x, must hold for every entry, or not be known: under jit and vmap there are no
    values yet."""
    try:
        if jnp.all(condition):
            return
    except jax.errors.ConcretizationTypeError:
        return
    bad = np.ravel(np.asarray(lax.stop_gradient(x)))[jnp.argmin(condition)]
    found = "is" if jnp.ndim(x) == 0 else "has the entry"
    raise InputError(f"{op}: {name} {found} {str(bad).removesuffix('.0')}, and must be {must_be}")


def require_broadcast(op: str, but: int = 0, /, **arrays: jax.Array) -> None:
    """The shapes must broadcast, without the last ``but`` axes."""
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
    """Where the values are known, they must not be negative, and sum to 1 along the axes, if they are given, up to the
    root of their dtype's precision."""
    require_values(op, name, p, p >= 0, f"0 or more, as probabilities are; of logits they are ops.softmax({name})")
    if axes is None:
        return
    total = jnp.sum(upcast(p), axes)
    close = jnp.abs(total - 1) <= float(jnp.finfo(p.dtype).eps) ** 0.5
    along = f"along axis {axes[0] if len(axes) == 1 else axes}"
    require_values(op, f"the sum of {name} {along}", total, close, f"1, as of probabilities; divide {name} by it")


def check_reduction(op: str, reduction: Any, shape: tuple[Any, ...]) -> None:
    """``shape`` is that of the losses to reduce."""
    if reduction not in ("mean", "sum", "none"):
        raise InputError(f"{op}: reduction is {reduction!r}, and must be 'mean', 'sum' or 'none'")
    if reduction == "mean" and any(size == 0 for size in shape):
        raise InputError(
            f"{op}: the mean over losses of shape {list(shape)} is 0/0; pass reduction='sum', or skip empty batches"
        )


def reduce(losses: jax.Array, reduction: str) -> jax.Array:
    if reduction == "none":
        return losses
    return jnp.mean(losses) if reduction == "mean" else jnp.sum(losses)


def weight_of_each(dy: jax.Array, reduction: str, shape: tuple[Any, ...], dtype: Any) -> jax.Array:
    """The cotangent of :func:`reduce`'s argument, in a shape that broadcasts to its own."""
    dy = dy.astype(dtype)
    return dy / jnp.asarray(math.prod(shape), dtype) if reduction == "mean" else dy


def in_shape_of(array: jax.Array, shape: tuple[Any, ...]) -> jax.Array:
    """Sums away what broadcasting from ``shape`` added."""
    extra = array.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, size in enumerate(shape) if size == 1 and array.shape[i + extra] != 1))
    return jnp.sum(array, axis=axes).reshape(shape) if axes else array


def is_explicit(*arrays: jax.Array) -> bool:
    """Whether sharding is part of the arrays' types, so that reshaping and indexing sharded axes may be refused."""
    kinds = [kind for array in arrays for kind in jax.typeof(array).sharding.mesh.axis_types]
    return jax.sharding.AxisType.Explicit in kinds


def require_focus(op: str, gamma: Any) -> None:
    if not (isinstance(gamma, int | float) and 0 <= gamma < math.inf):
        raise InputError(f"{op}: gamma is {gamma!r}, and must be a number that is 0 or more")


def power(x: jax.Array, exponent: float) -> jax.Array:
    """x**exponent, by products where the exponent is whole."""
    return x ** (int(exponent) if float(exponent).is_integer() else exponent)
