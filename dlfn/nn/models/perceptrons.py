"""The multilayer perceptron."""

from collections.abc import Sequence

from dlfn.nn.activations import Activation
from dlfn.nn.basic import Flatten, Linear
from dlfn.nn.checks import kept
from dlfn.nn.combinators import Residual, Serial
from dlfn.nn.dropout import Dropout
from dlfn.nn.layer import Layer

__all__ = ["mlp"]


def mlp(
    widths: Sequence[int],
    outputs: int,
    *,
    activation: str = "gelu",
    keep_prob: float = 1.0,
    rate: float | None = None,
    residual: bool = False,
) -> Serial:
    """A multilayer perceptron: for every width a block of Linear, activation and dropout; then a Linear.

    Dropout is left out where ``keep_prob`` is 1; ``rate``, 1 minus it, can be given in its place. With ``residual``,
    blocks after the first add their input.

    >>> print(mlp((64,), 10, keep_prob=0.9))
    Serial(
      flatten: Flatten()
      hidden_0: Serial(
        linear: Linear(features=64)
        activation: gelu()
        dropout: Dropout(keep_prob=0.9)
      )
      logits: Linear(features=10)
    )
    """
    keep_prob = kept("mlp", keep_prob, rate)
    layers: dict[str, Layer] = {"flatten": Flatten()}
    for index, width in enumerate(widths):
        block = {"linear": Linear(width), "activation": Activation(activation)}
        if keep_prob != 1:
            block["dropout"] = Dropout(keep_prob)
        layers[f"hidden_{index}"] = Residual(Serial(**block)) if residual and index > 0 else Serial(**block)
    return Serial(**layers, logits=Linear(outputs))
