"""The equation and the backward rule of a function with a rule of its own, as its docstring has them."""

import ast
import functools
import inspect
import linecache
import re
from typing import NamedTuple

__all__ = ["Formulas", "formulas", "formulas_at"]

_BLOCK = re.compile(r"^\.\. math::[ ]*(.*(?:\n(?:[ ]+.*|(?=\n))?)*)", re.MULTILINE)
_INLINE = re.compile(r":math:`([^`]+)`")
_SECTION = re.compile(r"^(Args|Returns|Raises|References|Examples?|Attributes):|^>>>", re.MULTILINE)
# What begins a statement of derivatives.
_DERIVATIVE = re.compile(r"\b([Dd]erivatives?|gradients?|cotangents?|slopes?)\b")
_BACKWARD = re.compile(r"\\partial|\\bar|\\delta|'\(")


class Formulas(NamedTuple):
    """Either is None where the docstring has none."""

    equation: str | None
    rule: str | None


def formulas(docstring: str | None) -> Formulas:
    r"""The equation is the first formula of the docstring, or the first displayed one that has no cotangents; the rule
    are the displayed formulas with cotangents, or the sentence on the derivative.

    >>> print(*formulas("Square, :math:`x^2`.\n\nDerivative: :math:`2 x`. More."), sep="; ")
    x^2; \text{Derivative: }2 x
    """
    text = inspect.cleandoc(docstring or "")
    if found := _SECTION.search(text):
        text = text[: found.start()]
    first, *others = re.split(r"\n\s*\n", _BLOCK.sub("", text))
    blocks = [" ".join(block.split()).rstrip(".,") for block in _BLOCK.findall(text)]
    backward = [block for block in blocks if _BACKWARD.search(block)]
    values = blocks[: blocks.index(backward[0])] if backward else blocks
    inline = [" ".join(formula.split()) for formula in _INLINE.findall(first)]
    whole = [formula for formula in inline if "=" in formula] or [f for f in inline if len(f) > 2]
    later = [p for p in others if any("=" in formula for formula in _INLINE.findall(p))]
    several = len([formula for formula in inline if len(formula) > 2]) > 1
    in_words = several or (inline and re.search(r"\belse\b", first))
    if in_words:
        equation = _sentence(first)
    elif whole or values:
        equation = _displayed((whole or values)[0])
    else:
        equation = _sentence(_sentences(later[0])[0]) if later else None
    if backward:
        return Formulas(equation or backward[0], r", \qquad ".join(map(_displayed, backward)))
    said = next(
        (s for p in [*others, first] for s in _sentences(p) if _DERIVATIVE.search(s) and _INLINE.search(s)), None
    )
    said = said or next((s for p in others for s in _sentences(p) if _DERIVATIVE.search(s)), None)
    return Formulas(equation, None if said is None else _sentence(said))


def _displayed(block: str) -> str:
    """A formula of several lines as one that can stand anywhere."""
    lines = r"\\" in re.sub(r"\\begin\{(\w+)\}.*?\\end\{\1\}", "", block)
    return rf"\begin{{aligned}} {block} \end{{aligned}}" if lines else block


def _sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.])\s+", " ".join(paragraph.split()))


def _sentence(said: str) -> str:
    """Words and formulas as one formula."""
    parts = re.split(r":math:`([^`]+)`", " ".join(said.split()).rstrip("."))
    text = [rf"\text{{{_plain(part)}}}" if i % 2 == 0 and part else part for i, part in enumerate(parts)]
    return "".join(text)


def _plain(words: str) -> str:
    words = re.sub(r":\w+:`~?([^`]+)`", r"\1", words).replace("``", "")
    return re.sub(r"([{}$%&#_])", r"\\\1", re.sub(r"[\\^~]", "", words))


@functools.lru_cache(maxsize=512)
def formulas_at(place: str, name: str) -> Formulas:
    """Of the function of that name that is written at ``file:line``."""
    path, _, line = place.rpartition(":")
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:  # a cell of a notebook with magics
        return Formulas(None, None)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            begins = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if begins <= int(line) <= node.lineno:
                return formulas(ast.get_docstring(node))
    return Formulas(None, None)
