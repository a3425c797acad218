"""Params that serve in several places of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dlfn.core import InputError
from dlfn.nn.layer import Layer, brief
from dlfn.nn.places import place
from dlfn.nn.types import Params, State

__all__ = ["Tied"]


@dataclass(frozen=True)
class Tied(Layer):
    """A model in which some places have the params of others: one leaf in the tree, which gets the sum of the gradients
    of all its uses.

    Params are those of the layer, with ``()`` in each place whose params are another's. State is the layer's, each
    place's its own.

    Args:
        layer: the model.
        ties: from the path of a place to the path of the params that serve there too, with slashes: of a layer,
            ``{"decoder": "encoder"}``, or of a leaf, ``{"head/w": "embedding/table.T"}``, where ``.T`` turns the last
            two axes of an array. Paths are those of the layer's params.

    Raises:
        InputError: on a path that the params do not have, one that is both a place and a source, and params of
            other shapes.

    Source: Press & Wolf 2017, *Using the Output Embedding to Improve Language Models*; whole layers: Lan et al. 2020,
    *ALBERT: A Lite BERT for Self-supervised Learning of Language Representations*.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> block = nn.FeedForward()
    >>> model = nn.Tied(
    ...     nn.Serial(embedding=nn.Embedding(50, 8), first=block, second=block, head=nn.Linear(50)),
    ...     {"second": "first", "head/w": "embedding/table.T"},
    ... )
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 3), int))
    >>> print(params["second"], jax.tree.map(jnp.shape, params["head"]), params["embedding"]["table"].shape)
    () {'b': (50,), 'w': ()} (50, 8)
    >>> y, state = model.apply(params, state, jnp.zeros((1, 3), int))
    >>> print(y.shape)
    (1, 3, 50)
    """

    layer: Layer
    ties: Mapping[str, str] | tuple[tuple[str, str], ...]

    def __post_init__(self):
        super().__post_init__()
        try:
            ties = dict(self.ties)
            paths = [path for tie in ties.items() for path in tie]
        except (TypeError, ValueError):
            ties, paths = {}, []
        if not ties or not all(isinstance(path, str) and path.strip("/") for path in paths):
            raise InputError(
                f"Tied: ties is {self.ties!r:.60}, and must be a dict of paths, as in {{'decoder': 'encoder'}}"
            )
        for where, source in ties.items():
            for other in (*(name for name in ties if name != where), *map(_without_turn, ties.values())):
                if f"{other}/".startswith(f"{where}/") or f"{where}/".startswith(f"{other}/"):
                    raise InputError(
                        f"Tied: {where!r} is to have the params of {source!r}, but {other!r} is the same, in it or "
                        "around it; tie each place to where the params are"
                    )
        object.__setattr__(self, "ties", tuple(ties.items()))  # which has a hash

    def children(self):
        return {"": self.layer}

    def with_children(self, children: Mapping[str, Layer]):
        (layer,) = children.values()
        return Tied(layer, self.ties)

    def init(self, key, x: PyTree) -> tuple[Params, State]:
        params, state = self.layer.init(key, x)
        for where, source in dict(self.ties).items():
            own, put = place(self, "ties", params, where)
            if _kinds(own) != _kinds(self._shared(params, source)):
                raise InputError(
                    f"Tied: {where!r} is {_described(own)}, and {source!r} is "
                    f"{_described(self._shared(params, source))}; they must be alike"
                )
            params = put(())
        return params, state

    def apply(self, params, state, x: PyTree, *, key=None, train=False) -> tuple[PyTree, State]:
        for where, source in dict(self.ties).items():
            own, put = place(self, "ties", params, where)
            if jax.tree.leaves(own):
                raise InputError(
                    f"Tied: {where!r} has the params of {source!r}, and must be () in params, as init returned it, not "
                    f"{brief(own)}"
                )
            params = put(self._shared(params, source))
        return self.layer.apply(params, state, x, key=key, train=train)

    def flops(self, x, y):
        return 0

    def without(self, path: tuple[str, ...], params: Params) -> Params:
        """Of the params of the layer at a path in the model those that are its own."""
        for where, _ in dict(self.ties).items():
            names = tuple(where.split("/"))
            if path[: len(names)] == names:
                return ()
            if names[: len(path)] == path:
                params = place(self, "ties", params, "/".join(names[len(path) :]))[1](())
        return params

    def __str__(self) -> str:
        lines = "".join(f"  {where} = {source}\n" for where, source in dict(self.ties).items())
        return f"{super().__str__()[:-1]}{lines})"

    def _shared(self, params: Params, source: str) -> Any:
        shared, _ = place(self, "ties", params, _without_turn(source))
        if not source.endswith(_TURN):
            return shared
        if not hasattr(shared, "ndim") or shared.ndim < 2:
            raise InputError(f"Tied: {source!r} turns the last two axes of an array, and it is {_described(shared)}")
        return jnp.swapaxes(shared, -1, -2)


_TURN = ".T"


def _without_turn(source: str) -> str:
    return source.removesuffix(_TURN)


def _kinds(tree: Any) -> Any:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _described(tree: Any) -> str:
    return ", ".join(map(brief, jax.tree.leaves(tree))) or "nothing"
