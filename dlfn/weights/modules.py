"""The map of names for a whole PyTorch module, from the model that it is in the layers here."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dlfn import nn
from dlfn.core import InputError
from dlfn.nn.layer import inside
from dlfn.nn.overview import visits
from dlfn.weights.names import Names, To, under
from dlfn.weights.pytorch import LAYERS, transformer_block
from dlfn.weights.rules import Flattened
from dlfn.weights.wrapped import normalised, without_ties

__all__ = ["torch_names"]


def torch_names(
    model: nn.Layer, prefix: str = "", *, x: Any = None, flatten: str | None = None, hooks: bool = False
) -> Names:
    """The map for a PyTorch module whose submodules are named as the layers of ``model``.

    ``Serial`` by position is ``torch.nn.Sequential``, where activations count too; by name it is a module with
    submodules of these names. The blocks of ``Repeat`` are numbered, as in ``torch.nn.ModuleList``. What ``Residual``
    surrounds has no name of its own, and its projection is called ``projection``. A ``TransformerBlock`` with a
    ``LayerNorm`` and an MLP without gates is ``torch.nn.TransformerEncoderLayer``, and so
    ``Serial(layers=Repeat(block, n), norm=LayerNorm())`` is ``torch.nn.TransformerEncoder``. ``WeightNorm`` and
    ``SpectralNorm`` are those of ``torch.nn.utils.parametrizations``. Of the latter's two directions u and v, the
    second follows from the first here, and is neither read nor written: after ``export_state`` PyTorch has it again
    with its next step in training. Parameters that no module of PyTorch has, as
    those of a layer of your own, are not in the map: add them, as in ``{**torch_names(model), "0.scale": "0/scale"}``.
    A place of ``Tied`` has no name, as in a file that has each array once; for a ``state_dict`` that has it under both
    names, add them by :class:`Equal`. Where a module has other names, change them by :func:`renamed`.

    A ``Flatten`` of (N, ..., C), an array with channels, puts entries in PyTorch's order only where PyTorch, too,
    flattens (N, ..., C). Where it flattens (N, C, ...), the weights of the ``Linear`` behind it follow suit by
    :class:`Flattened`. Names and shapes are the same in both cases: say which it is by ``flatten``. An array has
    channels after a layer that PyTorch gives (N, C, ...), such as a convolution, a pool or a ``BatchNorm``, and so may
    an input of four axes or more. Any other has one order only: inputs (N, H, W) or (N, T, C), rows, and what a
    ``Linear``, a ``LayerNorm``, recurrence, attention or an ``Embedding`` made of them.

    Args:
        model: the layers.
        prefix: of all names, such as ``"encoder."``.
        x: an example of the model's input as for ``init``, of which the shape counts. Needed where a ``Flatten`` gets
            an array with channels, or the input itself, unless ``flatten`` is ``"channels_last"``.
        flatten: ``"channels_first"`` if what PyTorch flattens is (N, C, ...), ``"channels_last"`` if it has the same
            axis order as here. Needed where a ``Flatten`` gets an array with channels, if they and the pixels are more
            than one.
        hooks: whether weights are normalised by the older ``torch.nn.utils.weight_norm`` and ``spectral_norm``, whose
            names are ``weight_g``, ``weight_v`` and ``weight_orig``, ``weight_u``. The v of the older spectral norm is
            half a step of the power iteration behind u, and equal to that here once the iteration has converged.

    Raises:
        InputError: where x or ``flatten`` is needed and missing; where ``flatten`` is ``"channels_first"`` and the
            input that is flattened has no channels; and where features of an image flattened with channels first reach
            another layer with parameters than a ``Linear``, or a sum with others: map that layer by name.

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
    >>> torch_names(nn.Serial(nn.Flatten(), nn.Linear(10)), x=jnp.ones((1, 28, 28)))["1.weight"].rule
    Moved(to=(-1, -2))
    """
    if not isinstance(model, nn.Layer):
        raise InputError(f"torch_names: model is a {type(model).__name__}, and must be a Layer, that of dlfn.nn")
    if flatten not in (None, "channels_first", "channels_last"):
        raise InputError(
            f"torch_names: flatten is {flatten!r}, and must be 'channels_first' or 'channels_last': the former if "
            "what PyTorch flattens is (N, C, ...), the latter if it has the same axis order as here"
        )
    shapes = None
    if x is not None:
        shapes = {visit.path: visit.x.shape[1:] for visit in visits(model, x) if isinstance(visit.layer, nn.Flatten)}
    return _names(model, _Place(prefix, (), 0), _Given(), _Said(flatten, shapes, hooks))[0]


class _Place(NamedTuple):
    prefix: str
    path: tuple[str, ...]
    depth: int  # in loops

    def inner(self, layer: nn.Layer, name: str) -> "_Place":
        looped = isinstance(layer, nn.Repeat)
        prefix = f"{self.prefix}{{i{self.depth}}}." if looped else self.prefix
        nameless = not name or (isinstance(layer, nn.Residual | nn.WeightNorm) and name == "layer")
        return _Place(
            prefix if nameless else f"{prefix}{name}.", (*self.path, name) if name else self.path, self.depth + looped
        )


class _Said(NamedTuple):
    """What the caller said: PyTorch's order where it flattens, without the batch the shapes that come into each
    Flatten, by path, and whether weights are normalised by hooks."""

    order: str | None
    shapes: Mapping[Any, tuple[int, ...]] | None
    hooks: bool


class _Given(NamedTuple):
    """Of values on their way through a model: as they came in. With four axes or more they may be images as below."""


class _Image(NamedTuple):
    """Of values: (N, ..., channels) here, and perhaps (N, channels, ...) in PyTorch."""


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
# PyTorch's have features last, as here, so that what they make of an input is in one order.
_OF_LAST_AXIS = (
    nn.BayesianLinear, nn.FeedForward, nn.LayerNorm, nn.RMSNorm, nn.LearnedPositions, nn.SinusoidalPositions
)  # fmt: skip
# What may come between a Flatten and its Linear.
_ELEMENTWISE = (nn.Activation, nn.Dropout, nn.Flatten)


def _names(layer: nn.Layer, at: _Place, order: _Order, said: _Said) -> tuple[Names, _Order]:
    """The names of a layer at a place, and the order of its outputs for that of its inputs."""
    if type(layer) in LAYERS:
        names = _in_order(layer, LAYERS[type(layer)](layer), order, said)
        return under(names, at.prefix, "/".join(at.path)), _after(layer, at, order, said)
    if block := transformer_block(layer):
        return under(_in_order(layer, block, order, said), at.prefix, "/".join(at.path)), None
    children = layer.children()
    if not children:
        if isinstance(order, _Flat) and not isinstance(layer, _ELEMENTWISE):
            raise _in_another_order(layer, order, said)
        return {}, _after(layer, at, order, said)
    found: dict[Any, Any] = {}
    ends: list[_Order] = []
    for name, child in children.items():
        with inside(name or type(child).__name__):
            names, end = _names(child, at.inner(layer, name), order, said)
        for key in found.keys() & names.keys():
            raise InputError(
                f"torch_names: {type(layer).__name__} has two layers of which a parameter is called {key!r}"
            )
        found |= names
        ends.append(end)
        order = end if isinstance(layer, nn.Serial) else order
    if isinstance(layer, nn.WeightNorm | nn.SpectralNorm):
        found = normalised(layer, found, at.path, said.hooks)
    if isinstance(layer, nn.Tied):
        found = without_ties(layer, found, at.path)
    if isinstance(layer, nn.Serial):
        return found, order
    if isinstance(layer, nn.Residual | nn.Repeat) and "" in children:
        ends.append(order)
    for end in ends:
        if len(ends) > 1 and isinstance(end, _Flat):
            raise _in_another_order(layer, end, said)
    # One branch that is an image makes one of all.
    return found, max(ends, key=lambda end: (end is not None, not isinstance(end, _Given)), default=None)


def _in_order(layer: nn.Layer, names: Names, order: _Order, said: _Said) -> Names:
    """The names of a layer, its weights in the order of its inputs."""
    if isinstance(order, _Image) and isinstance(layer, nn.LayerNorm) and layer.axes > 1:
        raise InputError(
            f"torch_names: {layer} has a weight for each entry of an image, of which PyTorch may have the channels "
            "first or last; map it by name"
        )
    if not isinstance(order, _Flat) or not names or (isinstance(layer, nn.PReLU) and not layer.per_channel):
        return names
    if not isinstance(layer, nn.Linear) or order.shape is None:
        raise _in_another_order(layer, order, said)
    return {**names, "weight": To("w", Flattened(order.shape))}


def _in_another_order(layer: nn.Layer, order: _Flat, said: _Said) -> InputError:
    what = layer if not layer.children() else type(layer).__name__
    if order.shape is not None:
        return InputError(
            f"torch_names: {what} takes the features of a flattened image, which PyTorch has in another order; map "
            "what comes from there on by name"
        )
    example = ""
    if said.shapes is None:
        example = (
            "x, an example of the model's input, as in x=jax.ShapeDtypeStruct((1, 28, 28, 3), 'float32'), and for an "
            "array with channels "
        )
    return InputError(
        f"torch_names: {what} comes after a Flatten, and the order of its features in PyTorch is not known; pass "
        f"{example}flatten='channels_first' if what PyTorch flattens is (N, C, ...), or flatten='channels_last' if it "
        "has the same axis order as here"
    )


def _after(layer: nn.Layer, at: _Place, order: _Order, said: _Said) -> _Order:
    """The order of a layer's outputs."""
    if isinstance(layer, nn.Flatten):
        return _flattened(order, at, said)
    if isinstance(layer, nn.Linear):  # of the last axis, which then is the last in PyTorch, too
        return order if isinstance(order, _Image) else None
    if isinstance(layer, _NOT_SPATIAL):
        return None
    if isinstance(order, _Flat):
        return order
    if isinstance(layer, _SPATIAL) or (isinstance(layer, nn.PReLU) and layer.per_channel):
        return _Image()
    if isinstance(order, _Given):
        if isinstance(layer, _OF_LAST_AXIS):
            return order if isinstance(layer, nn.LayerNorm) and layer.axes > 1 else None
        # A layer of somebody else's may be a convolution.
        return order if isinstance(layer, (*_ELEMENTWISE, nn.Gated, nn.PReLU)) else _Image()
    return order


def _flattened(order: _Order, at: _Place, said: _Said) -> _Order:
    if not isinstance(order, _Given | _Image) or said.order == "channels_last":
        return order if isinstance(order, _Flat) else None
    if said.shapes is None:
        return _Flat(None)
    shape = said.shapes[at.path]
    if len(shape) < 2 or shape[-1] == 1 or math.prod(shape[:-1]) == 1:
        return None
    if isinstance(order, _Given) and len(shape) == 2:
        if said.order:
            raise _without_channels(at, shape)
        return None
    *spatial, channels = shape
    return _Flat((channels, *spatial) if said.order else None)


def _without_channels(at: _Place, shape: tuple[int, ...]) -> InputError:
    """The answer may mean an axis of one channel that is not there, or that the last axis has the channels."""
    rows, columns = shape
    return InputError(
        f"torch_names: flatten='channels_first', but the Flatten {'/'.join(at.path)!r} gets the model's input (N, "
        f"{rows}, {columns}), which has no axis for channels besides; leave flatten out if PyTorch flattens (N, "
        f"{rows}, {columns}) or (N, 1, {rows}, {columns}), and if it flattens (N, {columns}, {rows}) map the weight of "
        f"the Linear behind it by name, with the rule Flattened(({columns}, {rows}))"
    )
