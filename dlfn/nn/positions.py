"""Layers that add positions to embeddings."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, small_normal
from dlfn.nn.layer import Layer, array_of, steps_of
from dlfn.nn.sequence import Sequence, on_values
from dlfn.nn.types import Example, Params, State, Steps

__all__ = ["LearnedPositions", "SinusoidalPositions"]


@dataclass(frozen=True)
class LearnedPositions(Layer):
    """``y = x + table[position]``, with a learned table of (length, features).

    Of a :class:`~dlfn.nn.Sequence` with a mask of steps, position 0 is that of the first step that counts.

    Args:
        length: how many positions there are at most.
        decoding: whether inputs are the next times only, as for attention with a ``cache``: the state counts the times
            before them.

    Raises:
        InputError: on more times than there are positions.

    Source: Gehring et al. 2017, *Convolutional Sequence to Sequence Learning*; 002 section 11.2.
    """

    length: int
    decoding: bool = False
    table_init: Initializer = small_normal

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "length")

    def init(self, key, x: Shaped[Example, "*batch features"] | Sequence) -> tuple[Params, State]:
        values = array_of(self, x)
        table = self.table_init(key, (self.length, values.shape[-1]), jnp.result_type(values.dtype, float))
        return {"table": table}, _start(self, x)

    def apply(
        self, params, state, x: Float[Steps, "*batch times features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch times features"], State]:
        (table,) = held(self, "params", params, "table")
        return _with_rows(self, table, state, x)


@dataclass(frozen=True)
class SinusoidalPositions(Layer):
    """``y = x +`` :func:`dlfn.ops.sinusoidal_positions`.

    Args:
        length: how many positions there are at most; needed only when decoding.
        base: as in the op.
        decoding: as for ``LearnedPositions``.

    Source: Vaswani et al. 2017, *Attention Is All You Need*; 002 section 11.1.
    """

    length: int | None = None
    base: float = 10000.0
    decoding: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.length is not None:
            require_sizes(self, "length")
        if self.decoding and not self.length:
            raise InputError("SinusoidalPositions: decoding needs length, the most positions")

    def init(self, key, x: Shaped[Example, "*batch features"] | Sequence) -> tuple[Params, State]:
        array_of(self, x)  # refuses what is no array
        return (), _start(self, x)

    def apply(
        self, params, state, x: Float[Steps, "*batch times features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch times features"], State]:
        values = steps_of(self, x)
        length = values.shape[-2] if self.length is None else self.length
        table = ops.sinusoidal_positions(length, values.shape[-1], base=self.base, dtype=values.dtype)
        return _with_rows(self, table, state, x)


def _start(layer: LearnedPositions | SinusoidalPositions, x: Any) -> State:
    """How many positions are before the next times: one number, or one for each sequence where there is a mask."""
    mask = x.steps_mask if isinstance(x, Sequence) else None
    return {"length": jnp.zeros(() if mask is None else mask.shape[:-1], jnp.int32)} if layer.decoding else ()


def _with_rows(layer: LearnedPositions | SinusoidalPositions, table: Array, state: State, x: Any) -> tuple[Any, State]:
    """x with the rows of the table for its times added, and the state after them."""
    times, length = steps_of(layer, x).shape[-2], table.shape[0]
    (start,) = held(layer, "state", state, "length") if layer.decoding else (0,)
    before = 0 if isinstance(start, Tracer) else int(np.max(start, initial=0))
    if before + times > length:
        raise InputError(f"{layer} has {length} positions, and {before + times} are asked of it")
    counts = x.counts() if isinstance(x, Sequence) and x.steps_mask is not None else None
    if layer.decoding and counts is not None and jnp.shape(start) != counts.shape[:-1]:
        raise InputError(f"{layer}: x has a mask, and init was called without; call it with a Sequence that has one")
    if counts is not None or jnp.ndim(start):
        at = jnp.arange(1, times + 1) if counts is None else jnp.cumsum(counts, -1)
        at = jnp.expand_dims(jnp.asarray(start), -1) + at - 1
        rows = jnp.where((at < length)[..., None], table[jnp.clip(at, 0, length - 1)], jnp.nan)
        after = at[..., -1] + 1
    elif layer.decoding:
        after = start + times
        rows = jnp.where(after <= length, lax.dynamic_slice_in_dim(table, start, times), jnp.nan)
    else:
        rows, after = table[:times], ()
    y = on_values(lambda values: jnp.add(values, jnp.expand_dims(rows, range(values.ndim - rows.ndim))), x)
    return y, {"length": after} if layer.decoding else state
