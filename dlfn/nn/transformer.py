"""The transformer block, made of layers."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from jaxtyping import Float, Shaped

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn.activations import ACTIVATIONS, GATED, Activation
from dlfn.nn.attention import MultiHeadAttention
from dlfn.nn.basic import Linear
from dlfn.nn.checks import kept
from dlfn.nn.combinators import Residual, Serial
from dlfn.nn.dropout import Dropout
from dlfn.nn.gated import Gated
from dlfn.nn.initializers import Initializer, xavier_uniform
from dlfn.nn.layer import Layer
from dlfn.nn.normalisation import LayerNorm
from dlfn.nn.rope import Rope
from dlfn.nn.types import Example, Params, State, Steps

__all__ = ["FeedForward", "TransformerBlock"]


@dataclass(frozen=True)
class FeedForward(Layer):
    r""":math:`W_2\, \sigma(W_1 x + b_1) + b_2`, with ``ratio`` times as many features inside as go in and come out.

    ``activation`` is a function or the name of one in :data:`ACTIVATIONS`. With a gated one, ``"glu"``, ``"geglu"``,
    ``"geglu_tanh"`` or ``"swiglu"``, the first map has twice as many outputs: the values and then their gates.
    With 2/3 of the ratio there are as many parameters as without gates. ``weight_init`` is that of :math:`W_1`, and of
    :math:`W_2` too, unless there is an ``output_init``.

    Params are ``{"up": {"w", "b"}, "down": {"w", "b"}}``.

    Source: Vaswani et al. 2017, *Attention Is All You Need*; 002 section 9.
    """

    takes = "steps"
    ratio: float = 4
    activation: str | Callable[..., Any] = "gelu"
    bias: bool = True
    weight_init: Initializer = xavier_uniform
    output_init: Initializer | None = None

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.ratio < math.inf:
            raise InputError(f"FeedForward: ratio is {self.ratio!r}, and must be a positive number")
        if isinstance(self.activation, str) and self.activation not in {**ACTIVATIONS, **GATED}:
            found = suggestion(self.activation, [*ACTIVATIONS, *GATED])
            raise InputError(f"FeedForward: unknown activation {self.activation!r}; {found}")
        self._activation()  # refuses what is no function

    def init(self, key, x: Shaped[Example, "*batch features"]) -> tuple[Params, State]:
        return self._layers(x.shape[-1]).init(key, x)

    def apply(
        self, params, state, x: Float[Steps, "*batch features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch features"], State]:
        return self._layers(x.shape[-1]).apply(params, state, x, key=key, train=train)

    def flops(self, x, y):
        inside, maps = round(self.ratio * x.shape[-1]), 3 if self._gated() else 2
        return (2 * maps * x.shape[-1] + maps - 1) * inside * (x.size // x.shape[-1])

    def _layers(self, features: int) -> Serial:
        inside = round(self.ratio * features)
        up = Linear(inside * (2 if self._gated() else 1), self.bias, self.weight_init)
        down = Linear(features, self.bias, self.output_init or self.weight_init)
        return Serial(up=up, activation=self._activation(), down=down)

    def _gated(self) -> bool:
        return self.activation in [*GATED, *GATED.values()]

    def _activation(self) -> Layer:
        return (Gated if self._gated() else Activation)(self.activation)


def TransformerBlock(  # a layer made of layers, and named like one
    heads: int,
    *,
    ratio: float = 4,
    norm: Literal["pre", "post"] = "pre",
    normalisation: Layer = LayerNorm(),  # noqa: B008  a frozen dataclass
    activation: str | Callable[..., Any] = "gelu",
    bias: bool = True,
    keep_prob: float = 1.0,
    rate: float | None = None,
    weight_init: Initializer = xavier_uniform,
    output_init: Initializer | None = None,
    attention_bias: bool | None = None,
    **attention: Any,
) -> Serial:
    r"""A transformer block: with ``norm="pre"``

    .. math::
        F = X + \mathrm{Attention}(\mathrm{LN}(X)), \qquad Y = F + \mathrm{MLP}(\mathrm{LN}(F)),

    and with ``norm="post"`` the normalisations after the sums: :math:`F = \mathrm{LN}(X + \mathrm{Attention}(X))`,
    :math:`Y = \mathrm{LN}(F + \mathrm{MLP}(F))`.

    Args:
        heads, attention: as in :class:`MultiHeadAttention`, ``causal``, ``positions`` and ``cache`` among them.
        ratio: the width of the MLP in multiples of the features.
        normalisation: a layer, such as ``RMSNorm()``.
        activation: of the MLP, a name or a function; the gated ones of :class:`FeedForward`, such as ``"swiglu"``, too.
        bias: whether the linear maps of attention and MLP have one.
        keep_prob: of the dropout before each sum; or ``rate``, 1 minus it.
        weight_init: of the weights of attention and MLP.
        output_init: of those of the two maps before the sums; None for ``weight_init``.
        attention_bias: whether the linear maps of attention have one; None for ``bias``.

    Returns:
        A ``Serial``. Its input is x, or ``nn.Sequence(x, mask=mask)``; for a context build the block of its parts,
        which are public.

    Raises:
        InputError: on a setting that neither this nor :class:`MultiHeadAttention` has, and what the layers raise.

    Source: Vaswani et al. 2017, *Attention Is All You Need*, which has ``norm="post"``; the norm first: Xiong et al.
    2020, *On Layer Normalization in the Transformer Architecture*; 002 section 9.

    >>> print(TransformerBlock(4, causal=True))
    Serial(
      attention: Residual(
        Serial(
          norm: LayerNorm()
          attention: MultiHeadAttention(heads=4, causal=True)
        )
      )
      mlp: Residual(
        Serial(
          norm: LayerNorm()
          mlp: FeedForward()
        )
      )
    )
    """
    if norm not in ("pre", "post"):
        raise InputError(f"TransformerBlock: norm is {norm!r}, and must be 'pre' or 'post'")
    _require_known(attention)
    keep_prob = kept("TransformerBlock", keep_prob, rate)
    dropout: dict[str, Layer] = {"dropout": Dropout(keep_prob)} if keep_prob != 1 else {}
    before: dict[str, Layer] = {"norm": normalisation} if norm == "pre" else {}
    inits: dict[str, Any] = {"weight_init": weight_init, "output_init": output_init}
    attention |= {"bias": bias if attention_bias is None else attention_bias}
    parts: dict[str, Layer] = {
        "attention": MultiHeadAttention(heads, **inits, **attention),
        "mlp": FeedForward(ratio, activation, bias, **inits),
    }
    layers: dict[str, Layer] = {}
    for name, part in parts.items():
        layers[name] = Residual(Serial(**before, **{name: part}, **dropout))
        if norm == "post":
            layers[f"{name}_norm"] = normalisation
    return Serial(**layers)


def _require_known(settings: dict[str, Any]) -> None:
    known = inspect.signature(MultiHeadAttention).parameters
    for name, value in settings.items():
        if name in {field.name for field in fields(Rope)}:
            raise InputError(
                f"TransformerBlock: {name} is a setting of rope; write positions=nn.Rope({name}={value!r})"
            )
        if name not in known:
            raise InputError(f"TransformerBlock has no setting {name!r}; {suggestion(name, known)}")
