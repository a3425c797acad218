"""Convolutional networks for images."""

from collections.abc import Sequence
from typing import Literal

from dlfn.core import InputError
from dlfn.nn.activations import ReLU
from dlfn.nn.basic import Flatten, Linear
from dlfn.nn.checkpointed import Checkpointed
from dlfn.nn.checks import kept
from dlfn.nn.combinators import Residual, Serial
from dlfn.nn.conv import Conv
from dlfn.nn.dropout import Dropout
from dlfn.nn.layer import Layer
from dlfn.nn.models.images import Images
from dlfn.nn.normalisation import BatchNorm
from dlfn.nn.pooling import GlobalAvgPool, MaxPool

__all__ = ["cnn", "resnet"]


def cnn(
    outputs: int,
    *,
    channels: Sequence[int] = (32, 64),
    convolutions: int = 1,
    window: int = 3,
    hidden: int = 128,
    keep_prob: float | None = None,
    rate: float | None = None,
) -> Serial:
    """A convolutional network: for each stage convolutions, each with batch norm and ReLU, and max-pooling by 2; then a
    hidden layer with dropout, and a Linear.

    Args:
        outputs: how many classes.
        channels: those of each stage.
        convolutions: how many each stage has.
        window: the height and width of the convolutions, whose outputs have the size of their inputs.
        hidden: the width of the layer behind the stages.
        keep_prob: of the dropout before the last Linear, by default 0.5; there is none where it is 1. Or ``rate``, 1
            minus it.

    Returns:
        A model of images (N, height, width, channels) or (N, height, width), with logits (N, outputs).

    Raises:
        InputError: on no convolutions, and what the layers raise.

    Source: LeCun, Bottou, Bengio & Haffner 1998, *Gradient-Based Learning Applied to Document Recognition*; several
    convolutions to a stage: Simonyan & Zisserman 2015, *Very Deep Convolutional Networks for Large-Scale Image
    Recognition*.

    >>> import jax, jax.numpy as jnp
    >>> model = cnn(10, channels=(8, 16), hidden=32)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 28, 28)))
    >>> print(params["stage_1"]["conv"]["kernel"].shape, params["hidden"]["w"].shape)
    (3, 3, 8, 16) (784, 32)
    """
    if convolutions < 1:
        raise InputError(f"cnn: convolutions is {convolutions}, and must be 1 or more")
    layers: dict[str, Layer] = {"images": Images()}
    for index, features in enumerate(channels):
        stage: dict[str, Layer] = {}
        for end in ("", *(f"_{number}" for number in range(2, convolutions + 1))):
            stage |= {
                f"conv{end}": Conv(features, window, padding="SAME", bias=False),
                f"norm{end}": BatchNorm(),
                f"activation{end}": ReLU(),
            }
        layers[f"stage_{index}"] = Serial(**stage, pool=MaxPool(2))
    layers |= {"flatten": Flatten(), "hidden": Linear(hidden), "activation": ReLU()}
    keep_prob = kept("cnn", keep_prob, rate, default=0.5)
    if keep_prob != 1:
        layers["dropout"] = Dropout(keep_prob)
    return Serial(**layers, logits=Linear(outputs))


def resnet(
    outputs: int,
    *,
    blocks: Sequence[int] = (3, 3, 3),
    width: int = 16,
    bottleneck: bool = False,
    stem: Literal["small", "large"] = "small",
    checkpoint: bool = False,
) -> Serial:
    """A residual network, in the form for CIFAR's small images or in that for ImageNet's.

    Every stage but the first halves height and width and has twice the channels. A block is two 3×3 convolutions with
    batch norms, and its shortcut a projection where the shape changes.

    Args:
        outputs: how many classes.
        blocks: how many residual blocks each stage has: (3, 3, 3) is the paper's ResNet-20, (n, n, n) its
            ResNet-(6n + 2).
        width: the channels of the first stage.
        bottleneck: whether a block is a 1×1, a 3×3 and a 1×1 convolution, the last with four times the channels.
        stem: ``"small"``, a 3×3 convolution; or ``"large"``, torchvision's 7×7 convolution with stride 2 and
            max-pooling: with ``width=64`` ResNet-18 is ``blocks=(2, 2, 2, 2)``, and ResNet-50 is
            ``blocks=(3, 4, 6, 3), bottleneck=True``.
        checkpoint: whether the backward pass runs each block again, for less memory (``jax.checkpoint``).

    Returns:
        A model of images (N, height, width, channels) or (N, height, width), with logits (N, outputs).

    Raises:
        InputError: on another stem, and what the layers raise.

    Source: He, Zhang, Ren & Sun 2016, *Deep Residual Learning for Image Recognition*; projections everywhere and the
    stride in the 3×3 convolution as in torchvision.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    >>> for options in ({"blocks": (2, 2, 2, 2)}, {"blocks": (3, 4, 6, 3), "bottleneck": True}):
    ...     model = resnet(1000, width=64, stem="large", **options)
    ...     print(nn.count_parameters(jax.eval_shape(model.init, jax.random.key(0), images)[0]))
    11689512
    25557032
    """
    if stem not in ("small", "large"):
        raise InputError(f"resnet: stem is {stem!r}, and must be 'small' or 'large'")
    layers: dict[str, Layer] = {"images": Images()}
    if stem == "small":
        layers["stem"] = Serial(**_convolution(width, 3), activation=ReLU())
    else:
        layers["stem"] = Serial(
            **_convolution(width, 7, strides=2), activation=ReLU(), pool=MaxPool(3, strides=2, padding=1)
        )
    inputs = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        features = inner * (4 if bottleneck else 1)
        for index in range(count):
            strides = 2 if stage and index == 0 else 1
            projected = strides > 1 or inputs != features
            projection = Serial(**_convolution(features, 1, strides)) if projected else None
            branch = _bottleneck(inner, strides) if bottleneck else _basic(inner, strides)
            block = Serial(sum=Residual(branch, projection), activation=ReLU())
            layers[f"stage_{stage}_block_{index}"] = Checkpointed(block) if checkpoint else block
            inputs = features
    return Serial(**layers, pool=GlobalAvgPool(), logits=Linear(outputs))


def _basic(features: int, strides: int) -> Serial:
    first = Serial(**_convolution(features, 3, strides), activation=ReLU())
    return Serial(first=first, second=Serial(**_convolution(features, 3)))


def _bottleneck(features: int, strides: int) -> Serial:
    return Serial(
        first=Serial(**_convolution(features, 1), activation=ReLU()),
        second=Serial(**_convolution(features, 3, strides), activation=ReLU()),
        third=Serial(**_convolution(4 * features, 1)),
    )


def _convolution(features: int, window: int, strides: int = 1) -> dict[str, Layer]:
    # A number for the padding, as PyTorch has it: with strides, "SAME" would pad more behind than in front.
    return {"conv": Conv(features, window, strides, padding=window // 2, bias=False), "norm": BatchNorm()}
