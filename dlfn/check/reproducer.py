"""A wrong rule alone, in a program of a few lines that fails when it is run."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.check.rules import Rule
from dlfn.core import Op, jaxprs
from dlfn.core.primitives import op_p

__all__ = ["reproducer"]

# How many numbers a program writes out, and how many lines it has at most.
_NUMBERS, _LINES = 32, 12


def reproducer(rule: Rule, eqn: Any, values: Sequence[Any], fails: Callable[[Any, Any, Any], bool]) -> str:
    """A program that calls the rule of an equation by the name that it has in its module, with arguments as small as
    they can be made from ``values``. Empty where it has no name there, or fails with no arguments that are small enough
    to be written out. ``fails(function, args, settings)`` says whether it is wrong with some arguments."""
    call = _arguments(eqn, values)
    if call is None:
        return ""
    args, settings, static = call
    for module, name, function in _named(rule):
        full = list(args)
        for i, value in zip(sorted(getattr(function, "nondiff_argnums", ())), static):
            full.insert(i, value)
        if _safely(fails, function, full, settings):
            small = _shrunk(full, lambda args, f=function: _safely(fails, f, args, settings))
            return _written(rule, module, name, small, settings)
    return ""


def _safely(fails: Callable[..., bool], *call: Any) -> bool:
    try:
        return fails(*call)
    except Exception:  # arguments of another shape may not fit together
        return False


def _arguments(eqn: Any, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any], tuple[Any, ...]] | None:
    """How the function of an equation was called: its arguments, keyword settings, and arguments that are not
    differentiated; None where that is not known."""
    if eqn.primitive is op_p:
        call = eqn.params["call"]
        return list(call.tree.unflatten(values)), dict(call.static), ()
    if eqn.primitive.name == jaxprs.HIJAX:
        return None
    given = values[eqn.params["num_consts"] :]
    called = jaxprs.custom_vjp_call(eqn) if eqn.primitive.name == "custom_vjp_call" else None
    if called is None:
        return list(given), {}, ()
    tree, static = called
    return list(tree.unflatten(given)), {}, static


def _named(rule: Rule) -> Iterator[tuple[str, str, Any]]:
    """Functions with that rule: their module, how they are called in it (``layer``, ``layers[3]``), themselves."""
    path = rule.defined.rpartition(":")[0]
    for module in [m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path]:
        name = module.__name__ if module.__name__ != "__main__" else Path(path).stem
        for attribute, value in list(vars(module).items()):
            for suffix, function in _inside(value):
                if jaxprs.code_place(getattr(_primal(function), "__code__", None)) == rule.defined:
                    yield name, attribute + suffix, function


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        yield from ((f"[{i}]", one) for i, one in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", one) for key, one in list(value.items()))
    else:
        yield "", value


def _primal(function: Any) -> Any:
    if isinstance(function, jax.custom_vjp | jax.custom_jvp):
        return jaxprs.primal(function)
    return function.definition if isinstance(function, Op) else None


def _shrunk(args: Any, fails: Callable[[Any], bool]) -> Any:
    """The arguments with every axis as short as it can be while it fails, and numbers of few digits."""
    for shorter in (1, 2):
        candidate = jax.tree.map(lambda x, n=shorter: x[(slice(n),) * np.ndim(x)] if np.ndim(x) else x, args)
        if fails(candidate):
            args = candidate
            break
    rounded = jax.tree.map(lambda x: _rounded(x) if _is_float(x) else x, args)
    return rounded if fails(rounded) else args


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _rounded(x: Any) -> Any:
    """Three significant digits."""
    return jnp.asarray([float(f"{v:.3g}") for v in np.ravel(x)], x.dtype).reshape(x.shape)


def _written(rule: Rule, module: str, name: str, args: Sequence[Any], settings: dict[str, Any]) -> str:
    arrays = [leaf for leaf in jax.tree.leaves(args) if hasattr(leaf, "dtype")]
    if sum(leaf.size for leaf in arrays) > _NUMBERS:
        return ""
    names = [f"x{i}" for i in range(len(args))]
    assigned = [f"{x} = {_literal(arg)}" for x, arg in zip(names, args, strict=True)]
    given = ", ".join(itertools.chain(names, (f"{key}={value!r}" for key, value in settings.items())))
    root = name.partition("[")[0]
    lines = [
        "import dlfn",
        "import numpy as np",
        f"from {module} import {root}",
        "",
        *assigned,
        f"dlfn.compare({name})({given}).raise_if_failed()",
    ]
    return "\n".join(lines) if len(lines) <= _LINES else ""


def _literal(value: Any) -> str:
    """An argument as code: arrays, and the containers that arguments are made of."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_literal(one)}" for key, one in value.items()) + "}"
    if type(value) in (list, tuple):
        inside = ", ".join(map(_literal, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside},)"
    if hasattr(value, "dtype"):
        return f"np.array({np.asarray(value).tolist()!r}, {str(value.dtype)!r})"
    return repr(value)
