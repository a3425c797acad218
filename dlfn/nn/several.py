"""What the combinators of several layers share: names, keys, and params and state by name or by position."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax

from dlfn.core import InputError
from dlfn.nn.layer import Layer, brief
from dlfn.nn.sequence import Sequence

__all__ = ["Several", "child_key"]


@dataclass(frozen=True, init=False)
class Several(Layer):
    """Layers by position or by name. Params are a tuple or a dict of theirs, and so is state, but ``()`` without any.

    Raises:
        InputError: when layers are given in both ways, and when one is no Layer.
    """

    layers: tuple[Layer, ...]
    names: tuple[str, ...]

    def __init__(self, *layers: Layer, **named: Layer):
        kind = type(self).__name__
        if layers and named:
            raise InputError(f"{kind} takes its layers by position or by name, not both; name them all")
        for name, layer in (named or dict(enumerate(layers))).items():
            if not isinstance(layer, Layer):
                raise InputError(
                    f"{kind}: layer {name!r} must be a Layer, got {getattr(layer, '__name__', repr(layer))}; "
                    "call a class, as in Flatten(), and wrap a function, as in Activation(jax.numpy.sin)"
                )
        object.__setattr__(self, "layers", layers or tuple(named.values()))
        object.__setattr__(self, "names", tuple(named))

    def children(self):
        return dict(zip(self.names or map(str, range(len(self.layers))), self.layers, strict=True))

    def with_children(self, children: Mapping[str, Layer]) -> Self:
        return type(self)(**children) if self.names else type(self)(*children.values())

    def named(self, values: list[Any]) -> Any:
        """One value for each layer, in the container of the params."""
        return dict(zip(self.names, values, strict=True)) if self.names else tuple(values)

    def joined_state(self, states: list[Any]) -> Any:
        return self.named(states) if jax.tree.leaves(states) else ()

    def by_position(self, values: Any, what: str) -> list[Any]:
        """The inverse of :meth:`named`."""
        try:
            found = [values[name] for name in self.names] if self.names else list(values)
        except (TypeError, KeyError, IndexError):
            found = []
        if len(found) != len(self.layers) or len(values) != len(self.layers) or isinstance(values, Sequence):
            expected = f"a dict of {', '.join(self.names)}" if self.names else f"a tuple of {len(self.layers)}"
            hint = ", as init returned it" if what in ("params", "state") else ""
            raise InputError(f"{type(self).__name__}: {what} must be {expected}{hint}, got {brief(values)}")
        return found

    def split_state(self, state: Any) -> list[Any]:
        return self.by_position(state, "state") if jax.tree.leaves(state) else [()] * len(self.layers)


def child_key(key: jax.Array | None, index: int) -> jax.Array | None:
    """The key of the layer at an index."""
    return None if key is None else jax.random.fold_in(key, index)
