"""HTML in which every text is escaped."""

from collections.abc import Iterable
from html import escape
from typing import Any

__all__ = ["Markup", "element", "table"]


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
