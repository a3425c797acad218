"""Multi-head attention, with a cache for decoding."""

import math
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn import ring
from dlfn.nn.checks import held, kept, require_sizes, required_key
from dlfn.nn.initializers import Initializer, xavier_uniform, zeros
from dlfn.nn.layer import Layer, brief
from dlfn.nn.rope import Rope
from dlfn.nn.sequence import Sequence, values_of
from dlfn.nn.types import Params, State
from dlfn.ops.recurrent.recurrence import check_lengths
from dlfn.ops.support.dtypes import sum_dtype

__all__ = ["MultiHeadAttention"]


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    r""":math:`\mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h) W^O`, with
    :math:`\mathrm{head}_i = \mathrm{Attention}(X W_i^Q, C W_i^K, C W_i^V)`.

    The input is x, (..., time, features), for self-attention; a pair (x, context) for cross-attention; or a triple
    (x, context, mask), whose boolean mask, True where a query sees a key, is (time, keys) or (..., heads, time, keys)
    with as many leading axes as x; sizes of 1 broadcast. For self-attention with a mask pass (x, x, mask), or
    ``nn.Sequence(x, mask=mask)``, which goes through a model. Of a :class:`~dlfn.nn.Sequence`, as x or as the context,
    no step sees the padding; if x is one, so is the output.

    Args:
        heads: how many heads.
        kv_heads: how many heads of keys and values, a divisor of ``heads``; None for as many as ``heads``.
        head_dim: features of a head; None for features / heads.
        causal: whether a time sees only itself and the times before it.
        bias: whether the four linear maps have one.
        positions: ``"rope"`` turns queries and keys by their positions, with the settings of ``Rope()``; for others,
            such as the base and Llama 3's scaling, give a :class:`~dlfn.nn.Rope`. ``"alibi"`` adds a bias by distance.
            That bias is an array (heads, time, keys), so that memory is quadratic in time with it, and linear without.
        cache: for decoding, of how many times the keys and values are kept. ``init`` then returns a state with room for
            them, and ``apply`` takes the next times only, one or several; see below.
        qk_norm: a layer, such as ``RMSNorm()``, that normalises each head's queries, and one like it each head's keys,
            before they are turned by their positions; None for none.
        output_bias: whether ``o`` has a bias; None for ``bias``.
        attention_keep_prob: of the dropout on the attention's probabilities, in training; or ``attention_rate``, 1
            minus it.
        window, soft_cap: as those of :func:`dlfn.ops.attention`; a shorter cache is the window instead.
        weight_init, bias_init: of the four linear maps.
        output_init: of the weight of ``o``; None for ``weight_init``.

    Params are ``{"q", "k", "v", "o"}``, each ``{"w", "b"}`` as those of ``Linear``, and with ``qk_norm`` ``"q_norm"``
    and ``"k_norm"``.

    Decoding: a layer with ``cache`` takes the params of the same layer without. Each ``apply`` appends the keys and
    values of its input to the state, and attends to those so far; so do models with such layers in them. The cache is a
    rolling window: each time sees the last ``cache`` times, itself included, and decoding goes on for as long as one
    likes. Positions go on counting: rope and ALiBi give what attention within that window gives over the whole
    sequence. A prompt may be a Sequence with a mask of steps, as of padding in front, where ``init`` had one, too.

    Raises:
        InputError: when heads, kv_heads and features do not divide; when a cache is asked of attention that is not
            causal or has a context, or was made for another batch; on a mask of another rank; and on dropout in
            training without a key.

    Source: Vaswani et al. 2017, *Attention Is All You Need*; 002 sections 8.2 and 8.3.

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
    positions: Literal["rope", "alibi"] | Rope | None = None
    cache: int | None = None
    qk_norm: Layer | None = None
    output_bias: bool | None = None
    window: int | None = None
    soft_cap: float | None = None
    weight_init: Initializer = xavier_uniform
    bias_init: Initializer = zeros
    output_init: Initializer | None = None
    precision: lax.PrecisionLike = None
    attention_keep_prob: float = 1.0
    attention_rate: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, attention_rate):
        super().__post_init__()
        keep_prob = kept("MultiHeadAttention", self.attention_keep_prob, attention_rate, prefix="attention_")
        object.__setattr__(self, "attention_keep_prob", keep_prob)
        if not (self.positions is None or isinstance(self.positions, Rope) or self.positions in ("rope", "alibi")):
            raise InputError(
                f"MultiHeadAttention: positions is {self.positions!r:.60}, and must be 'rope', 'alibi', None, or "
                "nn.Rope(...) for rope with settings"
            )
        given = [name for name in ("kv_heads", "head_dim", "cache", "window") if getattr(self, name) is not None]
        require_sizes(self, "heads", *given)
        if self.heads % (self.kv_heads or self.heads):
            raise InputError(
                f"MultiHeadAttention: kv_heads is {self.kv_heads}, and must divide heads, which is {self.heads}"
            )
        if self.cache and not self.causal:
            raise InputError("MultiHeadAttention: a cache holds the past, so that attention must be causal=True")

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        masked = isinstance(x, Sequence) and x.mask is not None
        x, context, _ = map(values_of, self._inputs(x))
        if x.ndim < 2 or context.ndim < 2:
            raise InputError(f"{self} needs (..., time, features), got {list(x.shape)} and {list(context.shape)}")
        features, dtype = x.shape[-1], jnp.result_type(x.dtype, float)
        if self.head_dim is None and features % self.heads:
            raise InputError(
                f"{self}: {features} features do not divide into {self.heads} heads; give head_dim, or other heads"
            )
        dim = self.head_dim or features // self.heads
        self._turn(dim)  # refuses features that are no pairs
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
            weight_init = self.output_init if name == "o" and self.output_init else self.weight_init
            params[name] = {"w": weight_init(w_key, shape, dtype)}
            if self.bias if name != "o" or self.output_bias is None else self.output_bias:
                params[name]["b"] = self.bias_init(b_key, shape[1:], dtype)
        if self.qk_norm is not None:
            head = jax.ShapeDtypeStruct((1, dim), dtype)
            params |= {name: self.qk_norm.init(key, head)[0] for name in ("q_norm", "k_norm")}
        if not self.cache:
            return params, ()
        return params, ring.empty((*x.shape[:-2], self.cache, kv_heads, dim), dtype, masked=masked)

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        around, context, mask = self._inputs(x)
        if self.cache and (mask is not None or around is not context or getattr(around, "lengths", None) is not None):
            raise InputError(
                f"{self}: with a cache the input is the next times alone, with a mask of steps or none, and without "
                "lengths; the cache is the context"
            )
        x, context, mask = _without_padding(around, context, mask, self.causal)
        *_, output = held(self, "params", params, "q", "k", "v", "o")
        dim = output["w"].shape[0] // self.heads
        q, k, v = (
            self._split(params[name], inputs, dim) for name, inputs in (("q", x), ("k", context), ("v", context))
        )
        if self.qk_norm is not None:
            q, k = (self.qk_norm.apply(params[f"{name}_norm"], (), z)[0] for name, z in (("q", q), ("k", k)))
        start, *_ = held(self, "state", state, "length", "k", "v") if self.cache else (0,)
        here = start + jnp.arange(x.shape[-2])
        turn = self._turn(dim)
        if turn:
            q, k = (ops.rope(z, here if self.cache else None, **turn) for z in (q, k))
        times = k.shape[-3]
        if self.cache:
            self._check_batch(state, k)
            seen = self._seen(state, k, mask)
            past, times, state = ring.with_past(state, k=k, v=v, **seen)
            k, v = past["k"], past["v"]
            reach = min(self.cache, self.window or self.cache)
            at, now = times[None, :], here[:, None]
            mask = (at >= 0) & (at > now - reach) & (at <= now)
            mask = mask & jnp.moveaxis(past["seen"], -3, -1) if seen else mask
        bias = None
        if self.positions == "alibi":
            # In float32 at least: bfloat16 rounds distances from 257 on.
            queries = here if self.cache else x.shape[-2]
            bias = ops.alibi_bias(self.heads, queries, times, dtype=sum_dtype(x.dtype))
        around_each = {} if self.cache else {"causal": self.causal, "window": self.window}
        settings = {**around_each, **self._dropping(key, train)}
        y = ops.attention(q, k, v, bias, mask, **settings, soft_cap=self.soft_cap, precision=self.precision)
        y = y.astype(q.dtype)
        y = self._linear(params["o"], y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1]))
        return (around._replace(values=y).without_padding() if isinstance(around, Sequence) else y), state

    def flops(self, x, y):
        """Those of the four linear maps, and of two products of all queries by all keys, which a causal mask halves."""
        x, context, _ = map(values_of, self._inputs(x))
        width = self.heads * (self.head_dim or x.shape[-1] // self.heads)
        kv_width = width // self.heads * (self.kv_heads or self.heads)
        rows, columns = math.prod(x.shape[:-1]), math.prod(context.shape[:-1])
        keys = self.cache or context.shape[-2]
        linear = 4 * rows * x.shape[-1] * width + 4 * columns * context.shape[-1] * kv_width
        return linear + 4 * rows * keys * width // (2 if self.causal and not self.cache else 1)

    def _inputs(self, x: Any) -> tuple[Any, Any, Any]:
        """x, the context and the mask. The first two are arrays or Sequences."""
        given = x if isinstance(x, tuple) and not isinstance(x, Sequence) else (x, x)
        if len(given) not in (2, 3):
            raise InputError(
                f"{self}: the input is a tuple of {len(given)}, and must be x, (x, context) or with a mask"
            )
        x, context, mask = (*given, None) if len(given) == 2 else given
        for part in (x, context):
            if isinstance(part, Sequence) and part.mask is not None and part.steps_mask is None:
                if x is not context or len(given) == 3:
                    raise InputError(
                        f"{self}: the Sequence has a mask of pairs {brief(part.mask)}, which is for self-attention "
                        "alone; beside a context give the mask as (x, context, mask)"
                    )
                mask = part.mask
        for name, part in (("x", x), ("the context", context)):
            if not hasattr(values_of(part), "shape"):
                raise InputError(f"{self}: {name} is {brief(part)}, and must be an array or a Sequence")
        rank, sizes = values_of(x).ndim, (*values_of(x).shape[-2:-1], *values_of(context).shape[-2:-1])
        if mask is not None and not (
            hasattr(mask, "shape")
            and mask.dtype == bool
            and mask.ndim in (2, rank + 1)
            and all(size in (1, whole) for size, whole in zip(mask.shape[-2:], sizes))
        ):
            raise InputError(
                f"{self}: the mask is {brief(mask)}, and must be boolean, (time, keys), which is {list(sizes)}, or "
                f"(..., heads, time, keys) with {rank + 1} axes, as x has {rank}; pass mask[..., None, :, :] for all "
                "heads"
            )
        return x, context, mask

    def _dropping(self, key: Any, train: bool) -> dict[str, Any]:
        """What ops.attention gets for dropout; nothing without."""
        if not train or self.attention_keep_prob == 1:
            return {}
        return {"key": required_key(self, key), "keep_prob": self.attention_keep_prob}

    def _turn(self, dim: int) -> dict[str, Any]:
        """The settings of ops.rope; none for other positions."""
        rope = Rope() if self.positions == "rope" else self.positions
        if not isinstance(rope, Rope):
            return {}
        try:
            frequencies = rope.frequencies(dim)
        except InputError as error:
            raise InputError(f"{self}: {error}") from None
        return {"frequencies": frequencies, "interleaved": rope.interleaved, "scale": rope.magnitude()}

    def _linear(self, params: Any, x: Any) -> Any:
        if x.shape[-1] != params["w"].shape[0]:
            raise InputError(
                f"{self} was initialised for {params['w'].shape[0]} features and got an input of shape {x.shape}"
            )
        return ops.linear(x, params["w"], params.get("b"), precision=self.precision)

    def _split(self, params: Any, x: Any, dim: int) -> Any:
        y = self._linear(params, x)
        return y.reshape(*y.shape[:-1], y.shape[-1] // dim, dim)

    def _seen(self, state: Any, k: Any, mask: Any) -> dict[str, Any]:
        """Which of the next times are seen, as the ring takes it; nothing where the cache has no mask."""
        if "seen" in state:
            shape = (*k.shape[:-2], 1, 1)
            return {"seen": jnp.ones(shape, bool) if mask is None else jnp.swapaxes(mask, -3, -1).reshape(shape)}
        if mask is not None:
            raise InputError(
                f"{self}: x has a mask, and the cache was made without; call init with a Sequence that has one"
            )
        return {}

    def _check_batch(self, state: Any, k: Any) -> None:
        if k.shape[:-3] != state["k"].shape[:-3]:
            raise InputError(
                f"{self}: the cache is for a batch of {list(state['k'].shape[:-3])} and x has {list(k.shape[:-3])}; "
                "call init with an example of this batch"
            )


def _without_padding(x: Any, context: Any, mask: Any, causal: bool) -> tuple[Any, Any, Any]:
    """The arrays of x and of the context, with zeros in the place of padding and of keys that no query sees, and a mask
    that leaves out the padding of the context."""
    arrays = []
    for part in (x,) if context is x else (x, context):
        if isinstance(part, Sequence):
            if part.lengths is not None:
                check_lengths("MultiHeadAttention", part.lengths, part.values)
            part = part.without_padding()
        arrays.append(values_of(part))
    x, keys = arrays[0], arrays[-1]
    if mask is not None:
        sees = mask.reshape(*[1] * (keys.ndim + 1 - mask.ndim), *mask.shape)
        if causal:
            sees = sees & jnp.tril(jnp.ones((x.shape[-2], keys.shape[-2]), bool), keys.shape[-2] - x.shape[-2])
        keys = jnp.where(jnp.any(sees, axis=(-3, -2))[..., None], keys, jnp.zeros_like(keys))
    counts = context.counts() if isinstance(context, Sequence) else None
    if counts is not None:
        seen = counts[..., None, None, :]
        mask = seen if mask is None else mask & seen
    return x, keys, mask
