"""``dlfn check module:function``: the gradients of anybody's function."""

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlfn._suggest import suggestion
from dlfn.core import InputError

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Prints the comparison of one function, with the audit of the rules that it calls where it fails, and writes it to
    the file of ``--json``."""
    from dlfn.check import compare
    from dlfn.files import write_text

    (name, *others), given = arguments.ops, arguments.args
    if others:
        raise InputError(f"check: {name!r} is checked by itself, without {', '.join(map(repr, others))}")
    if given is None:
        raise InputError(
            f"check: at which arguments is {name!r} to be checked? Pass --args module:make_args, the name of a tuple "
            "or dict of arguments, or of a function without parameters that returns one"
        )
    sys.path.insert(0, os.getcwd())
    function = _named(name)
    if not callable(function):
        raise InputError(f"check: {name!r} is {type(function).__name__}, and must be a function")
    args, kwargs = _arguments(given)
    result = _or_one_line(f"check: {name} raised", lambda: compare(function)(*args, **kwargs))
    print(result)
    if arguments.json:
        write_text(arguments.json, result.to_json() + "\n")
    return 0 if result.ok else 1


def _arguments(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    found = _named(name)
    if callable(found):
        found = _or_one_line(f"argument --args: {name} raised", found)
    if isinstance(found, dict):
        return (), found
    if isinstance(found, tuple):
        return found, {}
    hint = "; for a single argument x, return (x,)"
    raise InputError(f"argument --args: {name!r} gives {type(found).__name__}, and must give a tuple or a dict{hint}")


def _named(name: str) -> Any:
    """What ``module:function`` names; the function may be an attribute of another object, ``module:Class.method``."""
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise InputError(f"check: {name!r} must be module:function, such as models.losses:focal")
    found = _module(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            names = [other for other in dir(found) if not other.startswith("_")]
            near = suggestion(part, names, otherwise=f"{module_name} is {getattr(found, '__file__', found)}")
            raise InputError(f"check: {module_name!r} has no {part!r}; {near}")
        found = getattr(found, part)
    return found


def _module(name: str) -> Any:
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise InputError(f"check: {name!r} must be the name of a module, without .py and with dots: {dotted!r}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise InputError(f"check: importing {name!r} raised ModuleNotFoundError: {error}") from None
        here = [module.name for module in pkgutil.iter_modules([os.getcwd()])]
        near = suggestion(name, here, otherwise=f"it is looked for in {Path.cwd()} and where Python finds modules")
        raise InputError(f"check: there is no module {error.name!r}; {near}") from None
    except Exception as error:
        raise _one_line(f"check: importing {name!r} raised", error) from error


def _or_one_line(what: str, compute: Callable[[], Any]) -> Any:
    """What ``compute`` returns; what it raises as an error of one line, which names the user's line."""
    try:
        return compute()
    except InputError:
        raise
    except Exception as error:
        raise _one_line(what, error) from error


def _one_line(what: str, error: Exception) -> InputError:
    from dlfn.check.opinions import reason

    return InputError(f"{what} {reason(error)}")
