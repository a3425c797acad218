"""What the code of an object says of itself: its docstring as Markdown, and its functions without docstrings."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from dlfn.core import Op

__all__ = ["described", "parts", "source"]


def described(item: Any) -> str:
    """The docstring up to its arguments, as Markdown.

    >>> from dlfn import ops
    >>> print(described(ops.softplus).splitlines()[0])
    Smooth ReLU, $\\ln(1 + e^x) = \\max(x, 0) + \\ln(1 + e^{-|x|})$.
    """
    text = inspect.getdoc(item) or ""
    text = re.split(r"^(?:Args|Attributes|Returns|Raises|Source|>>>).*", text, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.split(r"^\.\. math::\s*\n((?:\s*\n|[ ]+.*\n?)+)", text, flags=re.MULTILINE)
    out = []
    for i, block in enumerate(blocks):
        if i % 2:
            lines = [line for line in textwrap.dedent(block).strip().splitlines() if line.strip()]
            out.append("$$\n" + "\n".join(lines) + "\n$$\n")
        else:
            out.append(_prose(block))
    return "\n".join(part for part in out if part.strip()).strip()


def _prose(text: str) -> str:
    """reStructuredText's roles as Markdown; what is neither code nor mathematics cannot become markup."""
    pieces = re.split(r"(:[a-z:]+:`[^`]+`|``[^`]+``)", text)
    for i, piece in enumerate(pieces):
        if role := re.fullmatch(r":([a-z:]+):`([^`]+)`", piece):
            content = " ".join(role[2].split())
            pieces[i] = f"${content}$" if role[1] == "math" else f"`{content.lstrip('~')}`"
        elif piece.startswith("``"):
            pieces[i] = piece.replace("``", "`")
        else:
            pieces[i] = piece.replace("<", "&lt;").replace("$", r"\$")
    return "".join(pieces)


def parts(op: Op) -> dict[str, str]:
    """The sources of an op: its definition, forward and backward pass or, of elementwise ones, f and f′."""
    found = {"Definition": source(op.definition)}
    backward = inspect.unwrap(op._backward) if op._backward else None  # pyright: ignore[reportPrivateUsage]
    forward = inspect.unwrap(op._forward) if op._forward else None  # pyright: ignore[reportPrivateUsage]
    enclosed = inspect.getclosurevars(backward).nonlocals if inspect.isfunction(backward) else {}
    if callable(slope := enclosed.get("slope")):
        value = inspect.getclosurevars(forward).nonlocals.get("value") if inspect.isfunction(forward) else None
        return (
            found
            | {"f′, which the backward pass multiplies by": source(slope)}
            | ({"f, as it is computed": source(value)} if callable(value) else {})
        )
    if backward:
        found["Backward pass"] = source(backward)
    if forward:
        found["Forward pass"] = source(forward)
    return {name: text for name, text in found.items() if text}


def source(function: Callable[..., Any]) -> str:
    """The source of a function without its docstring and decorators; empty where there is none."""
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
        node = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError):
        return ""
    lines = text.splitlines()
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return text.strip()
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        end = first.end_lineno or first.lineno
        del lines[first.lineno - 1 : end]
        while len(lines) >= first.lineno and not lines[first.lineno - 1].strip():
            del lines[first.lineno - 1]
    return "\n".join(lines[node.lineno - 1 :]).rstrip()
