"""Activations: a function of ops as a layer."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from jaxtyping import PyTree, Shaped

from dlfn import ops
from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn.checks import require_keywords
from dlfn.nn.layer import Layer, called
from dlfn.nn.sequence import Sequence, on_values
from dlfn.nn.types import AnyArray, State

__all__ = [
    "ACTIVATIONS",
    "CELU",
    "ELU",
    "GATED",
    "GELU",
    "SELU",
    "Activation",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Squareplus",
    "Tanh",
]

# Activations by name, wherever a layer takes one; the gated ones, of a value and a gate, apart.
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "sigmoid": ops.sigmoid,
    "log_sigmoid": ops.log_sigmoid,
    "tanh": ops.tanh,
    "softsign": ops.softsign,
    "relu": ops.relu,
    "leaky_relu": ops.leaky_relu,
    "relu6": ops.relu6,
    "elu": ops.elu,
    "selu": ops.selu,
    "celu": ops.celu,
    "gelu": ops.gelu,
    "gelu_tanh": partial(ops.gelu, approximate=True),
    "silu": ops.silu,
    "mish": ops.mish,
    "softplus": ops.softplus,
    "squareplus": ops.squareplus,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_tanh": ops.hard_tanh,
    "hard_swish": ops.hard_swish,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
}
GATED: dict[str, Callable[..., Any]] = {
    "glu": ops.glu,
    "geglu": ops.geglu,
    "geglu_tanh": partial(ops.geglu, approximate=True),
    "swiglu": ops.swiglu,
}


@dataclass(frozen=True, init=False)
class Applied(Layer):
    """What applies a function with settings, and is printed as that."""

    known: ClassVar[dict[str, Callable[..., Any]]] = ACTIVATIONS
    example: ClassVar[str] = "ops.relu"
    function: Callable[..., Any]
    static: tuple[tuple[str, Any], ...]

    def __init__(self, function: str | Callable[..., Any], **static: Any):
        if isinstance(function, str):
            if function not in self.known:
                raise InputError(f"unknown activation {function!r}; {suggestion(function, self.known)}")
            function = self.known[function]
        if not callable(function):
            raise InputError(
                f"{type(self).__name__}: function is {function!r}, and must be a function, such as {self.example}"
            )
        require_keywords(function, static)
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "static", tuple(sorted(static.items())))

    def __str__(self) -> str:
        return called(self.function, **dict(self.static))


@dataclass(frozen=True, init=False)
class Activation(Applied):
    """``y = function(x, **static)``, for a function or the name of one in :data:`ACTIVATIONS`.

    ``Sigmoid``, ``ReLU``, ``LeakyReLU``, ``GELU`` and the others of this module are short for it.

    >>> print(GELU(approximate=True), Activation("gelu_tanh"), Activation("tanh"))
    gelu(approximate=True) gelu(approximate=True) tanh()
    >>> Activation("gleu")
    Traceback (most recent call last):
    dlfn.core.errors.InputError: unknown activation 'gleu'; did you mean 'gelu'?
    """

    def apply(
        self, params, state, x: Shaped[AnyArray, "*shape"] | Sequence, *, key=None, train=False
    ) -> tuple[PyTree, State]:
        static = dict(self.static)
        if isinstance(x, Sequence) and static.get("axis", -1) != -1:
            raise InputError(f"{self} acts across steps, and got a Sequence, whose padding it would take for steps")
        return on_values(partial(self.function, **static), x), state


def short_for(layer: Callable[..., Layer], op: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function of this name that makes the layer of an op, with the op's settings by keyword."""

    def make(**static: Any) -> Layer:
        return layer(op, **static)

    make.__name__ = make.__qualname__ = name
    make.__module__ = layer.__module__
    settings = [p.name for p in inspect.signature(op).parameters.values() if p.kind is p.KEYWORD_ONLY]
    given = f"; settings: {', '.join(settings)}" if settings else ""
    make.__doc__ = f"``{layer.__name__}(ops.{op.__name__})``: the layer of :func:`dlfn.ops.{op.__name__}`{given}."
    return make


Sigmoid = short_for(Activation, ops.sigmoid, "Sigmoid")
LogSigmoid = short_for(Activation, ops.log_sigmoid, "LogSigmoid")
Tanh = short_for(Activation, ops.tanh, "Tanh")
Softsign = short_for(Activation, ops.softsign, "Softsign")
ReLU = short_for(Activation, ops.relu, "ReLU")
LeakyReLU = short_for(Activation, ops.leaky_relu, "LeakyReLU")
ReLU6 = short_for(Activation, ops.relu6, "ReLU6")
ELU = short_for(Activation, ops.elu, "ELU")
SELU = short_for(Activation, ops.selu, "SELU")
CELU = short_for(Activation, ops.celu, "CELU")
GELU = short_for(Activation, ops.gelu, "GELU")
SiLU = short_for(Activation, ops.silu, "SiLU")
Mish = short_for(Activation, ops.mish, "Mish")
Softplus = short_for(Activation, ops.softplus, "Softplus")
Squareplus = short_for(Activation, ops.squareplus, "Squareplus")
HardSigmoid = short_for(Activation, ops.hard_sigmoid, "HardSigmoid")
HardTanh = short_for(Activation, ops.hard_tanh, "HardTanh")
HardSwish = short_for(Activation, ops.hard_swish, "HardSwish")
Softmax = short_for(Activation, ops.softmax, "Softmax")
LogSoftmax = short_for(Activation, ops.log_softmax, "LogSoftmax")
