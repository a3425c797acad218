"""Sampling from language models, one token after the other."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer, Shaped

from dlfn.core import InputError
from dlfn.nn.activations import Activation
from dlfn.nn.attention import MultiHeadAttention
from dlfn.nn.checks import held
from dlfn.nn.combinators import Serial
from dlfn.nn.gated import Gated
from dlfn.nn.layer import Layer, brief, inside, title
from dlfn.nn.positions import LearnedPositions, SinusoidalPositions
from dlfn.nn.recurrent import Recurrent, Stacked
from dlfn.nn.sequence import Sequence
from dlfn.nn.types import AnyArray, Carry, Example, Params, RandomKey, State

__all__ = ["generate"]


def generate(
    model: Layer,
    params: Params,
    state: State,
    prompt: Integer[AnyArray, "*batch steps"],
    length: int,
    *,
    key: RandomKey | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    context: int | None = None,
) -> Integer[Array, "*batch {length}"]:
    r"""Continues a prompt by ``length`` tokens, each drawn from :math:`\operatorname{softmax}(\mathrm{logits} / T)`.

    It is a loop on the device in which the model takes one token at a time: attention keeps the keys and values of the
    last ``context`` tokens, layers over time their state. There is no end to it. Where positions are relative (rope,
    ALiBi) or there are none, each token goes on seeing the ``context`` tokens before it. Where they are added from a
    table, as learned ones are, a table that is used up cannot go on: then the last half of as many tokens is read again
    from position 0, once for every half.

    Args:
        model: any model from tokens to logits that treats steps by themselves, or by causal attention or recurrence:
            :func:`~dlfn.nn.models.gpt`, :func:`~dlfn.nn.models.lstm`, or one of layers such as theirs.
        params, state: as for ``model.apply``. The state must be empty.
        prompt: tokens, at least one in each row.
        length: how many tokens to add.
        key: for what is drawn; token i takes ``fold_in(key, i)``. Not needed at temperature 0.
        temperature: T; 0 takes the most likely token.
        top_k: draw among so many of the most likely tokens alone.
        context: how many tokens attention sees; None for that of the model, for the length of its table of positions,
            or else for all.

    Returns:
        The new tokens, in the dtype of the prompt.

    Raises:
        InputError: on a model that mixes steps in another way, on a prompt that is empty or not integers, on settings
            out of range, and when a key is needed and missing.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> model = nn.models.gpt(65, context=8, layers=1, heads=2, width=8)
    >>> prompt = jnp.array([[1, 2, 3]])
    >>> params, state = model.init(jax.random.key(0), prompt)
    >>> print(generate(model, params, state, prompt, 20, key=jax.random.key(1), top_k=5).shape)
    (1, 20)
    """
    prompt = jnp.asarray(prompt)
    _check(state, prompt, length, key, temperature, top_k, context)
    tables = [layer.length for layer in _inside(model) if isinstance(layer, LearnedPositions | SinusoidalPositions)]
    total = prompt.shape[-1] + length
    limit = min((size for size in tables if size is not None), default=total)
    window = context or getattr(model, "context", None) or limit
    decoder = _decoder(model, window, total)
    known, start = prompt[..., -limit:], prompt.shape[-1]
    key = jax.random.key(0) if key is None else key
    parts = [prompt[..., :0]]
    while known.shape[-1] and start < total:
        # The last token that is drawn is not read any more.
        steps = min(total - start, limit - known.shape[-1] + 1)
        settings = dict(steps=steps, greedy=temperature == 0, top_k=top_k)
        new = _continuation(decoder, params, known, key, temperature, start - prompt.shape[-1], **settings)
        parts.append(new)
        start += steps
        known = jnp.concatenate([known, new], -1)[..., -max(1, limit // 2) :]
    return jnp.concatenate(parts, -1)


@functools.partial(jax.jit, static_argnames=("decoder", "greedy", "steps", "top_k"))
def _continuation(
    decoder: Layer, params: Params, known: Array, key: Any, temperature: Any, first: Any, *, steps: int, greedy: bool,
    top_k: int | None,
) -> Array:  # fmt: skip
    """So many tokens after those that are known; the first of them is drawn by the key's number ``first``."""
    _, state = decoder.init(key, known[..., :1])
    if known.shape[-1] > 1:
        _, state = decoder.apply(params, state, known[..., :-1])  # its logits are never computed

    def step(carry, index):
        token, state = carry
        logits, state = decoder.apply(params, state, token[..., None])
        token = choice(logits[..., 0, :], index).astype(known.dtype)
        return (token, state), token

    def choice(logits, index):
        if greedy:
            return jnp.argmax(logits, -1)
        if top_k is not None:
            least = lax.top_k(logits, min(top_k, logits.shape[-1]))[0][..., -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        return jax.random.categorical(jax.random.fold_in(key, index), logits / temperature)

    _, tokens = lax.scan(step, (known[..., -1], state), first + jnp.arange(steps))
    return jnp.moveaxis(tokens, 0, -1)


def _decoder(layer: Layer, window: int, total: int) -> Any:
    """The layer with another in the place of each that looks at other steps, which takes the next steps alone and has
    those before in its state. Params are the same."""
    if isinstance(layer, MultiHeadAttention):
        if not layer.causal:
            raise InputError(f"{layer} sees the tokens that are to be generated; generate needs causal=True")
        return replace(layer, cache=window)
    if isinstance(layer, LearnedPositions):
        return replace(layer, decoding=True)
    if isinstance(layer, SinusoidalPositions):
        return replace(layer, decoding=True, length=layer.length or total)
    if isinstance(layer, Recurrent):
        if layer.reverse or layer.output != "sequence":
            raise InputError(
                f"{title(layer)} cannot go on token by token; generate needs layers over time with output='sequence', "
                "from the first step to the last"
            )
        return _Continued(layer)
    if isinstance(layer, Stacked):
        return Serial(*(_decoder(child, window, total) for child in layer.layers))
    children = {}
    for name, child in layer.children().items():
        with inside(name):
            children[name] = _decoder(child, window, total)
    if children:
        return layer.with_children(children)
    if layer.takes != "steps" and not isinstance(layer, Activation | Gated):
        raise InputError(
            f"{title(layer)} may mix a token with those that are to be generated; generate needs layers that treat "
            'every step by itself (takes = "steps"), causal attention and recurrence'
        )
    return layer


@dataclass(frozen=True)
class _Continued(Layer):
    """A layer over time that goes on from where it was, which is its state."""

    takes = "array"
    layer: Recurrent

    def init(self, key, x: Shaped[Example, "*batch steps features"]) -> tuple[Params, State]:
        step = jnp.zeros((*x.shape[:-2], x.shape[-1]), x.dtype)
        return self.layer.init(key, x)[0], {"carry": self.layer.cell.initial(step)}

    def apply(
        self, params, state, x: Float[AnyArray, "*batch steps features"], *, key=None, train=False
    ) -> tuple[Float[Array, "*batch steps outputs"], State]:
        carry: Carry
        (carry,) = held(self, "state", state, "carry")
        (values, _, carry), _ = self.layer.run(params, (), Sequence(x, initial=carry), key=key, train=train)
        return values, {"carry": carry}


def _inside(layer: Layer) -> Iterator[Layer]:
    """The layer and all that are in it."""
    yield layer
    for child in layer.children().values():
        yield from _inside(child)


def _check(
    state: Any, prompt: Any, length: Any, key: Any, temperature: Any, top_k: int | None, context: int | None
) -> None:
    if jax.tree.leaves(state):
        raise InputError(
            f"generate: state is {brief(state)}, and must be empty; running statistics and the like are not for models "
            "of language"
        )
    if not jnp.issubdtype(prompt.dtype, jnp.integer) or prompt.ndim == 0 or prompt.shape[-1] == 0:
        raise InputError(f"generate: prompt is {brief(prompt)}, and must be integers (..., steps), one step at least")
    for name, value, least in (("length", length, 0), ("top_k", top_k, 1), ("context", context, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise InputError(f"generate: {name} is {value!r}, and must be an integer from {least} on")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"generate: temperature is {temperature!r}, and must be a number from 0 on")
    if temperature > 0 and key is None:
        raise InputError("generate: what is drawn needs a key; give key=jax.random.key(0), or temperature=0")
