"""Multi-head attention, with a cache for decoding, and layers of positions."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, small_normal, xavier_uniform, zeros
from dlfn.nn.layer import Layer
from dlfn.nn.sequence import Sequence, values_of
from dlfn.ops._recurrence import check_lengths

__all__ = ["LearnedPositions", "MultiHeadAttention", "SinusoidalPositions"]


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    r""":math:`\mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h) W^O`, with
    :math:`\mathrm{head}_i = \mathrm{Attention}(X W_i^Q, C W_i^K, C W_i^V)`.

    The input is x, (..., time, features), for self-attention; a pair (x, context) for cross-attention; or a triple
    (x, context, mask), whose boolean mask, True where a query sees a key, is (time, keys) or (..., heads, time, keys)
    with as many leading axes as x; sizes of 1 broadcast. For self-attention with a mask pass (x, x, mask). Of a
    :class:`~dlfn.nn.Sequence` no step sees the padding.

    Args:
        heads: how many.
        kv_heads: heads of keys and values, a divisor of ``heads``; None for as many.
        head_dim: features of a head; None for features / heads.
        causal: whether time i sees no later time.
        bias: whether the four linear maps have one.
        positions: ``"rope"`` turns queries and keys by their positions, ``"alibi"`` adds a bias by distance. That bias
            is an array (heads, time, keys): memory is quadratic in time then, and linear without it.
        cache: decoding. With a number, ``init`` returns a state that holds the keys and values of as many times, and
            ``apply`` takes the next times only, one or several; see below.

    Params are ``{"q", "k", "v", "o"}``, each ``{"w", "b"}`` as those of ``Linear``.

    Decoding: a layer with ``cache`` takes the params of the same layer without. Each ``apply`` appends the keys and
    values of its input to the state, and attends to all so far; so do models with such layers in them. Going past the
    end of the cache is an error where its length is a concrete number; under ``jit`` and in a loop it gives nan.

    Raises:
        InputError: when heads, kv_heads and features do not divide; when a cache is asked of attention that is not
            causal or has a context; when it is full, or was made for another batch; on a mask of another rank.

    Source: 002 sections 8.2 and 8.3.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    >>> layer = MultiHeadAttention(heads=2, causal=True)
    >>> params, state = layer.init(jax.random.key(1), x)
    >>> y, _ = layer.apply(params, state, x)
    >>> decoder = MultiHeadAttention(heads=2, causal=True, cache=16)
    >>> _, state = decoder.init(jax.random.key(1), x)
    >>> for t in range(5):
    ...     last, state = decoder.apply(params, state, x[:, t : t + 1])
    >>> bool(jnp.allclose(last[:, 0], y[:, -1], atol=1e-5))
    True
    """

    heads: int
    kv_heads: int | None = None
    head_dim: int | None = None
    causal: bool = False
    bias: bool = True
    positions: str | None = None
    cache: int | None = None
    weight_init: Initializer = xavier_uniform
    bias_init: Initializer = zeros
    precision: Any = None

    def __post_init__(self):
        if self.positions not in (None, "rope", "alibi"):
            raise InputError(
                f"MultiHeadAttention: positions is {self.positions!r}, and must be 'rope', 'alibi' or None"
            )
        given = [name for name in ("kv_heads", "head_dim", "cache") if getattr(self, name) is not None]
        require_sizes(self, "heads", *given)
        if self.heads % (self.kv_heads or self.heads):
            raise InputError(
                f"MultiHeadAttention: kv_heads is {self.kv_heads}, and must divide heads, which is {self.heads}"
            )
        if self.cache and not self.causal:
            raise InputError("MultiHeadAttention: a cache holds the past, so that attention must be causal=True")

    def init(self, key, x):
        x, context, _ = self._inputs(values_of(x))
        if x.ndim < 2 or context.ndim < 2:
            raise InputError(f"{self} needs (..., time, features), got {list(x.shape)} and {list(context.shape)}")
        features, dtype = x.shape[-1], jnp.result_type(x.dtype, float)
        if self.head_dim is None and features % self.heads:
            raise InputError(
                f"{self}: {features} features do not divide into {self.heads} heads; give head_dim, or other heads"
            )
        dim = self.head_dim or features // self.heads
        kv_heads = self.kv_heads or self.heads
        shapes = {
            "q": (features, self.heads * dim),
            "k": (context.shape[-1], kv_heads * dim),
            "v": (context.shape[-1], kv_heads * dim),
            "o": (self.heads * dim, features),
        }
        params = {}
        for (name, shape), own in zip(shapes.items(), jax.random.split(key, 4), strict=True):
            w_key, b_key = jax.random.split(own)
            params[name] = {"w": self.weight_init(w_key, shape, dtype)}
            if self.bias:
                params[name]["b"] = self.bias_init(b_key, shape[1:], dtype)
        if not self.cache:
            return params, ()
        empty = jnp.zeros((*x.shape[:-2], self.cache, kv_heads, dim), dtype)
        return params, {"k": empty, "v": empty, "length": jnp.zeros((), jnp.int32)}

    def apply(self, params, state, x, *, key=None, train=False):
        if isinstance(x, Sequence):
            y, state = self.apply(params, state, self._masked(x))
            return x._replace(values=y), state
        if self.cache and isinstance(x, tuple):
            raise InputError(f"{self}: with a cache the input is x alone, the next times; the cache is the context")
        x, context, mask = self._inputs(x)
        *_, output = held(self, "params", params, "q", "k", "v", "o")
        dim = output["w"].shape[0] // self.heads
        q, k, v = (
            self._split(params[name], inputs, dim) for name, inputs in (("q", x), ("k", context), ("v", context))
        )
        (start,) = held(self, "state", state, "length") if self.cache else (0,)
        if self.positions == "rope":
            q, k = (ops.rope(z, start + jnp.arange(z.shape[-3]) if self.cache else None) for z in (q, k))
        if self.cache:
            k, v, state = self._appended(state, k, v)
        keys, here = k.shape[-3], start + jnp.arange(x.shape[-2])
        if self.cache:
            mask = jnp.arange(keys) <= here[:, None]
        bias = None
        if self.positions == "alibi":
            # Not in a half type, in which distances from 257 on are rounded.
            wide = jnp.promote_types(x.dtype, jnp.float32)
            bias = ops.alibi_bias(self.heads, here if self.cache else x.shape[-2], keys, dtype=wide)
        causal = self.causal and not self.cache
        y = ops.attention(q, k, v, bias, mask, causal=causal, precision=self.precision).astype(q.dtype)
        y = self._linear(params["o"], y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1]))
        return (jnp.where(state["length"] <= self.cache, y, jnp.nan) if self.cache else y), state

    def flops(self, x, y):
        """Of the four linear maps, and of two products of queries by keys; a causal mask halves those."""
        x, context, _ = self._inputs(x)
        width = self.heads * (self.head_dim or x.shape[-1] // self.heads)
        kv_width = width // self.heads * (self.kv_heads or self.heads)
        rows, columns = math.prod(x.shape[:-1]), math.prod(context.shape[:-1])
        keys = self.cache or context.shape[-2]
        linear = 4 * rows * x.shape[-1] * width + 4 * columns * context.shape[-1] * kv_width
        return linear + 4 * rows * keys * width // (2 if self.causal and not self.cache else 1)

    def _masked(self, x: Sequence) -> Any:
        """The input for which no step sees padding."""
        if x.lengths is None:
            return x.values
        check_lengths("MultiHeadAttention", x.lengths, x.values)
        mask = jnp.arange(x.values.shape[-2]) < x.lengths[..., None]
        values = jnp.where(mask[..., None], x.values, 0)  # weights of 0 do not hide a nan
        return values, values, mask[..., None, None, :]

    def _inputs(self, x: Any) -> tuple[Any, Any, Any]:
        if not isinstance(x, tuple):
            return x, x, None
        if len(x) not in (2, 3):
            raise InputError(f"{self}: the input is a tuple of {len(x)}, and must be x, (x, context) or with a mask")
        x, context, mask = (*x, None) if len(x) == 2 else x
        if mask is not None and mask.ndim not in (2, x.ndim + 1):
            raise InputError(
                f"{self}: the mask has shape {list(mask.shape)}, and must be (time, keys) or (..., heads, time, keys) "
                f"with {x.ndim + 1} axes, as x has {x.ndim}; pass mask[..., None, :, :] for all heads"
            )
        return x, context, mask

    def _linear(self, params: Any, x: Any) -> Any:
        if x.shape[-1] != params["w"].shape[0]:
            raise InputError(
                f"{self} was initialised for {params['w'].shape[0]} features and got an input of shape {x.shape}"
            )
        return ops.linear(x, params["w"], params.get("b"), precision=self.precision)

    def _split(self, params: Any, x: Any, dim: int) -> Any:
        y = self._linear(params, x)
        return y.reshape(*y.shape[:-1], y.shape[-1] // dim, dim)

    def _appended(self, state: Any, k: Any, v: Any) -> tuple[Any, Any, Any]:
        length, more = state["length"], k.shape[-3]
        if k.shape[:-3] != state["k"].shape[:-3]:
            raise InputError(
                f"{self}: the cache is for a batch of {list(state['k'].shape[:-3])} and x has {list(k.shape[:-3])}; "
                "call init with an example of this batch"
            )
        k, v = k.astype(state["k"].dtype), v.astype(state["v"].dtype)
        if not isinstance(length, Tracer) and int(length) + more > self.cache:
            raise InputError(f"{self}: the cache holds {self.cache} times, and {int(length)} + {more} are asked of it")
        k, v = (
            lax.dynamic_update_slice_in_dim(old, new, length, -3) for old, new in ((state["k"], k), (state["v"], v))
        )
        return k, v, {"k": k, "v": v, "length": length + more}


@dataclass(frozen=True)
class LearnedPositions(Layer):
    """``y = x + table[position]``, with a learned table of (length, features).

    Args:
        length: the most positions.
        decoding: whether to count positions in the state and to take the next ones only, as attention with a cache.

    Raises:
        InputError: on more times than positions.

    Source: 002 section 11.2.
    """

    takes = "steps"
    length: int
    decoding: bool = False
    table_init: Initializer = small_normal

    def __post_init__(self):
        require_sizes(self, "length")

    def init(self, key, x):
        table = self.table_init(key, (self.length, x.shape[-1]), jnp.result_type(x.dtype, float))
        return {"table": table}, _start(self.decoding)

    def apply(self, params, state, x, *, key=None, train=False):
        (table,) = held(self, "params", params, "table")
        table, state = _rows(self, table, state, x)
        return x + table, state


@dataclass(frozen=True)
class SinusoidalPositions(Layer):
    """``y = x +`` :func:`dlfn.ops.sinusoidal_positions`.

    Args:
        length: the most positions; needed only when decoding.
        decoding: as for ``LearnedPositions``.

    Source: 002 section 11.1.
    """

    takes = "steps"
    length: int | None = None
    base: float = 10000.0
    decoding: bool = False

    def __post_init__(self):
        if self.length is not None:
            require_sizes(self, "length")
        if self.decoding and not self.length:
            raise InputError("SinusoidalPositions: decoding needs length, the most positions")

    def init(self, key, x):
        return (), _start(self.decoding)

    def apply(self, params, state, x, *, key=None, train=False):
        if x.ndim < 2:
            raise InputError(f"{self} needs (..., time, features), got {list(x.shape)}")
        length = x.shape[-2] if self.length is None else self.length
        table = ops.sinusoidal_positions(length, x.shape[-1], base=self.base, dtype=x.dtype)
        table, state = _rows(self, table, state, x)
        return x + table, state


def _start(decoding: bool) -> Any:
    return {"length": jnp.zeros((), jnp.int32)} if decoding else ()


def _rows(layer: Any, table: Any, state: Any, x: Any) -> tuple[Any, Any]:
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
