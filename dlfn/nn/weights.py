"""Layers around a layer that normalise one of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held
from dlfn.nn.layer import Layer, inside
from dlfn.nn.overview import count_parameters
from dlfn.nn.places import Put, place
from dlfn.nn.types import Params, State
from dlfn.ops.support.dtypes import sum_dtype

__all__ = ["SpectralNorm", "WeightNorm"]


def _weight(layer: "SpectralNorm | WeightNorm", params: Params) -> tuple[Any, Put]:
    """The layer's weight in the params of the layer inside, and what puts another in its place."""
    weight, put = place(layer, "weight", params, layer.weight)
    if len(jax.tree.leaves(weight)) != 1 or weight is not jax.tree.leaves(weight)[0] or weight.ndim == 0:
        raise InputError(f"{type(layer).__name__}: weight {layer.weight!r} must be the path of one array with axes")
    return weight, put


def _weight_size(layer: "SpectralNorm | WeightNorm", x: Any) -> int:
    params, _ = jax.eval_shape(layer.layer.init, jax.random.key(0), x)
    return count_parameters(_weight(layer, params)[0])


@dataclass(frozen=True)
class WeightNorm(Layer):
    """A layer whose weight is ``g * v / norm(v)``, with a length in g for each output: :func:`dlfn.ops.weight_norm`.

    Params are ``{"layer": ..., "g": ...}``: the layer's, with v in the place of the weight, and the lengths. At first
    the weight is what the layer's own ``init`` makes.

    Args:
        layer: the layer inside.
        weight: the path of the weight in its params, with slashes: ``"w"``, ``"hidden/w"``.
        axis: the axis of the weight that has a length for each entry; None for one length in all.

    Raises:
        InputError: when the layer has no such weight.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> layer = WeightNorm(nn.Linear(2))
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> print(jax.tree.map(jnp.shape, params))
    {'g': (2,), 'layer': {'b': (2,), 'w': (3, 2)}}
    """

    layer: Layer
    weight: str = "w"
    axis: int | None = -1

    def children(self):
        return {"layer": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        return WeightNorm(children["layer"], self.weight, self.axis)

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        with inside("layer"):
            params, state = self.layer.init(key, x)
        v, _ = _weight(self, params)
        rows = v.reshape(1, -1) if self.axis is None else jnp.moveaxis(v, self.axis, 0).reshape(v.shape[self.axis], -1)
        lengths = jnp.linalg.norm(rows.astype(sum_dtype(v.dtype)), axis=1).astype(v.dtype)
        return {"layer": params, "g": lengths[0] if self.axis is None else lengths}, state

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        inner, g = held(self, "params", params, "layer", "g")
        v, put = _weight(self, inner)
        w = ops.weight_norm(v, g, axis=self.axis)
        with inside("layer"):
            return self.layer.apply(put(w), state, x, key=key, train=train)

    def flops(self, x, y):
        """Per element of the weight: two for the norm and one to scale."""
        return 3 * _weight_size(self, x)


@dataclass(frozen=True)
class SpectralNorm(Layer):
    """A layer whose weight is divided by its largest singular value: :func:`dlfn.ops.spectral_norm`.

    Params are those of the layer. State is ``{"layer": ..., "u": ...}``: the layer's, and the direction from which each
    call in training goes on with the power iteration. At inference the direction is used as it is, and does not change.

    Args:
        layer: the layer inside.
        weight: the path of the weight in its params, with slashes: ``"w"``, ``"hidden/w"``.
        iterations: of the power iteration per call in training.
        eps: the least length that the iteration divides by.

    Raises:
        InputError: when the layer has no such weight.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> layer = SpectralNorm(nn.Linear(2))
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> print(jax.tree.map(jnp.shape, (params, state)))
    ({'b': (2,), 'w': (3, 2)}, {'layer': (), 'u': (2,)})
    """

    layer: Layer
    weight: str = "w"
    iterations: int = 1
    eps: float = 1e-12

    def children(self):
        return {"": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        return SpectralNorm(children[""], self.weight, self.iterations, self.eps)

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        layer_key, u_key = jax.random.split(key)
        params, state = self.layer.init(layer_key, x)
        w, _ = _weight(self, params)
        u = jax.random.normal(u_key, w.shape[-1:], sum_dtype(w.dtype))
        # A random direction, and 15 iterations as in PyTorch, so that the first calls are near the singular value.
        return params, {"layer": state, "u": ops.spectral_norm(w.astype(u.dtype), u, iterations=15, eps=self.eps)[1]}

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        w, put = _weight(self, params)
        iterations = self.iterations if train else 0
        inner, u = held(self, "state", state, "layer", "u")
        wide = sum_dtype(w.dtype)
        unit, new = ops.spectral_norm(w.astype(wide), u.astype(wide), iterations=iterations, eps=self.eps)
        y, inner = self.layer.apply(put(unit.astype(w.dtype)), inner, x, key=key, train=train)
        return y, {"layer": inner, "u": new.astype(u.dtype)}

    def flops(self, x, y):
        """Per element of the weight, at inference: four for the singular value and one to divide."""
        return 5 * _weight_size(self, x)
