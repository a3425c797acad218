"""Makes an Op from an elementwise function and its derivative."""

from collections.abc import Callable
from typing import Any

import jax

from dlfn.core import InputError
from dlfn.ops.support.arguments import require_float, require_number
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.op import Op, P, R

__all__ = ["elementwise"]

Kernel = Callable[..., jax.Array]


def elementwise(
    value: Kernel, slope: Kernel, *, of_output: bool = False, positive: str = ""
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """A decorator that makes an Op of the definition of an elementwise function f, given functions for f and f′.

    Both functions also receive the definition's static arguments, as keywords. Those are checked: where the default is
    a bool, the argument must be one too, and any other must be a finite number.

    Args:
        value: computes f(x) from x in float32 or float64.
        slope: computes f′(x) from the same x or, with ``of_output``, from the output rounded to the dtype of x.
        of_output: whether ``slope`` takes the output. The residual is what ``slope`` takes.
        positive: why the static arguments that are numbers must be positive, as the error says it, if they must.
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
                    require_number(op, name, setting, "a finite number")
                    if positive:
                        require_number(op, name, setting, f"positive; {positive}", lambda number: number > 0)

        return Op(definition, forward, backward, check=check)

    return decorate
