"""What makes an Op of an elementwise function and its derivative."""

import math
from collections.abc import Callable
from typing import Any

import jax

from dlfn.core import InputError
from dlfn.ops.support.arguments import require_float
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op, P, R

__all__ = ["elementwise"]

Kernel = Callable[..., jax.Array]


def elementwise(
    value: Kernel, slope: Kernel, *, of_output: bool = False, positive: bool = False
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Makes an Op of a definition, by f and f′, which get the definition's static configuration as well.

    Args:
        value: f of x in float32 or float64.
        slope: f′ of the same x, or of the output in x's dtype where that tells as much.
        of_output: whether ``slope`` takes the output; what it takes is the residual.
        positive: whether numbers among the settings must be positive, not finite alone. A setting whose default is a
            bool must be one.
    """

    def decorate(definition: Callable[P, R]) -> Op[P, R]:
        op = definition.__name__

        def forward(x, **static):
            y = value(upcast(x), **static).astype(x.dtype)
            return y, y if of_output else x

        def backward(kept, dy, **static):
            return ((upcast(dy) * slope(upcast(kept), **static)).astype(dy.dtype),)

        def check(x, **static):
            require_float(op, "x", x)
            defaults: Any = definition.__kwdefaults__
            for name, setting in static.items():
                if isinstance(defaults[name], bool):
                    if not isinstance(setting, bool):
                        raise InputError(f"{op}: {name} is {setting!r}, and must be True or False")
                else:
                    _require_number(op, name, setting, positive)

        return Op(definition, forward, backward, check=check)

    return decorate


def _require_number(op: str, name: str, setting: Any, positive: bool) -> None:
    if isinstance(setting, bool) or not isinstance(setting, int | float) or not math.isfinite(setting):
        raise InputError(f"{op}: {name} is {setting!r}, and must be a finite Python number")
    if positive and setting <= 0:
        raise InputError(f"{op}: {name} is {setting!r}, and must be positive; its limit at 0 is relu")
