"""What a layer is, and how an error raised inside a model says where."""

import abc
import contextlib
import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import jax
import numpy as np
from jaxtyping import PyTree

from dlfn.core import InputError
from dlfn.nn.sequence import Sequence, values_of
from dlfn.nn.types import Params, RandomKey, State

__all__ = ["Layer", "array_of", "brief", "called", "inside", "output_shape", "spelled", "steps_of", "title"]


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

    A class that sets ``takes`` gets its inputs checked: ``"array"`` is for an array alone, ``"steps"`` for an array of
    which the layer treats each step (..., features) by itself. The latter acts on the values of a
    :class:`~dlfn.nn.Sequence` too.
    """

    takes: ClassVar[str] = "anything"

    def __post_init__(self, *_: Any):
        # Linear(8, 4), meant as 8 inputs and 4 outputs, would silently be 8 outputs with bias=4, which counts as True.
        # In turn Dropout(True) would keep everything, as True counts as 1.
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name, field.default)
            is_bool = isinstance(value, bool | np.bool_)
            if field.type in (bool, "bool"):
                if value is not field.default and not is_bool:
                    raise InputError(f"{type(self).__name__}: {field.name} is {value!r}, and must be True or False")
            elif is_bool and _is_number(field.type):
                raise InputError(f"{type(self).__name__}: {field.name} is {value!r}, and must be a number")

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if cls.takes != "anything":
            for name, checked in (("init", _checked_init), ("apply", _checked_apply)):
                if name in cls.__dict__:
                    setattr(cls, name, checked(cls.__dict__[name]))

    def init(self, key: RandomKey, x: PyTree) -> tuple[Params, State]:
        """``(params, state)`` for inputs like ``x``, an array or a ``jax.ShapeDtypeStruct``."""
        del key, x
        return (), ()

    @abc.abstractmethod
    def apply(
        self, params: Params, state: State, x: PyTree, *, key: RandomKey | None = None, train: bool = False
    ) -> tuple[PyTree, State]:
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
        return values_of(y).size

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
        if not _same(value, field.default):
            yield f"{field.name}={spelled(value)}"


def _same(value: Any, default: Any) -> bool:
    try:
        return bool(value == default)
    except (TypeError, ValueError):  # of an array, which no default is
        return False


def spelled(value: Any) -> str:
    """How a setting is printed, in one line: a function by its name, a partial one as a call, an array as its shape."""
    if isinstance(value, functools.partial):
        return called(value)
    if getattr(value, "shape", ()) and hasattr(value, "dtype"):
        return brief(value)
    if callable(value) and not isinstance(value, Layer):
        return str(getattr(value, "__name__", type(value).__name__))
    return " ".join(str(value).split())


def called(function: Callable[..., Any], *args: Any, **settings: Any) -> str:
    """A function with settings as a call: ``gelu(approximate=True)``."""
    if isinstance(function, functools.partial):
        return called(function.func, *function.args, *args, **{**function.keywords, **settings})
    given = [*map(spelled, args), *(f"{name}={spelled(value)}" for name, value in settings.items())]
    return f"{spelled(function)}({', '.join(given)})"


def _is_number(annotation: Any) -> bool:
    """Whether a number is of this type, and a bool is not."""
    kinds = typing.get_args(annotation) or (annotation,)
    return any(kind in (int, float, "int", "float") for kind in kinds) and bool not in kinds


def _checked_init(init: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(init)
    def checked(self, key, x):
        return init(self, key, array_of(self, x))

    return checked


def _checked_apply(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def checked(self, params, state, x, **options):
        array_of(self, x)  # refuses what is no array
        x = x.without_padding() if isinstance(x, Sequence) else x
        y, state = apply(self, params, state, values_of(x), **options)
        return (x._replace(values=y).without_padding() if isinstance(x, Sequence) else y), state

    return checked


def array_of(layer: Layer, x: Any) -> Any:
    """The array that ``layer`` is to act on: x, or its values."""
    if isinstance(x, Sequence):
        if layer.takes == "array":
            raise InputError(
                f"{title(layer)} takes an array, and got a Sequence, whose steps it would mix with padding; give it "
                "x.values if there is none, or end what comes before with output='last'"
            )
        x = x.values
    if x is None or isinstance(x, tuple | list | dict):
        hint = "of a layer over time output='sequence' and 'last' are arrays"
        if isinstance(x, tuple) and layer.takes == "steps":
            hint = f"pass a mask along as nn.Sequence(x, mask=mask), a context to MultiHeadAttention itself; {hint}"
        raise InputError(f"{title(layer)} takes an array, and got {brief(x)}; {hint}")
    return x


def steps_of(layer: Layer, x: Any) -> Any:
    """The array that a layer is to act on, which must have an axis of time."""
    values = array_of(layer, x)
    if values.ndim < 2:
        raise InputError(f"{layer} needs (..., time, features), got {list(values.shape)}")
    return values


def title(layer: Any) -> str:
    """What an error calls a layer, in one line."""
    text = str(layer)
    return type(layer).__name__ if "\n" in text else text


def brief(x: Any) -> str:
    """What an error says of a value."""
    if isinstance(x, Mapping):
        return f"a dict of {', '.join(map(str, x)) or 'nothing'}"
    if isinstance(x, tuple | list):
        return f"a {type(x).__name__} of {len(x)}"
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") else f"{x!r:.60}"


def output_shape(layer: Layer, params: Params, state: State, x: Any) -> Any:
    """Shape and dtype of what ``layer`` makes of ``x``, without computing it."""
    # With a key, as some layers draw at inference too.
    return jax.eval_shape(lambda *args: layer.apply(*args, key=jax.random.key(0))[0], params, state, x)


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
