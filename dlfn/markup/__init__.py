"""HTML in which every text is escaped, and pages that need no other file and no network."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["Markup", "document", "element", "table"]


class Markup(str):
    """Text that is HTML already."""


def element(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element. Children and values of attributes are escaped, unless they are elements themselves; an attribute of
    None or False is left out, and underscores stand for hyphens, but for one at the end.

    >>> print(element("p", "1 < 2, ", element("b", "always"), class_="sum", hidden=True, title=None))
    <p class="sum" hidden="">1 &lt; 2, <b>always</b></p>
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    text = "".join(
        f' {key}="{"" if value is True else escape(str(value))}"'
        for key, value in given.items()
        if value is not None and value is not False
    )
    inner = "".join(child if isinstance(child, Markup) else escape(str(child)) for child in children)
    return Markup(f"<{name}{text}>{inner}</{name}>")


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]], **attributes: Any) -> Markup:
    """A table whose first column names its rows, and which scrolls by itself where it is wider than the page."""
    headings = (element("th", cell, scope="col") for cell in head)
    lines = []
    for first, *cells in rows:
        cells = (
            cell if str(cell).startswith("<td") and isinstance(cell, Markup) else element("td", cell) for cell in cells
        )
        lines.append(element("tr", element("th", first, scope="row"), *cells))
    inside = element("table", element("thead", element("tr", *headings)), element("tbody", *lines), **attributes)
    return element("div", inside, class_="scroll", tabindex=0)


def document(title: str, body: Markup, *, style: str, scripts: Sequence[str]) -> str:
    """A page with its style, in front of which stands that of the theme, and its scripts in it. Its policy lets the
    browser load nothing, and run nothing but those scripts.

    Args:
        title: the page's title, text.
        body: what is shown.
        style: CSS; an image or font in it is a ``data:`` address.
        scripts: JavaScript, which runs at the end of the page.
    """
    theme = files("dlfn.markup").joinpath("theme.css").read_text("utf-8")
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = f"default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"{element('title', title)}\n<style>\n{theme}{style}</style>\n</head>\n"
    )
    code = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"{head}<body>\n{body}\n{code}\n</body>\n</html>\n"
