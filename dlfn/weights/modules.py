"""The map of names for a whole PyTorch module, from the model that it is in the layers here."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dlfn import nn
from dlfn.core import InputError
from dlfn.nn.layer import inside
from dlfn.nn.summary import visits
from dlfn.weights.names import Names, To, under
from dlfn.weights.pytorch import LAYERS
from dlfn.weights.rules import Flattened

__all__ = ["torch_names"]


def torch_names(model: nn.Layer, prefix: str = "", *, x: Any = None) -> Names:
    """The map for a PyTorch module whose submodules are named as the layers of ``model``.

    ``Serial`` by position is ``torch.nn.Sequential``, where activations count too; by name it is a module with
    submodules of these names. The blocks of ``Repeat`` are numbered, as in ``torch.nn.ModuleList``. What ``Residual``
    surrounds has no name of its own. Parameters that no module of PyTorch has, as those of ``WeightNorm`` or of a layer
    of your own, are not in the map: add them, as in ``{**torch_names(model), "0.scale": "0/scale"}``.

    A ``Flatten`` of images puts their entries in another order than PyTorch's, whose channels come first. The weights
    of the ``Linear`` behind it follow suit by :class:`Flattened`, for which the sizes of the image must be known.

    Args:
        model: the layers.
        prefix: of all names, such as ``"encoder."``.
        x: an example of the model's input as for ``init``, of which the shape counts. Needed where a ``Flatten`` comes
            after convolutions or pooling. Without it a ``Flatten`` that comes before them all is taken to be of rows,
            or of images with one channel.

    Raises:
        InputError: where a ``Linear`` comes after a ``Flatten`` of images of unknown sizes; and where the features of
            one reach another layer with parameters, or a sum with others: map that layer by name.

    >>> torch_names(nn.Serial(nn.Linear(3, bias=False), nn.ReLU()), "model.")
    {'model.0.weight': To(paths=('0/w',), rule=Moved(to=(-1, -2)), tree='params')}
    >>> list(torch_names(nn.Serial(h=nn.Repeat(nn.Serial(mlp=nn.Linear(3)), 12))))
    ['h.{i0}.mlp.weight', 'h.{i0}.mlp.bias']
    >>> import jax.numpy as jnp
    >>> images = nn.Serial(nn.Conv(8, (3, 3)), nn.Flatten(), nn.Linear(2))
    >>> torch_names(images, x=jnp.ones((1, 6, 6, 3)))["2.weight"].rule
    Flattened(shape=(8, 4, 4))
    """
    if not isinstance(model, nn.Layer):
        raise InputError(f"torch_names: model is a {type(model).__name__}, and must be a Layer, that of dlfn.nn")
    shapes = None
    if x is not None:
        shapes = {visit.path: visit.x.shape for visit in visits(model, x) if isinstance(visit.layer, nn.Flatten)}
    return _names(model, _Place(prefix, (), 0), None, shapes)[0]


class _Place(NamedTuple):
    prefix: str
    path: tuple[str, ...]
    depth: int  # in loops

    def inner(self, layer: nn.Layer, name: str) -> "_Place":
        looped = isinstance(layer, nn.Repeat)
        prefix = f"{self.prefix}{{i{self.depth}}}." if looped else self.prefix
        return _Place(
            f"{prefix}{name}." if name else prefix, (*self.path, name) if name else self.path, self.depth + looped
        )


class _Image(NamedTuple):
    """Of values on their way through a model: (N, ..., channels) here, and channels first in PyTorch."""


class _Flat(NamedTuple):
    """Of values: such an image flattened, here and there in another order. Its (C, *spatial), where that is known."""

    shape: tuple[int, ...] | None


_Order = _Image | _Flat | None  # None where the values are alike

_SPATIAL = (
    nn.Conv, nn.DepthwiseConv, nn.ConvTranspose, nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm, nn.SpatialDropout,
    nn.MaxPool, nn.AvgPool, nn.AdaptiveMaxPool, nn.AdaptiveAvgPool,
)  # fmt: skip
_NOT_SPATIAL = (
    nn.GlobalAvgPool, nn.GlobalMaxPool, nn.Embedding, nn.Recurrent, nn.Bidirectional, nn.Stacked, nn.MultiHeadAttention
)  # fmt: skip
# What may come between a Flatten and its Linear.
_ELEMENTWISE = (nn.Activation, nn.Dropout, nn.Flatten)


def _names(layer: nn.Layer, at: _Place, order: _Order, shapes: Mapping[Any, Any] | None) -> tuple[Names, _Order]:
    """The names of a layer at a place, and the order of its outputs for that of its inputs."""
    if type(layer) in LAYERS:
        names = _in_order(layer, LAYERS[type(layer)](layer), order)
        return under(names, at.prefix, "/".join(at.path)), _after(layer, at, order, shapes)
    children = layer.children()
    if not children:
        if isinstance(order, _Flat) and not isinstance(layer, _ELEMENTWISE):
            raise _in_another_order(layer)
        return {}, _after(layer, at, order, shapes)
    found: dict[Any, Any] = {}
    ends: list[_Order] = []
    for name, child in children.items():
        with inside(name or type(child).__name__):
            names, end = _names(child, at.inner(layer, name), order, shapes)
        found |= names
        ends.append(end)
        order = end if isinstance(layer, nn.Serial) else order
    if isinstance(layer, nn.Serial):
        return found, order
    if isinstance(layer, nn.Residual | nn.Repeat) and "" in children:
        ends.append(order)
    if len(ends) > 1 and any(isinstance(end, _Flat) for end in ends):
        raise InputError(
            f"torch_names: {type(layer).__name__} brings the features of a flattened image, which PyTorch has in "
            "another order, together with others; map its parameters by name"
        )
    return found, next(filter(lambda end: end is not None, ends), None)


def _in_order(layer: nn.Layer, names: Names, order: _Order) -> Names:
    """The names of a layer, its weights in the order of its inputs."""
    if not isinstance(order, _Flat) or not names or (isinstance(layer, nn.PReLU) and not layer.per_channel):
        return names
    if not isinstance(layer, nn.Linear):
        raise _in_another_order(layer)
    if order.shape is None:
        raise InputError(
            f"torch_names: {layer} comes after a Flatten of images, which PyTorch flattens channels first; pass x, an "
            "example of the model's input, as in torch_names(model, x=jax.ShapeDtypeStruct((1, 28, 28, 3), 'float32'))"
        )
    return {**names, "weight": To("w", Flattened(order.shape))}


def _in_another_order(layer: nn.Layer) -> InputError:
    return InputError(
        f"torch_names: {layer} takes the features of a flattened image, which PyTorch has in another order; map what "
        "comes from there on by name"
    )


def _after(layer: nn.Layer, at: _Place, order: _Order, shapes: Mapping[Any, Any] | None) -> _Order:
    """The order of a layer's outputs."""
    if isinstance(layer, nn.Flatten):
        return _flattened(order, None if shapes is None else shapes[at.path][1:])
    if isinstance(layer, nn.Linear):
        return None if isinstance(order, _Flat) else order
    if isinstance(layer, _NOT_SPATIAL):
        return None
    return _Image() if isinstance(layer, _SPATIAL) and order is None else order


def _flattened(order: _Order, shape: tuple[int, ...] | None) -> _Order:
    if shape is None:
        return _Flat(None) if isinstance(order, _Image) else order
    if len(shape) < 2 or (order is None and len(shape) < 3):
        return order
    *spatial, channels = shape
    return _Flat((channels, *spatial)) if channels > 1 and math.prod(spatial) > 1 else None
