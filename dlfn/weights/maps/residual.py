"""Residual networks as torchvision and timm have them."""

from collections.abc import Collection, Mapping
from typing import Any

import jax

from dlfn import nn
from dlfn.weights.maps.mapped import Mapped, path
from dlfn.weights.maps.settings import Settings
from dlfn.weights.names import Names
from dlfn.weights.pytorch import batch_norm, conv, linear

__all__ = ["BLOCKS", "resnet"]

# The blocks of each stage, and whether they are bottlenecks.
BLOCKS = {
    "resnet18": ((2, 2, 2, 2), False), "resnet34": ((3, 4, 6, 3), False), "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True), "resnet152": ((3, 8, 36, 3), True),
}  # fmt: skip


def resnet(config: Mapping[str, Any], arrays: Collection[str] = ()) -> Mapped:
    """torchvision's and timm's ``resnet18``, ``34``, ``50``, ``101`` and ``152``. Images are (N, height, width,
    channels) here; batch norms have state.

    Args:
        config: ``architecture``, such as ``"resnet18"``, and ``num_classes``, as in a ``config.json`` of timm;
            torchvision has none, so that you write this one.
        arrays: the names in the file, which are not needed.

    Raises:
        InputError: on settings that are missing or not known.
    """
    settings = Settings(config)
    blocks, bottleneck = settings.one_of("architecture", BLOCKS)
    settings.only("global_pool", "avg")
    model = nn.models.resnet(
        settings.size("num_classes", 1000), blocks=blocks, width=64, bottleneck=bottleneck, stem="large"
    )
    names: Names = {**_convolution("conv1", "bn1", "stem"), **path(linear(), "fc", "logits")}
    parts = ("first", "second", "third") if bottleneck else ("first", "second")
    for stage, count in enumerate(blocks):
        for index in range(count):
            theirs, ours = f"layer{stage + 1}.{index}.", f"stage_{stage}_block_{index}/sum/"
            if index == 0 and (stage or bottleneck):  # its shape changes
                names |= _convolution(f"{theirs}downsample.0", f"{theirs}downsample.1", f"{ours}projection")
                ours += "layer/"
            for number, part in enumerate(parts, 1):
                names |= _convolution(f"{theirs}conv{number}", f"{theirs}bn{number}", ours + part)
    return Mapped(model, names, jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"))


def _convolution(convolution: str, norm: str, ours: str) -> Names:
    return {**path(conv(bias=False), convolution, f"{ours}/conv"), **path(batch_norm(), norm, f"{ours}/norm")}
