"""What was found as text: tables that are no wider than they may be, and JSON."""

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

__all__ = ["as_json", "format_table", "shortened", "width", "wrapped"]

_ELSEWHERE = 100  # columns, where the output is no terminal


def width() -> int:
    """How many columns there are: the terminal's, or 100 where the output goes elsewhere (a file, a test)."""
    return shutil.get_terminal_size((_ELSEWHERE, 24)).columns if _is_terminal() else _ELSEWHERE


def wrapped(text: str) -> str:
    """Prose for the terminal, broken at words. Elsewhere it stays one line, which can be searched."""
    if not _is_terminal():
        return text
    return textwrap.fill(text, width(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def shortened(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters; what is left out is in the middle, as both ends of a path say most.

    >>> shortened("params['encoder']['layers'][3]['kernel']", 24)
    "params['enco…]['kernel']"
    """
    if len(text) <= limit:
        return text
    head = limit // 2
    return f"{text[:head]}…{text[len(text) - (limit - head - 1) :]}"


def format_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [header, ["-" * width for width in widths], *lines]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip


def as_json(found: Any) -> str:
    """As a JSON text. What JSON does not have, numbers that are not finite among it, is strings."""
    return json.dumps(_plain(found), indent=1, allow_nan=False)


def _plain(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(value) for value in found]
    known = found is None or isinstance(found, str | int) or (isinstance(found, float) and math.isfinite(found))
    return found if known else str(found)
