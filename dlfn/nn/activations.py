"""Activations: a function of ops as a layer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dlfn import ops
from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn.layer import Layer

__all__ = ["ACTIVATIONS", "GELU", "Activation", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "relu": ops.relu,
    "gelu": ops.gelu,
    "silu": ops.silu,
    "softplus": ops.softplus,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
}


@dataclass(frozen=True, init=False)
class Activation(Layer):
    """``y = function(x, **static)``, for a function or the name of one in :data:`ACTIVATIONS`.

    ``Sigmoid``, ``Tanh``, ``ReLU``, ``GELU``, ``SiLU``, ``Softplus``, ``Softmax`` and ``LogSoftmax`` are short for it.

    >>> print(GELU(approximate=True), Activation("tanh"))
    gelu(approximate=True) tanh()
    >>> Activation("gleu")
    Traceback (most recent call last):
    dlfn.core.errors.InputError: unknown activation 'gleu'; did you mean 'gelu'?
    """

    function: Callable[..., Any]
    static: tuple[tuple[str, Any], ...]

    def __init__(self, function: str | Callable[..., Any], **static: Any):
        if isinstance(function, str):
            if function not in ACTIVATIONS:
                raise InputError(f"unknown activation {function!r}; {suggestion(function, ACTIVATIONS)}")
            function = ACTIVATIONS[function]
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "static", tuple(sorted(static.items())))

    def apply(self, params, state, x, *, key=None, train=False):
        return self.function(x, **dict(self.static)), state

    def __str__(self) -> str:
        return f"{self.function.__name__}({', '.join(f'{name}={value}' for name, value in self.static)})"


Sigmoid = partial(Activation, "sigmoid")
Tanh = partial(Activation, "tanh")
ReLU = partial(Activation, "relu")
GELU = partial(Activation, "gelu")
SiLU = partial(Activation, "silu")
Softplus = partial(Activation, "softplus")
Softmax = partial(Activation, "softmax")
LogSoftmax = partial(Activation, "log_softmax")
