"""Activations: a function of ops as a layer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dlfn import ops
from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.nn.checks import require_keywords
from dlfn.nn.layer import Layer
from dlfn.nn.sequence import Sequence, on_values

__all__ = [
    "ACTIVATIONS",
    "CELU",
    "ELU",
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


@dataclass(frozen=True, init=False)
class Activation(Layer):
    """``y = function(x, **static)``, for a function or the name of one in :data:`ACTIVATIONS`.

    ``Sigmoid``, ``ReLU``, ``LeakyReLU``, ``GELU`` and the others of this module are short for it.

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
        require_keywords(function, static)
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "static", tuple(sorted(static.items())))

    def apply(self, params, state, x, *, key=None, train=False):
        static = dict(self.static)
        if isinstance(x, Sequence) and static.get("axis", -1) != -1:
            raise InputError(f"{self} acts across steps, and got a Sequence, whose padding it would take for steps")
        return on_values(partial(self.function, **static), x), state

    def __str__(self) -> str:
        return f"{self.function.__name__}({', '.join(f'{name}={value}' for name, value in self.static)})"


Sigmoid = partial(Activation, "sigmoid")
LogSigmoid = partial(Activation, "log_sigmoid")
Tanh = partial(Activation, "tanh")
Softsign = partial(Activation, "softsign")
ReLU = partial(Activation, "relu")
LeakyReLU = partial(Activation, "leaky_relu")
ReLU6 = partial(Activation, "relu6")
ELU = partial(Activation, "elu")
SELU = partial(Activation, "selu")
CELU = partial(Activation, "celu")
GELU = partial(Activation, "gelu")
SiLU = partial(Activation, "silu")
Mish = partial(Activation, "mish")
Softplus = partial(Activation, "softplus")
Squareplus = partial(Activation, "squareplus")
HardSigmoid = partial(Activation, "hard_sigmoid")
HardTanh = partial(Activation, "hard_tanh")
HardSwish = partial(Activation, "hard_swish")
Softmax = partial(Activation, "softmax")
LogSoftmax = partial(Activation, "log_softmax")
