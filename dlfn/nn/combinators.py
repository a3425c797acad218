"""Layers made of layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from dlfn.core import InputError
from dlfn.nn.layer import Layer, inside, output_shape

__all__ = ["Residual", "Serial"]


@dataclass(frozen=True, init=False)
class Serial(Layer):
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

    layers: tuple[Layer, ...]
    names: tuple[str, ...]

    def __init__(self, *layers: Layer, **named: Layer):
        if layers and named:
            raise InputError("Serial takes its layers by position or by name, not both; name them all")
        names = tuple(named)
        for name, layer in (named or dict(enumerate(layers))).items():
            if not isinstance(layer, Layer):
                raise InputError(
                    f"Serial: layer {name!r} must be a Layer, got {layer!r}; "
                    "call a class, as in Flatten(), and wrap a function, as in Activation(jax.numpy.sin)"
                )
        object.__setattr__(self, "layers", layers or tuple(named.values()))
        object.__setattr__(self, "names", names)

    def children(self):
        return dict(zip(self.names or map(str, range(len(self.layers))), self.layers, strict=True))

    def with_children(self, children: Mapping[str, Layer]):
        return Serial(**children) if self.names else Serial(*children.values())

    def init(self, key, x):
        params, states = [], []
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                layer_params, layer_state = layer.init(jax.random.fold_in(key, index), x)
                x = output_shape(layer, layer_params, layer_state, x)
            params.append(layer_params)
            states.append(layer_state)
        return self._named(params), self._state(states)

    def apply(self, params, state, x, *, key=None, train=False):
        params = self._by_position(params, "params")
        states = self._by_position(state, "state") if state != () else ((),) * len(self.layers)
        new_states = []
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                layer_key = None if key is None else jax.random.fold_in(key, index)
                x, new_state = layer.apply(params[index], states[index], x, key=layer_key, train=train)
                x = checkpoint_name(x, name)
            new_states.append(new_state)
        return x, self._state(new_states)

    def flops(self, x, y):
        return 0

    def _named(self, values: list[Any]) -> Any:
        return dict(zip(self.names, values, strict=True)) if self.names else tuple(values)

    def _state(self, states: list[Any]) -> Any:
        return self._named(states) if any(state != () for state in states) else ()

    def _by_position(self, values: Any, what: str) -> list[Any]:
        try:
            found = [values[name] for name in self.names] if self.names else list(values)
        except (TypeError, KeyError, IndexError):
            found = []
        if len(found) != len(self.layers) or len(values) != len(self.layers):
            expected = f"a dict of {', '.join(self.names)}" if self.names else f"a tuple of {len(self.layers)}"
            raise InputError(
                f"Serial: {what} must be {expected}, as init returned it, got {jax.tree.structure(values)}"
            )
        return found


@dataclass(frozen=True)
class Residual(Layer):
    """``y = layer(x) + x``. Its params and state are those of the layer.

    Raises:
        InputError: when the layer's output does not have the shape of its input.
    """

    layer: Layer

    def children(self):
        return {"": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        return Residual(*children.values())

    def init(self, key, x):
        return self.layer.init(key, x)

    def apply(self, params, state, x, *, key=None, train=False):
        y, state = self.layer.apply(params, state, x, key=key, train=train)
        if y.shape != x.shape:
            raise InputError(
                f"Residual adds the input to the output, but the input has shape {x.shape} and the output {y.shape}; "
                "end the layer inside it with as many features as go in"
            )
        return y + x, state
