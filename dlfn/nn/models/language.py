"""Language models: tokens to the logits of the tokens after them."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from jaxtyping import Array, Float, Integer

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.basic import Linear
from dlfn.nn.checkpointed import Checkpointed
from dlfn.nn.checks import held, kept
from dlfn.nn.combinators import Serial
from dlfn.nn.dropout import Dropout
from dlfn.nn.embedding import Embedding
from dlfn.nn.initializers import Initializer, small_normal
from dlfn.nn.layer import Layer, array_of, inside, output_shape
from dlfn.nn.normalisation import LayerNorm, RMSNorm
from dlfn.nn.positions import LearnedPositions
from dlfn.nn.recurrent import LSTM, Stacked
from dlfn.nn.rope import Rope
from dlfn.nn.sequence import Sequence, on_values, values_of
from dlfn.nn.several import child_key
from dlfn.nn.transformer import TransformerBlock
from dlfn.nn.types import AnyArray, Example, Params, RandomKey, State, Steps

__all__ = ["LanguageModel", "gpt", "lstm", "of_blocks"]


@dataclass(frozen=True)
class LanguageModel(Layer):
    """Tokens (..., steps), integers, to logits (..., steps, vocabulary): an embedding, a body and a head.

    Args:
        embedding: of the tokens.
        body: what is between, from features to features.
        head: a Linear to the logits; None for the embedding's table (tied weights).
        context: how many tokens the model is made to see at once, for :func:`~dlfn.nn.generate`; None for any number.

    A :class:`~dlfn.nn.Sequence` of tokens goes through it, with lengths or a mask, where the body takes it.

    Params are ``{"embedding", "body", "head"}``, without the last where the head is tied. State is that of the body.
    :meth:`loss` never holds all logits at once.

    >>> import jax, jax.numpy as jnp
    >>> model = gpt(65, context=8, layers=2, heads=2, width=16)
    >>> tokens = jnp.arange(9)[None]
    >>> params, state = model.init(jax.random.key(0), tokens[:, :-1])
    >>> losses, _ = model.loss(params, state, tokens[:, :-1], tokens[:, 1:])
    >>> print(model.apply(params, state, tokens[:, :-1])[0].shape, losses.shape)
    (1, 8, 65) (1, 8)
    """

    embedding: Embedding
    body: Layer
    head: Linear | None = None
    context: int | None = None

    def children(self):
        head = {} if self.head is None else {"head": self.head}
        return {"embedding": self.embedding, "body": self.body, **head}

    def with_children(self, children: Mapping[str, Any]):
        return replace(self, **children)

    def init(self, key, x: Integer[Example, "*batch steps"] | Sequence) -> tuple[Params, State]:
        array_of(self, x)  # refuses what is no array
        params: dict[str, Any] = {}
        state: State = ()
        y: Any = x
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                params[name], own = layer.init(child_key(key, index), y)
                y = output_shape(layer, params[name], own, y)
            state = own if name == "body" else state
        return params, state

    def apply(
        self, params, state, x: Integer[Steps, "*batch steps"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch steps {self.embedding.vocabulary}"], State]:
        y, state = self._features(params, state, x, key, train)
        if self.head is None:
            return on_values(functools.partial(self.embedding.logits, params["embedding"]), y), state
        with inside("head"):
            return self.head.apply(params["head"], (), y)[0], state

    def loss(
        self,
        params: Params,
        state: State,
        inputs: Integer[AnyArray, "*batch steps"] | Sequence,
        labels: Integer[AnyArray, "*batch steps"],
        *,
        key: RandomKey | None = None,
        train: bool = False,
        reduction: Literal["none", "mean", "sum"] = "none",
        **options: Any,
    ) -> tuple[Float[Array, "..."], State]:
        """The cross-entropy of the logits, and the state, by :func:`dlfn.ops.linear_cross_entropy`.

        Args:
            params, state: as for ``apply``.
            inputs: tokens.
            labels: the token after each, or the op's ``ignore_label``, as after padding.
            key, train: as for ``apply``.
            reduction: ``"none"`` for a loss of each token, (..., steps). ``"mean"`` and ``"sum"`` are cheaper.
            options: the op's others, such as ``label_smoothing``.
        """
        y, state = self._features(params, state, inputs, key, train)
        y = values_of(y)
        if self.head is None:
            return self.embedding.loss(params["embedding"], y, labels, reduction=reduction, **options), state
        head = params["head"]
        return ops.linear_cross_entropy(y, head["w"], labels, head.get("b"), reduction=reduction, **options), state

    def flops(self, x, y):
        """Those of a tied head, as there is no layer for it: two for each logit and feature."""
        return 2 * y.size * self.embedding.features if self.head is None else 0

    def _features(self, params: Params, state: State, x: Any, key: Any, train: bool) -> tuple[Any, State]:
        """What the head sees."""
        array_of(self, x)  # refuses what is no array
        embedding, body, *_ = held(self, "params", params, *self.children())
        with inside("embedding"):
            y, _ = self.embedding.apply(embedding, (), x)
        with inside("body"):
            return self.body.apply(body, state, y, key=child_key(key, 1), train=train)


def gpt(
    vocabulary: int,
    *,
    context: int = 256,
    layers: int = 6,
    heads: int = 6,
    width: int = 384,
    ratio: float = 4,
    keep_prob: float = 1.0,
    rate: float | None = None,
    attention_keep_prob: float = 1.0,
    bias: bool = False,
    tied: bool = True,
    positions: Literal["learned", "rope", "alibi"] | Rope = "learned",
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm",
    activation: str = "gelu",
    eps: float | None = None,
    checkpoint: bool = False,
) -> LanguageModel:
    r"""GPT-2 as nanoGPT has it: causal transformer blocks with the norms first, and a norm at the end.

    Weights are normal with standard deviation 0.02, those of the maps before the sums with
    :math:`0.02 / \sqrt{2 \cdot \mathrm{layers}}`. Dropout of attention's probabilities is apart.

    Args:
        vocabulary: how many tokens there are.
        context: how many tokens the model sees at once. With learned positions it takes no longer input.
        layers: how many blocks.
        heads: of the attention, a divisor of ``width``.
        width: the features.
        ratio: the width of the blocks' MLPs in multiples of ``width``.
        keep_prob: of the dropout on the embeddings and before each sum; or ``rate``, 1 minus it.
        attention_keep_prob: of the dropout on attention's probabilities.
        bias: whether linear maps and layer norms have one.
        tied: whether the head is the embedding's table.
        positions: ``"learned"`` ones, added to the embeddings, or those of the attention: ``"rope"``, a
            :class:`~dlfn.nn.Rope` with settings, or ``"alibi"``.
        norm: ``"layer_norm"`` or ``"rms_norm"``.
        activation: of the MLPs, also a gated one, such as ``"swiglu"``.
        eps: of the norms; None for their defaults.
        checkpoint: whether the backward pass runs each block again, for less memory (``jax.checkpoint``).

    Raises:
        InputError: on other positions or norms, and what the layers raise.

    Source: Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*; Karpathy's nanoGPT.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> model = gpt(50257, context=1024, layers=12, heads=12, width=768, bias=True)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8), int))
    >>> print(f"{nn.count_parameters(params):,}")
    124,439,808
    """
    if not isinstance(positions, Rope) and positions not in ("learned", "rope", "alibi"):
        raise InputError(f"gpt: positions is {positions!r}, and must be 'learned', 'rope', 'alibi' or nn.Rope(...)")
    if norm not in ("layer_norm", "rms_norm"):
        raise InputError(f"gpt: norm is {norm!r}, and must be 'layer_norm' or 'rms_norm'")
    keep_prob = kept("gpt", keep_prob, rate)
    own: dict[str, Any] = {} if eps is None else {"eps": eps}
    normalisation = LayerNorm(bias=bias, **own) if norm == "layer_norm" else RMSNorm(**own)
    block = TransformerBlock(
        heads,
        ratio=ratio,
        normalisation=normalisation,
        activation=activation,
        bias=bias,
        keep_prob=keep_prob,
        attention_keep_prob=attention_keep_prob,
        weight_init=small_normal,
        output_init=_before_sums(layers),
        causal=True,
        positions=None if positions == "learned" else positions,
    )
    before: dict[str, Layer] = {"positions": LearnedPositions(context)} if positions == "learned" else {}
    if keep_prob != 1:
        before["dropout"] = Dropout(keep_prob)
    blocks = [Checkpointed(block) if checkpoint else block] * layers
    return of_blocks(Embedding(vocabulary, width), blocks, normalisation, before=before, tied=tied, context=context)


def of_blocks(
    embedding: Embedding,
    blocks: Iterable[Layer],
    norm: Layer,
    *,
    before: Mapping[str, Layer] = MappingProxyType({}),
    tied: bool,
    context: int | None,
) -> LanguageModel:
    """A language model whose body is ``before``, the blocks and a norm, with a head that is a matrix, or tied."""
    head = None if tied else Linear(embedding.vocabulary, bias=False, weight_init=small_normal)
    return LanguageModel(embedding, Serial(**before, blocks=Serial(*blocks), norm=norm), head, context)


@functools.cache  # so that models of the same settings are equal
def _before_sums(layers: int) -> Initializer:
    return functools.partial(small_normal, std=0.02 / math.sqrt(2 * layers))


def lstm(
    vocabulary: int,
    *,
    width: int = 256,
    layers: int = 1,
    keep_prob: float = 1.0,
    rate: float | None = None,
    embedding: int | None = None,
) -> LanguageModel:
    """A language model of LSTMs, one on the outputs of the other, with a Linear as head.

    Args:
        vocabulary: how many tokens there are.
        width: the features of each LSTM.
        layers: how many LSTMs.
        keep_prob: of the dropout on what each LSTM takes and on what the head takes; or ``rate``, 1 minus it.
        embedding: the features of the embedding; None for ``width``.

    Raises:
        InputError: what the layers raise.

    Source: Zaremba, Sutskever & Vinyals 2014, *Recurrent Neural Network Regularization*.

    >>> import jax, jax.numpy as jnp
    >>> model = lstm(65, width=32, embedding=8)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((2, 5), int))
    >>> print(model.apply(params, state, jnp.zeros((2, 5), int))[0].shape)
    (2, 5, 65)
    """
    keep_prob = kept("lstm", keep_prob, rate)
    dropout: dict[str, Layer] = {"dropout": Dropout(keep_prob)} if keep_prob != 1 else {}
    after: dict[str, Layer] = {"output_dropout": Dropout(keep_prob)} if keep_prob != 1 else {}
    stack = Stacked(*[LSTM(width)] * layers, keep_prob=keep_prob)
    return LanguageModel(
        Embedding(vocabulary, embedding or width), Serial(**dropout, lstm=stack, **after), Linear(vocabulary)
    )
