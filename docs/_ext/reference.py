"""The reference: a page for each public room of dlfn, or family of ops, by sphinx.ext.autodoc."""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

from dlfn import nn

ROOMS = (
    "dlfn", "dlfn.ops", "dlfn.nn", "dlfn.nn.models", "dlfn.nn.initializers", "dlfn.train", "dlfn.train.data",
    "dlfn.weights", "dlfn.weights.maps", "dlfn.check", "dlfn.explain", "dlfn.testing", "dlfn.optimizers",
    "dlfn.calculus", "dlfn.linalg", "dlfn.probability", "dlfn.statistics", "dlfn.linear_models", "dlfn.augmentation",
    "dlfn.catalogue", "dlfn.registry", "dlfn.bench",
)  # fmt: skip


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", escape)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page, in reStructuredText as the docstrings are."""
    seen: set[int] = set()
    for room in ROOMS:
        module = importlib.import_module(room)
        groups: dict[str, list[str]] = {}
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, ModuleType) or id(value) in seen:
                continue
            seen.add(id(value))
            groups.setdefault(_home(value, room), []).append(name)
        if room == "dlfn.ops":
            families: dict[str, dict[str, list[str]]] = {}
            for home, names in groups.items():
                families.setdefault(home.split(".")[2], {})[home] = names
            for family, homes in sorted(families.items()):
                yield f"{room}.{family}", _page(room, homes, title=f"dlfn.ops: {family.replace('_', ' ')}")
        elif groups:
            yield room, _page(room, groups, title=room)


def _home(value: Any, room: str) -> str:
    """The module in which a public object is written."""
    return getattr(getattr(value, "definition", value), "__module__", None) or room


def _page(room: str, groups: dict[str, list[str]], title: str) -> str:
    lines = [title, "=" * len(title), ""]
    module = importlib.import_module(room)
    if "ops:" not in title:
        lines += [_about(room), ""]
    for home, names in sorted(groups.items()):
        if len(groups) > 1 and home != room:
            heading = home.rsplit(".", 1)[1].replace("_", " ").capitalize()
            lines += [heading, "-" * len(heading), "", _about(home), ""]
        for name in sorted(names, key=str.lower):
            lines += [*_directive(getattr(module, name), f"{room}.{name}"), ""]
    return "\n".join(lines) + "\n"


def _about(module: str) -> str:
    return _escaped(inspect.getdoc(importlib.import_module(module)) or "")


def _directive(value: Any, name: str) -> list[str]:
    if inspect.isclass(value):
        members = [] if issubclass(value, nn.Layer) and value is not nn.Layer else ["   :members:"]
        return [f".. autoclass:: {name}", *members]
    if callable(value):
        return [f".. autofunction:: {name}"]
    # The docstring of a constant is that of its type: a table's names say more, and of an instance what makes it.
    said = value if isinstance(value, Mapping) else [repr(value)]
    return [f".. py:data:: {name}", "", f"   {', '.join(f'``{item}``' for item in said)}"]


def signature(app: Sphinx, what: str, name: str, value: Any, *rest: Any) -> tuple[str, str] | None:
    """The signature with its annotations as they are written: evaluated, they are unions of a dozen types."""
    try:
        if inspect.isclass(value):
            return _of_class(value), ""
        tree = _tree(inspect.unwrap(getattr(value, "definition", value)))
    except (OSError, TypeError, ValueError):  # no source, or no signature
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    if what == "method" and tree.args.args:
        del tree.args.args[0]
    return f"({ast.unparse(tree.args)})", ast.unparse(tree.returns) if tree.returns else ""


# Markup that is meant (literals, roles, emphasis), and then a star that is left: of a shape, as in (*batch, features).
_MARKUP = re.compile(r"``.+?``|`[^`]+`|\*\*\S.*?\*\*|(?<![\w*])\*(?=\S)[^*]*?(?<=\S)\*(?![\w*])|(\*)", re.DOTALL)


def escape(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Stars that stand for axes, so that none of them begins an emphasis."""
    lines[:] = _escaped("\n".join(lines)).split("\n")


def _escaped(text: str) -> str:
    # Examples stand at the end and are shown as they are.
    prose, prompt, examples = text.partition("\n>>> ")
    return _MARKUP.sub(lambda match: r"\*" if match[1] else match[0], prose) + prompt + examples


def _of_class(value: type) -> str:
    written = {}
    for base in reversed(value.__mro__[:-1]):
        written |= _annotations(base)
    parameters = []
    for parameter in inspect.signature(value).parameters.values():
        annotation = written.get(parameter.name, inspect.Parameter.empty)
        annotation = parameter.annotation if annotation is inspect.Parameter.empty else _Written(annotation)
        default = parameter.default
        if default is not inspect.Parameter.empty and callable(default):
            default = _Written(getattr(default, "__name__", repr(default)))
        parameters.append(parameter.replace(annotation=annotation, default=default))
    return str(inspect.Signature(parameters))


class _Written(str):
    """What repr shows as it is."""

    def __repr__(self) -> str:
        return str(self)


def _annotations(value: type) -> dict[str, str]:
    try:
        tree = _tree(value)
    except (OSError, TypeError):
        return {}
    found = {
        node.target.id: ast.unparse(node.annotation)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.args, *node.args.kwonlyargs]
            found |= {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
    return found


@functools.cache
def _source(value: Any) -> str:
    return textwrap.dedent(inspect.getsource(value))


def _tree(value: Any) -> Any:
    return ast.parse(_source(value)).body[0]
