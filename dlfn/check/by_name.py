"""Functions and arguments that the command line names, ``module:function``."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlfn._suggest import suggestion
from dlfn.check.opinions import reason
from dlfn.core import InputError

__all__ = ["arguments_of", "function_of", "or_one_line"]


def function_of(command: str, name: str) -> Callable[..., Any]:
    """The function that a command is given the name of; modules are looked for in the current folder first."""
    sys.path.insert(0, os.getcwd())
    function = _named(command, name)
    if not callable(function):
        raise InputError(f"{command}: {name!r} is {type(function).__name__}, and must be a function")
    return function


def arguments_of(command: str, doing: str, function: str, name: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A tuple of arguments or a dict of keyword arguments, or what a function without parameters returns of these.

    Args:
        command: whose ``--args`` it is.
        doing: what is to be done at them, such as ``"checked"``.
        function: to what.
        name: of the arguments, ``module:name``, or None where there is none, which is an error.
    """
    if name is None:
        raise InputError(
            f"{command}: at which arguments is {function!r} to be {doing}? Pass --args module:make_args, the name of a "
            "tuple or dict of arguments, or of a function without parameters that returns one"
        )
    found = _named(command, name)
    if callable(found):
        found = or_one_line(f"argument --args: {name} raised", found)
    if isinstance(found, dict):
        return (), found
    if isinstance(found, tuple):
        return found, {}
    hint = "; for a single argument x, return (x,)"
    raise InputError(f"argument --args: {name!r} gives {type(found).__name__}, and must give a tuple or a dict{hint}")


def _named(who: str, name: str) -> Any:
    """What ``module:function`` names; the function may be an attribute of another object, ``module:Class.method``."""
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise InputError(f"{who}: {name!r} must be module:function, such as models.losses:focal")
    found = _module(who, module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            names = [other for other in dir(found) if not other.startswith("_")]
            near = suggestion(part, names, otherwise=f"{module_name} is {getattr(found, '__file__', found)}")
            raise InputError(f"{who}: {module_name!r} has no {part!r}; {near}")
        found = getattr(found, part)
    return found


def _module(who: str, name: str) -> Any:
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise InputError(f"{who}: {name!r} must be the name of a module, without .py and with dots: {dotted!r}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise InputError(f"{who}: importing {name!r} raised ModuleNotFoundError: {error}") from None
        here = [module.name for module in pkgutil.iter_modules([os.getcwd()])]
        near = suggestion(name, here, otherwise=f"it is looked for in {Path.cwd()} and where Python finds modules")
        raise InputError(f"{who}: there is no module {error.name!r}; {near}") from None
    except Exception as error:
        raise _one_line(f"{who}: importing {name!r} raised", error) from error


def or_one_line(what: str, compute: Callable[[], Any]) -> Any:
    """What ``compute`` returns; what it raises as an error of one line, which names the user's line."""
    try:
        return compute()
    except InputError:
        raise
    except Exception as error:
        raise _one_line(what, error) from error


def _one_line(what: str, error: Exception) -> InputError:
    return InputError(f"{what} {reason(error)}")
