"""What uses an object: other public ones, by the names in the sources, and packaged configurations, by their layers."""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from dlfn import nn
from dlfn.core import Op
from dlfn.train import load_config
from dlfn.train.parts import make_model

__all__ = ["configurations", "users"]

_ROOMS = ("ops", "nn", "linear_models", "probability", "statistics", "linalg", "augmentation", "train", "weights")
# What data would say of themselves; any numbers will do.
_INFO = {"outputs": 10, "vocabulary": 65, "classes": 10, "features": 10, "inputs": 10}


def users(name: str) -> list[str]:
    """Dotted names of the public objects in whose source an object is used, such as the layers that apply an op.

    >>> users("dlfn.ops.lstm_step")
    ['dlfn.nn.LSTMCell', 'dlfn.ops.lstm']
    """
    activation = name.rpartition(".")[2] in nn.ACTIVATIONS and name.startswith("dlfn.ops.")
    named = {user for user, names in _names().items() if name in names and user != name}
    return sorted(named | ({"dlfn.nn.Activation"} if activation else set()))


@functools.cache
def _names() -> dict[str, set[str]]:
    """The public objects that the source of each public one names, or that of the functions of its module beside it."""
    public = {id(_inner(item)): dotted for dotted, item in _public()}
    found: dict[str, set[str]] = {}
    for module in _modules():
        tree = ast.parse(inspect.getsource(module))
        loaded = {node.name: _loaded(node) for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for name in loaded:
            item = _inner(getattr(module, name, None))
            if id(item) in public and item.__module__ == module.__name__:
                reached = (_inner(_resolved(module, each)) for each in _closure(name, loaded))
                found[public[id(item)]] = {public[id(each)] for each in reached if id(each) in public}
    return found


def _resolved(module: Any, name: str) -> Any:
    """What a name, or an attribute of ``ops`` or ``nn``, is in a module; the module itself where it is nothing."""
    first, _, second = name.partition(".")
    item = getattr(module, first, module)
    return getattr(item, second, module) if second else item


def _inner(item: Any) -> Any:
    return item.definition if isinstance(item, Op) else item


def _public() -> Iterator[tuple[str, Any]]:
    for room in _ROOMS:
        module = importlib.import_module(f"dlfn.{room}")
        yield from ((f"dlfn.{room}.{name}", getattr(module, name)) for name in module.__all__)
    yield from ((f"dlfn.nn.models.{name}", getattr(nn.models, name)) for name in nn.models.__all__)


def _modules() -> Iterator[Any]:
    for room in _ROOMS:
        package = importlib.import_module(f"dlfn.{room}")
        yield package
        for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"dlfn.{room}."):
            yield importlib.import_module(found.name)


def _loaded(node: ast.AST) -> set[str]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
    return names | {
        f"{each.value.id}.{each.attr}"
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id in ("ops", "nn")
    }


def _closure(name: str, loaded: dict[str, set[str]]) -> set[str]:
    """What a function names, and what the private functions of its module that it names do."""
    seen, todo = set(loaded[name]), [each for each in loaded[name] if each.startswith("_")]
    while todo:
        for inner in loaded.get(todo.pop(), set()) - seen:
            seen.add(inner)
            if inner.startswith("_"):
                todo.append(inner)
    return seen


def configurations(names: set[str]) -> list[str]:
    """The packaged configurations whose model has one of the layers, or an activation of that name."""
    return sorted(config for config, has in _layers().items() if has & names)


@functools.cache
def _layers() -> dict[str, set[str]]:
    found = {}
    folder = files("dlfn.train") / "configs"
    paths = folder.iterdir() if folder.is_dir() else (files("dlfn") / ".." / "configs").iterdir()
    for path in paths:
        if str(path).endswith(".toml"):
            model = make_model(load_config(str(path)), _INFO)
            found[path.name.removesuffix(".toml")] = set(_within(model))
    return found


def _within(part: Any) -> Iterator[str]:
    if isinstance(part, Op):
        yield f"dlfn.ops.{part.name}"
    elif isinstance(part, str) and part in nn.ACTIVATIONS:
        yield f"dlfn.ops.{part}"
    elif isinstance(part, dict):
        for each in part.values():
            yield from _within(each)
    elif isinstance(part, tuple | list):
        for each in part:
            yield from _within(each)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        yield f"dlfn.nn.{type(part).__name__}"
        for field in dataclasses.fields(part):
            yield from _within(getattr(part, field.name))
