"""The vision transformer."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dlfn.core import InputError
from dlfn.nn.basic import Linear
from dlfn.nn.checkpointed import Checkpointed
from dlfn.nn.checks import held, kept
from dlfn.nn.combinators import Serial
from dlfn.nn.conv import Conv
from dlfn.nn.dropout import Dropout
from dlfn.nn.initializers import small_normal, zeros
from dlfn.nn.layer import Layer
from dlfn.nn.models.images import Images
from dlfn.nn.normalisation import LayerNorm
from dlfn.nn.pooling import GlobalAvgPool
from dlfn.nn.steps import TakeStep
from dlfn.nn.transformer import TransformerBlock
from dlfn.nn.types import AnyArray, Example, Params, State

__all__ = ["vit"]


def vit(
    outputs: int,
    *,
    patch: int = 4,
    layers: int = 6,
    heads: int = 4,
    width: int = 128,
    ratio: float = 4,
    activation: str = "gelu",
    eps: float = 1e-5,
    pool: Literal["token", "mean"] = "token",
    keep_prob: float = 1.0,
    rate: float | None = None,
    checkpoint: bool = False,
) -> Serial:
    """A vision transformer: the patches of an image as tokens, with learned positions, and transformer blocks.

    Args:
        outputs: how many classes.
        patch: the height and width of a patch. What is left at the edges of an image takes no part.
        layers: how many blocks.
        heads: of the attention.
        width: the features of a token.
        ratio: the width of the blocks' MLPs in multiples of ``width``.
        activation: of the MLPs.
        eps: of the norms.
        pool: what the head sees: a ``"token"`` that is put in front of the patches, or the ``"mean"`` of all.
        keep_prob: of the dropout on the tokens and before each sum; or ``rate``, 1 minus it.
        checkpoint: whether the backward pass runs each block again, for less memory (``jax.checkpoint``).

    Returns:
        A model of images (N, height, width, channels) or (N, height, width), all of the size that it is initialised
        for, with logits (N, outputs), which start as zeros.

    Raises:
        InputError: on another pool, on images of another size, and what the layers raise.

    Source: Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale*.

    >>> import jax, jax.numpy as jnp
    >>> model = vit(10, patch=7, layers=2, width=32)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 28, 28)))
    >>> print(params["tokens"]["positions"].shape, params["patches"]["kernel"].shape)
    (17, 32) (7, 7, 1, 32)
    """
    if pool not in ("token", "mean"):
        raise InputError(f"vit: pool is {pool!r}, and must be 'token' or 'mean'")
    keep_prob = kept("vit", keep_prob, rate)
    norm = LayerNorm(eps=eps)
    block = TransformerBlock(heads, ratio=ratio, normalisation=norm, activation=activation, keep_prob=keep_prob)
    parts: dict[str, Layer] = {
        "images": Images(),
        "patches": Conv(width, patch, patch),
        "tokens": _Tokens(extra=pool == "token"),
    }
    if keep_prob != 1:
        parts["dropout"] = Dropout(keep_prob)
    return Serial(
        **parts,
        blocks=Serial(*[Checkpointed(block) if checkpoint else block] * layers),
        norm=norm,
        pool=TakeStep(0) if pool == "token" else GlobalAvgPool(spatial=1),
        logits=Linear(outputs, weight_init=zeros),
    )


@dataclass(frozen=True)
class _Tokens(Layer):
    """``(N, rows, columns, features)`` to ``(N, tokens, features)``: one of each place, behind a learned one with
    ``extra``; learned positions are added."""

    takes = "array"
    extra: bool

    def init(self, key, x: Shaped[Example, "batch rows columns features"]) -> tuple[Params, State]:
        _, rows, columns, features = x.shape
        dtype = jnp.result_type(x.dtype, float)
        params = {"positions": small_normal(key, (rows * columns + self.extra, features), dtype)}
        return ({**params, "token": jnp.zeros(features, dtype)} if self.extra else params), ()

    def apply(
        self, params, state, x: Float[AnyArray, "batch rows columns features"], *, key=None, train=False
    ) -> tuple[Float[Array, "batch tokens features"], State]:
        (positions,) = held(self, "params", params, "positions")
        count, rows, columns, features = x.shape
        if (rows * columns + self.extra, features) != positions.shape:
            raise InputError(
                f"the model was initialised for images of {len(positions) - self.extra} patches and got {rows} × "
                f"{columns}; give it images of the same size, or initialise it for these"
            )
        y = x.reshape(count, rows * columns, features)
        if self.extra:
            token = jnp.broadcast_to(params["token"], (count, 1, features))
            y = jnp.concatenate([token.astype(y.dtype), y], axis=1)
        return jnp.add(y, positions), state
