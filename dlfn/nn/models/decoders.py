"""The language models of Llama's family."""

from typing import Any

from dlfn.nn.checkpointed import Checkpointed
from dlfn.nn.embedding import Embedding
from dlfn.nn.initializers import small_normal
from dlfn.nn.models.language import LanguageModel, of_blocks
from dlfn.nn.normalisation import RMSNorm
from dlfn.nn.transformer import TransformerBlock

__all__ = ["llama"]


def llama(
    vocabulary: int,
    *,
    context: int | None = None,
    layers: int = 16,
    heads: int = 32,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    width: int = 2048,
    ratio: float = 4,
    positions: Any = "rope",
    window: int | None = None,
    qk_norm: bool = False,
    qkv_bias: bool = False,
    bias: bool = False,
    mlp_bias: bool = False,
    activation: str = "swiglu",
    eps: float = 1e-5,
    tied: bool = False,
    checkpoint: bool = False,
) -> LanguageModel:
    r"""Llama, and with other settings Mistral (``window``), Qwen2 (``qkv_bias``) and Qwen3 (``qk_norm``): causal
    transformer blocks with RMS norms first, positions by rotation, keys and values shared by groups of heads, and gated
    MLPs.

    Args:
        vocabulary: how many tokens there are.
        context: how many tokens the model is made to see at once, for :func:`~dlfn.nn.generate`.
        layers: how many blocks.
        heads: of the queries.
        kv_heads: of keys and values, a divisor of ``heads``; None for as many.
        head_dim: features of a head; None for width / heads.
        width: the features.
        ratio: the width of the MLPs in multiples of ``width``.
        positions: as of :class:`~dlfn.nn.MultiHeadAttention`.
        window: how many tokens each sees, itself included; None for all before it.
        qk_norm: whether queries and keys of each head are normalised.
        qkv_bias: whether the maps to queries, keys and values have a bias.
        bias: whether those and the map behind the heads have one.
        mlp_bias: whether those of the MLPs have one.
        activation: of the MLPs, a gated one.
        eps: of the norms.
        tied: whether the head is the embedding's table.
        checkpoint: whether the backward pass runs each block again, for less memory (``jax.checkpoint``).

    Raises:
        InputError: what the layers raise.

    Source: Touvron et al. 2023, *LLaMA: Open and Efficient Foundation Language Models*; Grattafiori et al. 2024, *The
    Llama 3 Herd of Models*; Jiang et al. 2023, *Mistral 7B*; Yang et al. 2025, *Qwen3 Technical Report*.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> model = llama(128256, layers=16, heads=32, kv_heads=8, width=2048, ratio=4, tied=True)  # Llama 3.2 1B
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8), int))
    >>> print(f"{nn.count_parameters(params):,}")
    1,235,814,400
    """
    norm = RMSNorm(eps=eps)
    block = TransformerBlock(
        heads,
        ratio=ratio,
        normalisation=norm,
        activation=activation,
        bias=mlp_bias,
        weight_init=small_normal,
        causal=True,
        kv_heads=kv_heads,
        head_dim=head_dim,
        positions=positions,
        window=window,
        qk_norm=norm if qk_norm else None,
        attention_bias=bias or qkv_bias,
        output_bias=bias,
    )
    blocks = [Checkpointed(block) if checkpoint else block] * layers
    return of_blocks(Embedding(vocabulary, width), blocks, norm, tied=tied, context=context)
