"""What a layer is, and how an error raised inside a model says where."""

import abc
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax

from dlfn.core import InputError

__all__ = ["Layer", "Params", "State", "inside", "output_shape"]

# Plain nested containers of arrays.
Params = Any
State = Any


class Layer(abc.ABC):
    """Static configuration with two pure methods, ``init`` and ``apply``; subclasses are frozen dataclasses.

    Params and state are plain nested containers of arrays. Params are ``()`` where there are none, and so is
    state.

    >>> import dataclasses, jax, jax.numpy as jnp, dlfn.nn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Scale(dlfn.nn.Layer):
    ...     start: float = 1.0
    ...     def init(self, key, x):
    ...         return {"scale": jnp.full(x.shape[-1:], self.start, x.dtype)}, ()
    ...     def apply(self, params, state, x, *, key=None, train=False):
    ...         return params["scale"] * x, state
    >>> model = dlfn.nn.Serial(Scale(2.0), dlfn.nn.ReLU())
    >>> params, state = model.init(jax.random.key(0), jax.ShapeDtypeStruct((4, 3), jnp.float32))
    >>> y, state = model.apply(params, state, jnp.ones((4, 3)))
    >>> print(y[0])
    [2. 2. 2.]
    """

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        """``(params, state)`` for inputs like ``x``, an array or a ``jax.ShapeDtypeStruct``."""
        del key, x
        return (), ()

    @abc.abstractmethod
    def apply(
        self, params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ) -> tuple[Any, State]:
        """``(y, state)``. ``key`` is for layers that draw random numbers in training."""

    def children(self) -> Mapping[str, "Layer"]:
        """The layers inside this one, by the key of their params; ``""`` for one whose params are this layer's own."""
        return {}

    def with_children(self, children: Mapping[str, "Layer"]) -> Self:
        """This layer around other children, given in the order of :meth:`children`."""
        raise NotImplementedError(f"{type(self).__name__} has no children")

    def repeats(self) -> int:
        """How often each child is there, its params stacked along a first axis of this size where that is not 1."""
        return 1

    def flops(self, x: Any, y: Any) -> int:
        """Floating-point operations of one forward pass, children apart; by default one for each element of ``y``."""
        del x
        return y.size

    def __str__(self) -> str:
        children = self.children()
        if not children:
            return f"{type(self).__name__}({', '.join(_settings(self))})"
        lines = [f"{name}: {child}" if name else str(child) for name, child in children.items()]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _settings(layer: Any) -> Iterator[str]:
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if value != field.default:
            yield f"{field.name}={getattr(value, '__name__', value)}"


def output_shape(layer: Layer, params: Params, state: State, x: Any) -> Any:
    """Shape and dtype of what ``layer`` makes of ``x``, without computing it."""
    return jax.eval_shape(lambda *args: layer.apply(*args)[0], params, state, x)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Names a part of a model: in the operations traced within, and in an InputError raised within.

    Combinators wrap every call into a child in it, so that an error names the child by its path in the model.
    """
    try:
        with jax.named_scope(name):
            yield
    except InputError as error:
        path, message = getattr(error, "place", ((), error.args[0]))
        error.place = (name, *path), message  # pyright: ignore[reportAttributeAccessIssue]
        error.args = (f"layer {'/'.join((name, *path))!r}: {message}",)
        raise
