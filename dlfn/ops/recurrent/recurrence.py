r"""What the recurrent ops share: the loop forwards, the loop backwards, and the products outside the loops.

A cell computes its next state from :math:`a_t = x_t w_x + b` and the previous state. Only what depends on the previous
state is in the loop: the projection of the input is one matrix product before it. Backwards the loop carries the
cotangent of the state and collects :math:`\delta_t = \partial L / \partial a_t`. The gradients of the weights are sums
over all steps, such as :math:`\sum_t h_{t-1}^\top \delta_t`, and so are one matrix product each after the loop, summed
in float32 or wider.

Inside, arrays are time-major, (T, N, features), with all leading dimensions in N.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import ArrayLike

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float, require_rank, require_values
from dlfn.ops.support.dtypes import Static, sum_dtype
from dlfn.ops.support.dtypes import dot as dot_general
from dlfn.ops.support.lengths import within
from dlfn.ops.support.platforms import ByPlatform
from dlfn.ops.support.sharding import is_explicit, like

__all__ = [
    "Cell", "check", "check_lengths", "sequence_backward", "sequence_forward", "step_backward", "step_forward",
    "textbook", "zero_state",
]  # fmt: skip

State = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """One step of a recurrence. A state is a tuple, the output h first; ``dot`` is the product with a matrix.

    Attributes:
        forward: ``forward(weights, dot)`` makes ``step(a, before) -> (after, saved)``. What it does to the weights
            before it returns is done once, outside the loop.
        backward: ``backward(weights, dot)`` makes ``step(before, after, saved, d_after) -> (delta, d_before)``.
        gradients: ``gradients(h_before, saved, delta, product)`` gives the weights' gradients; ``product(a, b)`` is
            the sum of :math:`a^\\top b` over all rows.
    """

    forward: Callable[..., Callable[[jax.Array, State], tuple[State, Any]]]
    backward: Callable[..., Callable[[State, State, Any, State], tuple[jax.Array, State]]]
    gradients: Callable[..., tuple[Any, ...]]


def textbook(step: Callable[..., Any], x: jax.Array, state: State, lengths: Any, reverse: bool) -> Any:
    """The definition of a sequence: ``step(x_t, *state) -> state`` over the time axis of x, (..., T, features)."""

    def masked(state, inputs):
        x, t = inputs
        after = step(x, *state)
        if lengths is None:
            return after, after[0]
        valid = (t < lengths)[..., None]
        return tuple(map(functools.partial(jnp.where, valid), after, state)), jnp.where(valid, after[0], 0)

    time_major = jnp.moveaxis(x, -2, 0), jnp.arange(x.shape[-2])
    last, hs = lax.scan(masked, state, time_major, reverse=reverse)
    return jnp.moveaxis(hs, 0, -2), *last


def zero_state(x: ArrayLike, w_x: ArrayLike, w_h: ArrayLike, *state: ArrayLike | None) -> State:
    """The state that a definition starts from, where x is that of one step: zeros for what is None, and all arrays in
    their common dtype."""
    x, w_x, w_h = jnp.asarray(x), jnp.asarray(w_x), jnp.asarray(w_h)
    zeros = jnp.zeros_like(x @ w_x[:, : w_h.shape[0]])
    dtype = jnp.result_type(zeros, w_h, *[s for s in state if s is not None])
    return tuple((zeros if s is None else jnp.asarray(s)).astype(dtype) for s in state)


class _Plan(NamedTuple):
    """How a recurrence is computed.

    Attributes:
        half: whether products are taken of bfloat16 where the arguments are, and summed in float32.
        unroll: how many steps are written out in the loop's body.
    """

    half: bool
    unroll: int


# A CPU multiplies half types in float32 anyway. On a GPU it is the launching of kernels that takes the time: on an
# H100, with (64, 256, 512) bfloat16 inputs and 512 features, forward + backward of the LSTM take 7.3 ms with float32
# products, 6.3 with those of half types, 4.3 with four or sixteen steps in a body.
_ON_CPUS, _ON_ACCELERATORS = _Plan(half=False, unroll=1), _Plan(half=True, unroll=4)


_by_platform = ByPlatform.with_plans(_ON_CPUS, _ON_ACCELERATORS)


def sequence_forward(cell, x, state, w_x, weights, b, lengths, *, reverse, precision):
    """``((hs, *last state), residuals)``."""
    y, after, saved = _run_sequence(x, state, w_x, weights, b, lengths, cell=cell, reverse=reverse, precision=precision)
    static = Static((_common_dtype(x, state, w_x, weights, b), None if b is None else jax.typeof(b)))
    return y, ((x, state, w_x, weights, lengths), static, after, saved)


def sequence_backward(cell, residuals, dy, *, reverse, precision):
    """Cotangents of x, the state's arrays, w_x, the weights, and b."""
    kept, static, after, saved = residuals
    dtype, b_kind = static.value
    settings = dict(cell=cell, reverse=reverse, precision=precision, dtype=dtype, b_kind=b_kind)
    return _run_sequence_back(*kept, after, saved, dy, **settings)


def step_forward(cell, x, state, w_x, weights, b, *, precision):
    """``(state, residuals)`` of a single step."""
    y, after, saved = _run_step(x, state, w_x, weights, b, cell=cell, precision=precision)
    static = Static((_common_dtype(x, state, w_x, weights, b), None if b is None else jax.typeof(b)))
    return y, ((x, state, w_x, weights), static, after, saved)


def step_backward(cell, residuals, d_after, *, precision):
    """Cotangents of x, the state's arrays, w_x, the weights, and b."""
    kept, static, after, saved = residuals
    dtype, b_kind = static.value
    settings = dict(cell=cell, precision=precision, dtype=dtype, b_kind=b_kind)
    return _run_step_back(*kept, after, saved, d_after, **settings)


@_by_platform
def _run_sequence(x, state, w_x, weights, b, lengths, *, cell, reverse, precision, plan):
    dtype = _common_dtype(x, state, w_x, weights, b)
    rows, valid = _Rows(x), _valid(x, lengths, _Rows(x))
    x, w_x, weights = (_operands(array, dtype, plan) for array in (x, w_x, weights))
    b = None if b is None else _wide(b, dtype)
    a = _project(_without_padding(rows.time_major(x), valid), w_x, b, precision)
    # The sum over a[:1] and not a[0], which does not exist where there are no steps.
    zeros = jnp.zeros_like(jnp.sum(a[:1], axis=0)[..., : weights[0].shape[0]])
    step = cell.forward(weights, _dot(precision))

    def loop(before, inputs):
        a, valid = inputs
        after, saved = step(a, before)
        if valid is not None:
            after = tuple(map(functools.partial(jnp.where, valid), after, before))
        return after, (after, saved)

    start = tuple(zeros if s is None else like(rows.flat(s), jax.typeof(zeros)) for s in state)
    last, (after, saved) = lax.scan(loop, start, (a, valid), reverse=reverse, unroll=_unrolled(x, plan))
    hs = _without_padding(after[0], valid).astype(dtype)
    return (rows.batch_first(hs), *(rows.unflat(s).astype(dtype) for s in last)), after, saved


@_by_platform
def _run_sequence_back(
    x, state, w_x, weights, lengths, after, saved, dy, *, cell, reverse, precision, dtype, b_kind, plan
):
    rows, valid = _Rows(x), _valid(x, lengths, _Rows(x))
    xs, ws = (_operands(array, dtype, plan) for array in (x, weights))
    dhs, *d_last = (_wide(array, dtype) for array in dy)
    xs, dhs, d_last = rows.time_major(xs), rows.time_major(dhs), tuple(map(rows.flat, d_last))
    xs, dhs = _without_padding(xs, valid), _without_padding(dhs, valid)
    start = tuple(
        jnp.zeros_like(d) if s is None else like(rows.flat(s), jax.typeof(d))
        for s, d in zip(state, d_last, strict=True)
    )
    before = tuple(_shifted(s, first, reverse) for s, first in zip(after, start, strict=True))
    step = cell.backward(ws, _dot(precision))

    def loop(d_state, inputs):
        before, after, saved, dh, valid = inputs
        delta, d_before = step(before, after, saved, (d_state[0] + dh, *d_state[1:]))
        if valid is not None:
            d_before = tuple(map(functools.partial(jnp.where, valid), d_before, d_state))
            delta = jnp.where(valid, delta, jnp.zeros_like(delta))
        return d_before, delta

    inputs = before, after, saved, dhs, valid
    d_start, delta = lax.scan(loop, d_last, inputs, reverse=not reverse, unroll=_unrolled(x, plan))
    d_x, *rest = _products(cell, xs, before[0], saved, delta, w_x, weights, b_kind, precision)
    d_state = [None if s is None else like(rows.unflat(d), jax.typeof(s)) for s, d in zip(state, d_start, strict=True)]
    return like(rows.batch_first(d_x), jax.typeof(x)), d_state, *rest


@_by_platform
def _run_step(x, state, w_x, weights, b, *, cell, precision, plan):
    dtype = _common_dtype(x, state, w_x, weights, b)
    x, w_x, weights = (_operands(array, dtype, plan) for array in (x, w_x, weights))
    b = None if b is None else _wide(b, dtype)
    a = _project(x, w_x, b, precision)
    zeros = jnp.zeros_like(a[..., : weights[0].shape[0]])
    before = tuple(zeros if s is None else like(s, jax.typeof(zeros)) for s in state)
    after, saved = cell.forward(weights, _dot(precision))(a, before)
    return tuple(s.astype(dtype) for s in after), after, saved


@_by_platform
def _run_step_back(x, state, w_x, weights, after, saved, d_after, *, cell, precision, dtype, b_kind, plan):
    xs, ws = (_operands(array, dtype, plan) for array in (x, weights))
    d_after = tuple(_wide(array, dtype) for array in d_after)
    before = tuple(
        jnp.zeros_like(d) if s is None else like(s, jax.typeof(d)) for s, d in zip(state, d_after, strict=True)
    )
    delta, d_before = cell.backward(ws, _dot(precision))(before, after, saved, d_after)
    d_x, *rest = _products(cell, xs, before[0], saved, delta, w_x, weights, b_kind, precision)
    d_state = [None if s is None else like(d, jax.typeof(s)) for s, d in zip(state, d_before, strict=True)]
    return like(d_x, jax.typeof(x)), d_state, *rest


def _unrolled(x, plan):
    """How many steps a loop's body has; one where their number is not known yet."""
    return plan.unroll if isinstance(x.shape[-2], int) else 1


class _Rows:
    """Takes arrays from (..., T, features) to the time-major (T, N, features) and back.

    Axes with an explicit sharding cannot be merged: such arrays keep their leading dimensions, (T, ..., features).
    """

    def __init__(self, x):
        self.lead = x.shape[:-2]
        self.explicit = is_explicit(x)

    def flat(self, s):
        return s if self.explicit else s.reshape(math.prod(self.lead), s.shape[-1])

    def unflat(self, s):
        return s.reshape(*self.lead, s.shape[-1])

    def time_major(self, x):
        x = jnp.moveaxis(x, -2, 0)
        return x if self.explicit else x.reshape(x.shape[0], math.prod(self.lead), x.shape[-1])

    def batch_first(self, y):
        return jnp.moveaxis(y.reshape(y.shape[0], *self.lead, y.shape[-1]), 0, -2)


def _common_dtype(*arrays: Any) -> Any:
    return jnp.result_type(*jax.tree.leaves(arrays))


def _operands(arrays: Any, dtype: Any, plan: _Plan) -> Any:
    """x or weights in the dtype that products are taken of: bfloat16 where it is that and the plan says so, and
    otherwise float32 for half types (float16 has too small a range for cotangents). Biases among the weights, which
    have one axis, are no factors of products."""
    narrow = dtype if plan.half and dtype == jnp.bfloat16 else sum_dtype(dtype)
    if isinstance(arrays, tuple):
        return tuple(w if w is None else w.astype(narrow if w.ndim > 1 else sum_dtype(dtype)) for w in arrays)
    return arrays.astype(narrow)


def _wide(array: jax.Array, dtype: Any) -> jax.Array:
    return array.astype(sum_dtype(dtype))


def _valid(x, lengths, rows):
    """Which steps are within an example's length, (T, N, 1)."""
    if lengths is None:
        return None
    return rows.time_major(within(lengths, x.shape[-2])[..., None])


def _without_padding(x, valid):
    return x if valid is None else jnp.where(valid, x, jnp.zeros_like(x))


def _shifted(after, start, reverse):
    """The state before each step: the states after the steps, moved on by one, with the start in the first place."""
    # The slice leaves nothing of the start where there are no steps.
    start = start[None][: after.shape[0]]
    return jnp.concatenate([after[1:], start] if reverse else [start, after[:-1]])


def _project(x, w_x, b, precision):
    a = _dot(precision)(x, w_x)
    return a if b is None else a + b


def _products(cell, x, h_before, saved, delta, w_x, weights, b_kind, precision):
    """Gradients of x, w_x, the weights, and b, which need no loop."""
    rows = tuple(range(delta.ndim - 1))
    w_x_t = w_x.astype(x.dtype).T

    def product(a, b, kind=None):
        a, b = a.astype(x.dtype), b.astype(x.dtype)
        # The result of a sum over a sharded axis may be sharded in several ways, of which JAX must be told one: a
        # gradient is sharded as its weight is.
        out = kind.sharding if kind is not None and is_explicit(a, b) else None
        return dot_general(a, b, (rows, rows), precision, out)

    w_kind = jax.typeof(weights[0])
    d_weights = cell.gradients(h_before, saved, delta, functools.partial(product, kind=w_kind))
    d_weights = [None if w is None else like(d, jax.typeof(w)) for w, d in zip(weights, d_weights, strict=True)]
    d_w_x = like(product(x, delta, jax.typeof(w_x)), jax.typeof(w_x))
    d_b = None if b_kind is None else like(jnp.sum(delta, axis=rows), b_kind)
    return _dot(precision)(delta, w_x_t), d_w_x, *d_weights, d_b


def _dot(precision) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The product with a matrix, of numbers of the matrix's dtype, summed in float32 or wider."""

    def dot(a, w):
        return jnp.matmul(a.astype(w.dtype), w, precision=precision, preferred_element_type=sum_dtype(w.dtype))

    return dot


def check(op, gates, x, state, w_x, w_h, b, lengths=None, *, steps, **biases):
    """Raises where a recurrent op's arguments do not fit. ``state`` is a dict by name; ``biases`` are of (H,)."""
    given = {"x": x, **state, "w_x": w_x, "w_h": w_h, "b": b, **biases}
    for name, value in given.items():
        if value is not None or name in ("x", "w_x", "w_h"):
            require_float(op, name, value)
    axes = ["a time axis"] * steps + ["a feature axis"]
    require_rank(op, "x", x, " and ".join(axes))
    if x.ndim < len(axes):
        raise InputError(f"{op}: x is {describe(x)}, and must be (..., T, features); pass x[None] for a single step")
    if w_h.ndim != 2 or w_h.shape[1] != gates * w_h.shape[0]:
        shape = "(H, H)" if gates == 1 else f"(H, {gates} H), one block per gate"
        raise InputError(f"{op}: w_h is {describe(w_h)}, and must be {shape}, for a state of H features")
    hidden = w_h.shape[0]
    if w_x.shape != (x.shape[-1], gates * hidden):
        hint = "; pass w_x.T, as w_x is (in, out)" if w_x.shape[::-1] == (x.shape[-1], gates * hidden) else ""
        raise InputError(
            f"{op}: w_x is {describe(w_x)}, and must have the shape {[x.shape[-1], gates * hidden]}, as x is "
            f"{describe(x)} and w_h is {describe(w_h)}{hint}"
        )
    for name, value, size in (("b", b, gates * hidden), *((name, value, hidden) for name, value in biases.items())):
        if value is not None and value.shape != (size,):
            raise InputError(f"{op}: {name} is {describe(value)}, and must have the shape {[size]}")
    lead = x.shape[: x.ndim - len(axes)]
    for name, value in state.items():
        if value is not None and value.shape != (*lead, hidden):
            raise InputError(
                f"{op}: {name} is {describe(value)}, and must have the shape {[*lead, hidden]}, as x is {describe(x)}; "
                f"jnp.broadcast_to one state to all examples, or pass None for zeros"
            )
    if lengths is not None:
        check_lengths(op, lengths, x)


def check_lengths(op, lengths, x):
    """``lengths`` must be one integer for each sequence of x, (..., T, features), from 0 to T."""
    lead, steps = x.shape[:-2], x.shape[-2]
    dtype = getattr(lengths, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer) or lengths.shape != lead:
        raise InputError(
            f"{op}: lengths is {describe(lengths)}, and must be an array of integers of the shape {list(lead)}, one "
            f"length per sequence, as x is {describe(x)}"
        )
    inside = (lengths >= 0) & (lengths.astype(jnp.int32) <= steps)  # int32, as T may be too large for their dtype
    require_values(op, "lengths", lengths, inside, f"from 0 to {steps}, the number of steps of x")
