"""One line of test code for the gradients of any function."""

import inspect
from collections.abc import Callable
from typing import Any

from dlfn._suggest import suggestion
from dlfn.check import compare
from dlfn.core import InputError

__all__ = ["assert_gradients"]

_OPTIONS = tuple(inspect.signature(compare).parameters)[1:]


def assert_gradients(f: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Asserts that all gradients of a function agree, in every floating-point argument: by its hand-written rules, by
    backprop, by autodiff of the definitions and by finite differences.

    Args:
        f: any JAX function; keyword arguments of its own are bound first: ``functools.partial(f, causal=True)``.
        args: where it is differentiated.
        options: those of :func:`dlfn.compare`, such as ``tolerance``, ``dtype`` and ``reference``.

    Raises:
        GradientError: an ``AssertionError`` with the table, worst leaf first, where they do not agree.
        InputError: as :func:`dlfn.compare` does, and on an option that it does not have.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn.testing import assert_gradients
    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * x * x * dy,))
    >>> assert_gradients(cube, jnp.arange(1.0, 4.0))
    """
    __tracebackhide__ = True
    for name in options:
        if name not in _OPTIONS:
            raise InputError(
                f"assert_gradients: unknown option {name!r}; {suggestion(name, _OPTIONS)} (arguments of the function "
                "by keyword are bound first, by functools.partial)"
            )
    compare(f, **options)(*args).raise_if_failed()
