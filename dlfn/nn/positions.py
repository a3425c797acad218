"""Layers that add positions to embeddings."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, small_normal
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Example, Params, State, Steps

__all__ = ["LearnedPositions", "SinusoidalPositions"]


@dataclass(frozen=True)
class LearnedPositions(Layer):
    """``y = x + table[position]``, with a learned table of (length, features).

    Args:
        length: how many positions there are at most.
        decoding: whether inputs are the next times only, as for attention with a ``cache``: the state counts the times
            before them.

    Raises:
        InputError: on more times than there are positions.

    Source: Gehring et al. 2017, *Convolutional Sequence to Sequence Learning*; 002 section 11.2.
    """

    takes = "steps"
    length: int
    decoding: bool = False
    table_init: Initializer = small_normal

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "length")

    def init(self, key, x: Shaped[Example, "*batch features"]) -> tuple[Params, State]:
        table = self.table_init(key, (self.length, x.shape[-1]), jnp.result_type(x.dtype, float))
        return {"table": table}, _start(self.decoding)

    def apply(
        self, params, state, x: Float[Steps, "*batch times features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch times features"], State]:
        (table,) = held(self, "params", params, "table")
        table, state = _rows(self, table, state, x)
        return jnp.add(x, jnp.expand_dims(table, range(x.ndim - table.ndim))), state


@dataclass(frozen=True)
class SinusoidalPositions(Layer):
    """``y = x +`` :func:`dlfn.ops.sinusoidal_positions`.

    Args:
        length: how many positions there are at most; needed only when decoding.
        base: as in the op.
        decoding: as for ``LearnedPositions``.

    Source: Vaswani et al. 2017, *Attention Is All You Need*; 002 section 11.1.
    """

    takes = "steps"
    length: int | None = None
    base: float = 10000.0
    decoding: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.length is not None:
            require_sizes(self, "length")
        if self.decoding and not self.length:
            raise InputError("SinusoidalPositions: decoding needs length, the most positions")

    def init(self, key, x: Shaped[Example, "*batch features"]) -> tuple[Params, State]:
        return (), _start(self.decoding)

    def apply(
        self, params, state, x: Float[Steps, "*batch times features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch times features"], State]:
        if x.ndim < 2:
            raise InputError(f"{self} needs (..., time, features), got {list(x.shape)}")
        length = x.shape[-2] if self.length is None else self.length
        table = ops.sinusoidal_positions(length, x.shape[-1], base=self.base, dtype=x.dtype)
        table, state = _rows(self, table, state, x)
        return jnp.add(x, jnp.expand_dims(table, range(x.ndim - table.ndim))), state


def _start(decoding: bool) -> State:
    return {"length": jnp.zeros((), jnp.int32)} if decoding else ()


def _rows(
    layer: LearnedPositions | SinusoidalPositions, table: Array, state: State, x: AnyArray
) -> tuple[Float[Array, "times features"], State]:
    """The rows of the table for the times of x, and the state after them."""
    if x.ndim < 2:
        raise InputError(f"{layer} needs (..., time, features), got {list(x.shape)}")
    times, length = x.shape[-2], table.shape[0]
    if times > length:
        raise InputError(f"{layer} has {length} positions, and {times} are asked of it")
    (start,) = held(layer, "state", state, "length") if layer.decoding else (0,)
    if not isinstance(start, Tracer) and int(start) + times > length:
        raise InputError(f"{layer} has {length} positions, and {int(start) + times} are asked of it")
    if not layer.decoding:
        return table[:times], state
    rows = lax.dynamic_slice_in_dim(table, start, times)
    return jnp.where(start + times <= length, rows, jnp.nan), {"length": start + times}
