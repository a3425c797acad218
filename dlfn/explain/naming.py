"""Where a step is written, and what the user calls its value there."""

import ast
import functools
import linecache
import site
from pathlib import Path
from typing import NamedTuple

__all__ = ["Source", "source_of"]

# Whose variables are not the user's.
_LIBRARIES = (str(Path(__file__).parents[1]), *site.getsitepackages())


class Source(NamedTuple):
    """A line of the user's, its text, and the variable that it assigns; empty where there is none."""

    file: str
    line: int
    code: str
    variable: str

    def to_json(self) -> dict[str, object]:
        return {"file": self.file, "line": self.line, "code": self.code}


def source_of(frame: tuple[str, int, str] | None) -> Source | None:
    if frame is None:
        return None
    file, line, function = frame
    variable = "" if function.endswith("<lambda>") or file.startswith(_LIBRARIES) else _assigned(file).get(line, "")
    return Source(file, line, linecache.getline(file, line).strip(), variable)


@functools.lru_cache(maxsize=256)
def _assigned(file: str) -> dict[int, str]:
    """The variables that statements of one name assign, by the lines of the statements."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # a cell of a notebook with magics
        return {}
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.update(dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node.targets[0].id))
    return found
