"""The table of derivative rules: primitive name to hand-derived cotangents."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["RULES", "NoRule", "elementwise", "is_complex", "register_rule", "rule", "summed_like", "zero_derivative"]

Rule = Callable[..., Any]

RULES: dict[str, Rule | None] = {}


class NoRule(str):
    """What a rule returns in place of a cotangent that it does not know: the reason, which is an error where that input
    is differentiated."""


def is_complex(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.complexfloating)


def register_rule(primitive: Any, function: Rule | None) -> None:
    """Adds or replaces the rule by which :func:`dlfn.backprop` differentiates a JAX primitive.

    Args:
        primitive: the primitive, or its name (the error about a missing rule gives it).
        function: ``function(dy, y, *xs, **params)``: the cotangent, the output and the inputs of one equation, and the
            primitive's parameters (``accuracy`` and the like: take ``**_``). It returns the inputs' cotangents: a tuple
            (``None`` for a zero), or a bare array if there is one input. For a primitive with several outputs ``dy``
            and ``y`` are lists, with ``None`` in ``dy`` where no cotangent arrived. ``None`` instead of a function
            declares the derivative zero everywhere.

    >>> import dlfn
    >>> dlfn.register_rule("square", lambda dy, y, x, **_: 2 * dy * x)
    """
    RULES[primitive if isinstance(primitive, str) else primitive.name] = function


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers the decorated function for the primitives ``names``."""

    def register(function: Rule) -> Rule:
        for name in names:
            register_rule(name, function)
        return function

    return register


def zero_derivative(*names: str) -> None:
    """Declares the derivatives of ``names`` zero wherever they exist."""
    for name in names:
        register_rule(name, None)


def elementwise(name: str, *partials: Callable[..., Any]) -> None:
    """Registers an elementwise primitive by one ``partial(dy, y, *xs)`` per input. Inputs may be broadcast:
    their cotangents are summed. Parameters (only ``accuracy``, if any) do not matter."""

    def cotangents(dy: Any, y: Any, *xs: Any, **_: Any) -> tuple[Any, ...]:
        return tuple(summed_like(partial(dy, y, *xs), x) for partial, x in zip(partials, xs, strict=True))

    register_rule(name, cotangents)


def summed_like(dx: Any, x: jax.Array) -> Any:
    """The cotangent of an input that was broadcast, scalar or along axes of length 1: summed over what was repeated."""
    if dx is None or isinstance(dx, NoRule) or dx.shape == jnp.shape(x):
        return dx
    if jnp.ndim(x) == 0:
        return jnp.sum(dx)
    return jnp.sum(dx, [d for d, n in enumerate(jnp.shape(x)) if n == 1 and dx.shape[d] != 1], keepdims=True)
