"""The class of this package's ops, exempt from the settings with which users let JAX find mistakes in their code."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from dlfn import core
from dlfn.core.op import P, R

__all__ = ["Op", "P", "R", "as_library"]

Function = TypeVar("Function", bound=Callable[..., Any])


def as_library(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, free to broadcast and to make constants whatever ``jax_numpy_rank_promotion`` and
    ``jax_transfer_guard`` say.

    These settings are there to find mistakes in the user's code. In the formulas of a library z + b, which broadcasts,
    and x > 0, which makes a constant, are none. JAX exempts its own functions in the same way.
    """

    @functools.wraps(function)
    def exempt(*args: P.args, **kwargs: P.kwargs) -> R:
        config: Any = jax.config
        guards = config.jax_transfer_guard_host_to_device, config.jax_transfer_guard_device_to_host
        if config.jax_numpy_rank_promotion == "allow" and guards == (None, None):  # saves 25 µs of an eager call
            return function(*args, **kwargs)
        with jax.numpy_rank_promotion("allow"), jax.transfer_guard("allow"):
            return function(*args, **kwargs)

    return exempt


class Op(core.Op[P, R]):
    """A :class:`dlfn.Op` whose rules run :func:`as_library`. The ops that users write are not exempt in this way."""

    def __init__(self, definition: Callable[P, R], *rules: Callable[..., Any], **options: Any):
        super().__init__(as_library(definition), *rules, **options)

    def def_forward(self, function: Function) -> Function:
        super().def_forward(as_library(function))
        return function

    def def_backward(self, function: Function) -> Function:
        super().def_backward(as_library(function))
        return function

    def def_check(self, function: Function) -> Function:
        super().def_check(as_library(function))
        return function
