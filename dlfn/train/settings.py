"""Values of a configuration, checked against the types and limits of what takes them: the fields of a dataclass, or the
parameters of a function."""

import dataclasses
import inspect
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dlfn._suggest import suggestion
from dlfn.core import InputError

__all__ = ["Text", "arguments", "checked", "described", "hints_of", "parameters"]


class Text(str):
    """A value from the command line, whose type its key decides."""

    def parsed(self, hint: Any) -> Any:
        try:
            value = tomllib.loads(f"value = {self}")["value"]
        except tomllib.TOMLDecodeError:
            return str(self)
        return str(self) if hint is str and not isinstance(value, str) else value


def checked(schema: Any, table: Mapping[str, Any], path: str) -> Any:
    """An instance of a dataclass with the values of a table.

    Raises:
        InputError: on a key that it has not, and a value of another type or out of its limits, by the key's path.
    """
    fields, hints = schema.__dataclass_fields__, get_type_hints(schema)
    for key in table:
        if key not in fields:
            raise InputError(f"unknown key {path + key!r}; {suggestion(key, fields, path)}")
    values = {key: value_of(value, hints[key], path + key, fields[key].metadata) for key, value in table.items()}
    return schema(**values)


def arguments(function: Callable[..., Any], name: str, table: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The keyword arguments that a table gives a function, checked against its signature.

    Raises:
        InputError: as :func:`checked`.
    """
    known, hints = parameters(function), hints_of(function)
    for key in table:
        if key not in known:
            raise InputError(f"unknown key {path + key!r} for {name}; {suggestion(key, known, path)}")
    return {key: value_of(value, hints.get(key, Any), path + key) for key, value in table.items()}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function that can be given by name."""
    by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return {p.name: p for p in inspect.signature(function).parameters.values() if p.kind in by_name}


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of the parameters, as far as they are annotated with what there is."""
    try:
        return get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError):
        return {}


def value_of(value: Any, hint: Any, path: str, limits: Mapping[str, Any] = types.MappingProxyType({})) -> Any:
    """A value as its type has it: a list becomes a tuple, and an integer a float."""
    if isinstance(value, Text):
        value = value.parsed(hint)
    if dataclasses.is_dataclass(hint):
        return checked(hint, _expect(value, dict, path), f"{path}.")
    origin = get_origin(hint)
    if origin is Literal:
        limits, hint, origin = {"choices": get_args(hint)}, type(get_args(hint)[0]), None
    if origin in (Union, types.UnionType):
        return _of_union(value, get_args(hint), path, limits)
    if hint is dict or origin in (dict, Mapping, typing.get_origin(Mapping[str, Any])):
        of = get_args(hint)[1] if get_args(hint) else Any
        return {k: value_of(v, of, f"{path}.{k}") for k, v in _expect(value, dict, path).items()}
    if origin in (tuple, list, typing.get_origin(Sequence[int])):
        item = get_args(hint)[0]
        return tuple(value_of(v, item, f"{path}[{i}]", limits) for i, v in enumerate(_expect(value, list, path)))
    return _scalar(value, hint, path, limits)


def _of_union(value: Any, kinds: Sequence[Any], path: str, limits: Mapping[str, Any]) -> Any:
    """The value as the first of the kinds that takes it has it; the error is that of the first kind."""
    first = None
    for kind in kinds:
        if kind is not type(None):
            try:
                return value_of(value, kind, path, limits)
            except InputError as error:
                first = first or error
    if first is None:
        return value
    raise first


_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string", dict: "a table", list: "a list"}


def _scalar(value: Any, kind: Any, path: str, limits: Mapping[str, Any]) -> Any:
    if kind not in _NAMES:  # a type that only Python code can make, or none
        return tuple(value) if isinstance(value, list) else value
    if kind is float and type(value) is int:
        value = float(value)
    value = _expect(value, kind, path)
    choices = limits.get("choices")
    if choices and value not in choices:
        raise InputError(f"{path} = {value!r}: {suggestion(value, choices)}")
    if "at_least" in limits and not value >= limits["at_least"]:
        raise InputError(f"{path} = {value!r}: must be at least {limits['at_least']}")
    if "above" in limits and not value > limits["above"]:
        raise InputError(f"{path} = {value!r}: must be above {limits['above']}")
    if "at_most" in limits and not value <= limits["at_most"]:
        raise InputError(f"{path} = {value!r}: must be at most {limits['at_most']}")
    if "below" in limits and not value < limits["below"]:
        raise InputError(f"{path} = {value!r}: must be below {limits['below']}")
    return value


def _expect(value: Any, kind: type, path: str) -> Any:
    if kind is list and isinstance(value, tuple):
        return list(value)
    # bool is a subclass of int, but true is no number of steps.
    if type(value) is not kind:
        hint = f"; write {path}='[256, 128]'" if kind is list else ""
        raise InputError(f"{path} = {value!r}: expected {_NAMES[kind]}, got {type(value).__name__}{hint}")
    return value


def described(hint: Any) -> str:
    """A type, as a list of keys shows it."""
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint).replace("typing.", "")
