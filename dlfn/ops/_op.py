"""The ops of this package, whose formulas broadcast whatever the user's settings say of user code."""

from collections.abc import Callable
from typing import Any

import jax

from dlfn import core

__all__ = ["Op"]

Function = Callable[..., Any]

# The setting finds mistakes in the user's code, and the z + b of a library's formulas is none; JAX exempts its own in the
# same way. Ops that users write are their code, and so core.Op does not do this.
_may_broadcast = jax.numpy_rank_promotion("allow")


class Op(core.Op):
    """A :class:`dlfn.Op` that is exempt from ``jax_numpy_rank_promotion``."""

    def __init__(self, definition: Function, *rules: Function, **options: Any):
        super().__init__(_may_broadcast(definition), *rules, **options)

    def def_forward(self, function: Function) -> Function:
        super().def_forward(_may_broadcast(function))
        return function

    def def_backward(self, function: Function) -> Function:
        super().def_backward(_may_broadcast(function))
        return function

    def def_check(self, function: Callable[..., None]) -> Callable[..., None]:
        super().def_check(_may_broadcast(function))
        return function
