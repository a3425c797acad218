"""Encoders of text: tokens to features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.basic import Linear
from dlfn.nn.checkpointed import Checkpointed
from dlfn.nn.checks import held
from dlfn.nn.combinators import Serial
from dlfn.nn.dropout import Dropout
from dlfn.nn.embedding import Embedding
from dlfn.nn.initializers import small_normal
from dlfn.nn.layer import Layer, inside, output_shape
from dlfn.nn.normalisation import LayerNorm
from dlfn.nn.positions import LearnedPositions
from dlfn.nn.sequence import Sequence, on_values, values_of
from dlfn.nn.several import child_key
from dlfn.nn.transformer import TransformerBlock

__all__ = ["TextEncoder", "bert"]


@dataclass(frozen=True)
class TextEncoder(Layer):
    """Tokens (..., steps), integers, to features (..., steps, width): embeddings of tokens and of their types, and a
    body.

    The input is the tokens, an array or a :class:`~dlfn.nn.Sequence`, or a pair of them and their types, an array of
    integers in the same shape; types are 0 where there are none. Of a Sequence, the output is one.

    Args:
        embedding: of the tokens.
        body: from features to features.
        types: the embedding of the types; None for none.
        pooler: of what :meth:`pooled` makes of the first step; None for none.

    Params are ``{"embedding", "body", "types", "pooler"}``, of what there is.
    """

    embedding: Embedding
    body: Layer
    types: Embedding | None = None
    pooler: Linear | None = None

    def children(self):
        own = {"embedding": self.embedding, "types": self.types, "body": self.body, "pooler": self.pooler}
        return {name: layer for name, layer in own.items() if layer is not None}

    def with_children(self, children: Mapping[str, Any]):
        return replace(self, **children)

    def init(self, key, x):
        params: dict[str, Any] = {}
        tokens, types = self._inputs(x)
        y, state = tokens, ()
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                if name == "types":
                    params[name], _ = layer.init(child_key(key, index), types)
                    continue
                params[name], own = layer.init(child_key(key, index), y)
                y = output_shape(layer, params[name], own, y)
            state = own if name == "body" else state
        return params, state

    def apply(self, params, state, x, *, key=None, train=False):
        tokens, types = self._inputs(x)
        held(self, "params", params, *self.children())
        with inside("embedding"):
            y, _ = self.embedding.apply(params["embedding"], (), tokens)
        if self.types is not None:
            with inside("types"):
                rows, _ = self.types.apply(params["types"], (), types)
            y = on_values(jnp.add, y, rows)
        with inside("body"):
            return self.body.apply(params["body"], state, y, key=child_key(key, 1), train=train)

    def pooled(self, params: Any, features: Any) -> Any:
        """tanh of a linear map of the first step: (..., steps, width) to (..., width)."""
        if self.pooler is None:
            raise InputError("this encoder has no pooler; take the first step of its features, or their mean")
        return ops.tanh(self.pooler.apply(params["pooler"], (), values_of(features)[..., 0, :])[0])

    def flops(self, x, y):
        return values_of(y).size if self.types is not None else 0

    def _inputs(self, x: Any) -> tuple[Any, Any]:
        tokens, types = x if isinstance(x, tuple) and not isinstance(x, Sequence) else (x, None)
        if types is not None and self.types is None:
            raise InputError("this encoder has no types; give it the tokens alone")
        ids = values_of(tokens)
        types = jnp.zeros(ids.shape, jnp.int32) if types is None else types
        if types.shape != ids.shape:
            raise InputError(f"the types are {list(types.shape)} for tokens {list(ids.shape)}, and must be as many")
        return tokens, tokens._replace(values=types) if isinstance(tokens, Sequence) else types


def bert(
    vocabulary: int,
    *,
    context: int = 512,
    types: int = 2,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    ratio: float = 4,
    activation: str = "gelu",
    eps: float = 1e-12,
    keep_prob: float = 1.0,
    pooler: bool = True,
    checkpoint: bool = False,
) -> TextEncoder:
    """BERT: learned positions, and transformer blocks with the norms after the sums.

    Args:
        vocabulary: how many tokens there are.
        context: how many tokens it sees at most.
        types: how many types of tokens there are, such as first and second text; 0 for none.
        layers: how many blocks.
        heads: of the attention, a divisor of ``width``.
        width: the features.
        ratio: the width of the MLPs in multiples of ``width``.
        activation: of the MLPs.
        eps: of the norms.
        keep_prob: of the dropout on the embeddings and before each sum.
        pooler: whether there is one.
        checkpoint: whether the backward pass runs each block again, for less memory (``jax.checkpoint``).

    Raises:
        InputError: what the layers raise.

    Source: Devlin et al. 2019, *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding*.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> model = bert(30522)  # bert-base-uncased
    >>> tokens = nn.Sequence(jnp.zeros((2, 8), int), lengths=jnp.array([8, 5]))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), tokens)
    >>> print(f"{nn.count_parameters(params):,}", jax.eval_shape(model.apply, params, state, tokens)[0].values.shape)
    109,482,240 (2, 8, 768)
    """
    norm = LayerNorm(eps=eps)
    block = TransformerBlock(
        heads,
        ratio=ratio,
        norm="post",
        normalisation=norm,
        activation=activation,
        keep_prob=keep_prob,
        weight_init=small_normal,
    )
    dropout: dict[str, Layer] = {"dropout": Dropout(keep_prob)} if keep_prob != 1 else {}
    blocks = Serial(*[Checkpointed(block) if checkpoint else block] * layers)
    return TextEncoder(
        Embedding(vocabulary, width),
        Serial(positions=LearnedPositions(context), norm=norm, **dropout, blocks=blocks),
        Embedding(types, width) if types else None,
        Linear(width, weight_init=small_normal) if pooler else None,
    )
