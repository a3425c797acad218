"""A layer that is run again in the backward pass."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
from jaxtyping import PyTree

from dlfn.nn.layer import Layer
from dlfn.nn.types import Params, State

__all__ = ["Checkpointed"]


@dataclass(frozen=True)
class Checkpointed(Layer):
    """A layer of which the backward pass saves the input alone, and runs it again (``jax.checkpoint``).

    A deep model of such blocks needs the memory of one block and of the inputs of all, for about a third more time.
    Params and state are the layer's. Where all blocks are alike, ``Repeat(layer, n, checkpoint=True)`` does the same
    as a loop.

    Source: Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Serial(nn.Checkpointed(nn.FeedForward()), nn.Linear(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((3, 4)))
    >>> gradient = jax.grad(lambda params: model.apply(params, state, jnp.ones((3, 4)))[0].sum())(params)
    >>> print(gradient[0]["up"]["w"].shape)
    (4, 16)
    """

    layer: Layer

    def children(self):
        return {"": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        return Checkpointed(*children.values())

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        return self.layer.init(key, x)

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        run = jax.checkpoint(lambda params, state, x, key: self.layer.apply(params, state, x, key=key, train=train))
        return run(params, state, x, key)

    def flops(self, x, y):
        return 0
