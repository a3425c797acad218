"""Layers made of layers: one after the other, side by side, and around a shortcut."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import PyTree

from dlfn.core import InputError
from dlfn.nn.layer import Layer, array_of, inside, output_shape, spelled
from dlfn.nn.sequence import Sequence, on_values, values_of
from dlfn.nn.several import Several, child_key
from dlfn.nn.types import Params, State

__all__ = ["Parallel", "Residual", "Serial"]


@dataclass(frozen=True, init=False)
class Serial(Several):
    """Layers one after the other, positional or named.

    Params are a tuple by position, ``params[0]["w"]``, or a dict by name, ``params["hidden"]["w"]``. So is the state,
    but it is ``()`` when no layer has any. Each layer's output carries the layer's name (``"0"``, ``"hidden"``) for
    ``dlfn.backprop`` to record its cotangent and for the policies of ``jax.checkpoint``.

    Raises:
        InputError: what a layer raises, with the layer's path in the model.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Serial(hidden=nn.Linear(64), activation=nn.GELU(), logits=nn.Linear(10))
    >>> print(model)
    Serial(
      hidden: Linear(features=64)
      activation: gelu()
      logits: Linear(features=10)
    )
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 32)))
    >>> y, state = model.apply(params, state, jnp.zeros((8, 32)))
    >>> print(y.shape)
    (8, 10)
    >>> model.apply(params, state, jnp.zeros((8, 16)))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dlfn.core.errors.InputError: layer 'hidden': Linear(features=64) was initialised for 32 features and got x of...
    """

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        params, states = [], []
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                layer_params, layer_state = layer.init(jax.random.fold_in(key, index), x)
                x = output_shape(layer, layer_params, layer_state, x)
            params.append(layer_params)
            states.append(layer_state)
        return self.named(params), self.joined_state(states)

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        params, states, new_states = self.by_position(params, "params"), self.split_state(state), []
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                x, new_state = layer.apply(params[index], states[index], x, key=child_key(key, index), train=train)
                x = checkpoint_name(x, name)
            new_states.append(new_state)
        return x, self.joined_state(new_states)

    def flops(self, x, y):
        return 0


@dataclass(frozen=True, init=False)
class Parallel(Several):
    """Layers side by side, positional or named, and what becomes of their outputs.

    Params, state and the names of outputs are as in :class:`Serial`.

    Args:
        merge: ``"sum"`` adds the outputs, which must have one shape and dtype; ``"concatenate"`` joins their last axes;
            ``"tuple"`` returns them all, as a dict if they are named; a function gets them as positional arguments,
            and of outputs that are all Sequences the values.
        split: whether the input is a tuple (a dict if the layers are named) of one input for each layer; else every
            layer gets the whole input.

    Raises:
        InputError: on outputs that do not fit together, an input that cannot be split, and what a layer raises.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Parallel(wide=nn.Linear(6), narrow=nn.Serial(nn.Linear(2), nn.ReLU()), merge="concatenate")
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((8, 3)))
    >>> y, state = model.apply(params, state, jnp.zeros((8, 3)))
    >>> print(y.shape, params["wide"]["w"].shape)
    (8, 8) (3, 6)
    >>> print(model)
    Parallel(
      wide: Linear(features=6)
      narrow: Serial(
        0: Linear(features=2)
        1: relu()
      )
      merge=concatenate
    )
    """

    merge: str | Callable[..., Any] = "tuple"
    split: bool = False

    def __init__(self, *layers: Layer, merge: str | Callable[..., Any] = "tuple", split: bool = False, **named: Layer):
        super().__init__(*layers, **named)
        if not callable(merge) and merge not in ("sum", "concatenate", "tuple"):
            raise InputError(f"Parallel: merge must be 'sum', 'concatenate', 'tuple' or a function, got {merge!r}")
        if not self.layers and merge in ("sum", "concatenate"):
            raise InputError(f"Parallel: there are no layers whose outputs merge={merge!r} could join; give one")
        object.__setattr__(self, "merge", merge)
        object.__setattr__(self, "split", split)

    def with_children(self, children: Mapping[str, Layer]):
        positional, named = ((), children) if self.names else (children.values(), {})
        return Parallel(*positional, merge=self.merge, split=self.split, **named)

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        params, states, inputs = [], [], self._inputs(x)
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                layer_params, layer_state = layer.init(jax.random.fold_in(key, index), inputs[index])
            params.append(layer_params)
            states.append(layer_state)
        params, state = self.named(params), self.joined_state(states)
        if not callable(self.merge):
            output_shape(self, params, state, x)  # refuses what cannot be merged
        return params, state

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        params, states, inputs = self.by_position(params, "params"), self.split_state(state), self._inputs(x)
        outputs, new_states = [], []
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                y, new_state = layer.apply(
                    params[index], states[index], inputs[index], key=child_key(key, index), train=train
                )
                outputs.append(checkpoint_name(y, name))
            new_states.append(new_state)
        return self._merged(outputs), self.joined_state(new_states)

    def flops(self, x, y):
        """Those of merging: the additions of a sum, and for a function one for each element of its value."""
        if self.merge == "sum":
            return (len(self.layers) - 1) * values_of(y).size
        return sum(leaf.size for leaf in jax.tree.leaves(values_of(y))) if callable(self.merge) else 0

    def _inputs(self, x: Any) -> list[Any]:
        return self.by_position(x, "the input") if self.split else [x] * len(self.layers)

    def _merged(self, outputs: list[Any]) -> Any:
        if callable(self.merge):
            return on_values(self.merge, *outputs)
        if self.merge == "tuple":
            return self.named(outputs)
        if not self._fits(outputs):
            got = ", ".join(f"{name!r} {_described(y)}" for name, y in zip(self.children(), outputs, strict=True))
            must = "have one shape" if self.merge == "sum" else "have one shape but for the last axis"
            raise InputError(
                f"Parallel: merge={self.merge!r} needs outputs that {must} and one dtype, got {got}; end the layers "
                "alike, or merge by a function"
            )
        return on_values(lambda *ys: sum(ys[1:], ys[0]) if self.merge == "sum" else jnp.concatenate(ys, -1), *outputs)

    def _fits(self, outputs: list[Any]) -> bool:
        if len({isinstance(y, Sequence) for y in outputs}) > 1:
            return False
        outputs = list(map(values_of, outputs))
        if any(jax.tree.structure(y) != jax.tree.structure(0) for y in outputs):
            return False
        if self.merge == "sum":
            return len({(y.shape, y.dtype) for y in outputs}) == 1
        return len({(y.shape[:-1], y.dtype) for y in outputs}) == 1 and all(y.ndim for y in outputs)

    def __str__(self) -> str:
        return f"{super().__str__()[:-1]}  merge={spelled(self.merge)}{', split' if self.split else ''}\n)"


def _described(y: Any) -> str:
    return " ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(y))


@dataclass(frozen=True)
class Residual(Layer):
    r"""``y = layer(x) + x``, or with a projection :math:`y = \mathrm{layer}(x) + W_s x`.

    The projection is a layer that brings x to the shape of the output: ``Linear(features, bias=False)``, or a 1×1
    convolution with the stride of the layer. Params and state are those of the layer; with a projection, a dict
    of those of ``layer`` and ``projection``.

    Raises:
        InputError: when what is added has another shape than the layer's output.

    Source: He, Zhang, Ren & Sun 2016, *Deep Residual Learning for Image Recognition*; 002 section 10.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Residual(nn.Serial(nn.Linear(8), nn.ReLU()), nn.Linear(8, bias=False))
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((2, 4)))
    >>> print(jax.tree.map(jnp.shape, params["projection"]))
    {'w': (4, 8)}
    """

    layer: Layer
    projection: Layer | None = None

    def children(self):
        return {"": self.layer} if self.projection is None else self._branches().children()

    def with_children(self, children: Mapping[str, Layer]):
        return Residual(*children.values())

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        if self.projection is not None:
            return self._branches().init(key, x)
        params, state = self.layer.init(key, x)
        output_shape(self, params, state, x)  # refuses what cannot be added
        return params, state

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        if self.projection is not None:
            return self._branches().apply(params, state, x, key=key, train=train)
        y, state = self.layer.apply(params, state, x, key=key, train=train)
        before, after = (array_of(self, z).shape for z in (x, y))
        if before != after or isinstance(x, Sequence) != isinstance(y, Sequence):
            raise InputError(
                f"Residual adds the input to the output, but the input has shape {before} and the output {after}; "
                "end the layer inside it with as many features as go in, or give it a projection, as in "
                f"Residual(layer, Linear({after[-1] if after else 1}, bias=False))"
            )
        return on_values(operator.add, y, x), state

    def _branches(self) -> Parallel:
        assert self.projection is not None
        return Parallel(layer=self.layer, projection=self.projection, merge="sum")
