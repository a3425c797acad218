"""The map of names for a whole PyTorch module, from the model that it is in the layers here."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dlfn import nn
from dlfn.core import InputError
from dlfn.nn.layer import inside
from dlfn.nn.overview import visits
from dlfn.weights.names import Names, To, under
from dlfn.weights.pytorch import LAYERS
from dlfn.weights.rules import Flattened

__all__ = ["torch_names"]


def torch_names(model: nn.Layer, prefix: str = "", *, x: Any = None, flatten: str | None = None) -> Names:
    """The map for a PyTorch module whose submodules are named as the layers of ``model``.

    ``Serial`` by position is ``torch.nn.Sequential``, where activations count too; by name it is a module with
    submodules of these names. The blocks of ``Repeat`` are numbered, as in ``torch.nn.ModuleList``. What ``Residual``
    surrounds has no name of its own. Parameters that no module of PyTorch has, as those of ``WeightNorm`` or of a layer
    of your own, are not in the map: add them, as in ``{**torch_names(model), "0.scale": "0/scale"}``.

    A ``Flatten`` of images (N, H, W, C) puts their entries in the order of PyTorch's only where the PyTorch model, too,
    permutes to (N, H, W, C) before it flattens. Where that flattens (N, C, H, W), the weights of the ``Linear`` behind
    it follow suit by :class:`Flattened`. Names and shapes are the same in both cases: say which it is by ``flatten``.

    Args:
        model: the layers.
        prefix: of all names, such as ``"encoder."``.
        x: an example of the model's input as for ``init``, of which the shape counts. Needed where a ``Linear`` comes
            after a ``Flatten``, unless this is of what attention, recurrence, an ``Embedding`` or a ``Linear`` made of
            sequences, or ``flatten`` is ``"channels_last"``.
        flatten: the order in which the PyTorch model flattens images: ``"channels_first"`` or ``"channels_last"``.
            Needed where x is, unless rows come into the ``Flatten``, images of one channel, or of one pixel.

    Raises:
        InputError: where x or ``flatten`` is needed and missing; and where the features of an image flattened with
            channels first reach another layer with parameters than a ``Linear``, or a sum with others: map that layer
            by name.

    >>> torch_names(nn.Serial(nn.Linear(3, bias=False), nn.ReLU()), "model.")
    {'model.0.weight': To(paths=('0/w',), rule=Moved(to=(-1, -2)), tree='params')}
    >>> list(torch_names(nn.Serial(h=nn.Repeat(nn.Serial(mlp=nn.Linear(3)), 12))))
    ['h.{i0}.mlp.weight', 'h.{i0}.mlp.bias']
    >>> import jax.numpy as jnp
    >>> images = nn.Serial(nn.Conv(8, (3, 3)), nn.Flatten(), nn.Linear(2))
    >>> torch_names(images, x=jnp.ones((1, 6, 6, 3)), flatten="channels_first")["2.weight"].rule
    Flattened(shape=(8, 4, 4))
    >>> torch_names(images, flatten="channels_last")["2.weight"].rule
    Moved(to=(-1, -2))
    """
    if not isinstance(model, nn.Layer):
        raise InputError(f"torch_names: model is a {type(model).__name__}, and must be a Layer, that of dlfn.nn")
    if flatten not in (None, "channels_first", "channels_last"):
        raise InputError(
            f"torch_names: flatten is {flatten!r}, and must be 'channels_first' or 'channels_last', the order in which "
            "the PyTorch model flattens images"
        )
    shapes = None
    if x is not None:
        shapes = {visit.path: visit.x.shape[1:] for visit in visits(model, x) if isinstance(visit.layer, nn.Flatten)}
    return _names(model, _Place(prefix, (), 0), _Given(), _Flattening(flatten, shapes))[0]


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


class _Flattening(NamedTuple):
    """What the caller said: PyTorch's order, and without the batch the shapes that come into each Flatten, by path."""

    order: str | None
    shapes: Mapping[Any, tuple[int, ...]] | None


class _Given(NamedTuple):
    """Of values on their way through a model: as they came in, rows or sequences, or images as below."""


class _Image(NamedTuple):
    """Of values: (N, ..., channels) here, and channels first in PyTorch."""


class _Flat(NamedTuple):
    """Of values: such an image flattened, here and there in another order. Its (C, *spatial), where all is known."""

    shape: tuple[int, ...] | None


_Order = _Given | _Image | _Flat | None  # None where the values are alike

_SPATIAL = (
    nn.Conv, nn.DepthwiseConv, nn.ConvTranspose, nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm, nn.SpatialDropout,
    nn.MaxPool, nn.AvgPool, nn.AdaptiveMaxPool, nn.AdaptiveAvgPool,
)  # fmt: skip
_NOT_SPATIAL = (
    nn.GlobalAvgPool, nn.GlobalMaxPool, nn.Embedding, nn.Recurrent, nn.Bidirectional, nn.Stacked, nn.MultiHeadAttention
)  # fmt: skip
# What may come between a Flatten and its Linear.
_ELEMENTWISE = (nn.Activation, nn.Dropout, nn.Flatten)


def _names(layer: nn.Layer, at: _Place, order: _Order, flattening: _Flattening) -> tuple[Names, _Order]:
    """The names of a layer at a place, and the order of its outputs for that of its inputs."""
    if type(layer) in LAYERS:
        names = _in_order(layer, LAYERS[type(layer)](layer), order, flattening)
        return under(names, at.prefix, "/".join(at.path)), _after(layer, at, order, flattening)
    children = layer.children()
    if not children:
        if isinstance(order, _Flat) and not isinstance(layer, _ELEMENTWISE):
            raise _in_another_order(layer, order, flattening)
        return {}, _after(layer, at, order, flattening)
    found: dict[Any, Any] = {}
    ends: list[_Order] = []
    for name, child in children.items():
        with inside(name or type(child).__name__):
            names, end = _names(child, at.inner(layer, name), order, flattening)
        found |= names
        ends.append(end)
        order = end if isinstance(layer, nn.Serial) else order
    if isinstance(layer, nn.Serial):
        return found, order
    if isinstance(layer, nn.Residual | nn.Repeat) and "" in children:
        ends.append(order)
    for end in ends:
        if len(ends) > 1 and isinstance(end, _Flat):
            raise _in_another_order(layer, end, flattening)
    # One branch that is an image makes one of all.
    return found, max(ends, key=lambda end: (end is not None, not isinstance(end, _Given)), default=None)


def _in_order(layer: nn.Layer, names: Names, order: _Order, flattening: _Flattening) -> Names:
    """The names of a layer, its weights in the order of its inputs."""
    if isinstance(order, _Image) and isinstance(layer, nn.LayerNorm) and layer.axes > 1:
        raise InputError(
            f"torch_names: {layer} has a weight for each entry of an image, of which PyTorch may have the channels "
            "first or last; map it by name"
        )
    if not isinstance(order, _Flat) or not names or (isinstance(layer, nn.PReLU) and not layer.per_channel):
        return names
    if not isinstance(layer, nn.Linear) or order.shape is None:
        raise _in_another_order(layer, order, flattening)
    return {**names, "weight": To("w", Flattened(order.shape))}


def _in_another_order(layer: nn.Layer, order: _Flat, flattening: _Flattening) -> InputError:
    what = layer if not layer.children() else type(layer).__name__
    if order.shape is not None:
        return InputError(
            f"torch_names: {what} takes the features of a flattened image, which PyTorch has in another order; map "
            "what comes from there on by name"
        )
    missing = ""
    if flattening.shapes is None:
        missing = ", and x, an example of the model's input, as in x=jax.ShapeDtypeStruct((1, 28, 28, 3), 'float32')"
    return InputError(
        f"torch_names: {what} comes after a Flatten, and the order of its features in PyTorch is not known; pass "
        f"flatten='channels_last' if the PyTorch model permutes images to (N, H, W, C) before it flattens them, or "
        f"flatten='channels_first' if it does not{missing}"
    )


def _after(layer: nn.Layer, at: _Place, order: _Order, flattening: _Flattening) -> _Order:
    """The order of a layer's outputs."""
    if isinstance(layer, nn.Flatten):
        return _flattened(order, at, flattening)
    if isinstance(layer, nn.Linear):  # of the last axis, which then is the last in PyTorch, too
        return order if isinstance(order, _Image) else None
    if isinstance(layer, _NOT_SPATIAL):
        return None
    return _Image() if isinstance(layer, _SPATIAL) and not isinstance(order, _Flat) else order


def _flattened(order: _Order, at: _Place, flattening: _Flattening) -> _Order:
    if not isinstance(order, _Given | _Image) or flattening.order == "channels_last":
        return order if isinstance(order, _Flat) else None
    if flattening.shapes is None:
        return _Flat(None)
    shape = flattening.shapes[at.path]
    if len(shape) < 2 or shape[-1] == 1 or math.prod(shape[:-1]) == 1:
        return None
    *spatial, channels = shape
    return _Flat((channels, *spatial) if flattening.order else None)
