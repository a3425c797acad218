"""The page of an explanation: a network as a graph, with every number of its forward and backward pass."""

import base64
import json
from importlib.resources import files
from typing import Any

from dlfn.explain.page.packing import packed
from dlfn.markup import Markup, document, element

__all__ = ["render"]

_SCRIPTS = ("data", "fold", "placing", "layout", "arrays", "charts", "depth", "details", "play", "main")
_STYLES = ("page", "graph", "numbers")


def render(data: dict[str, Any]) -> str:
    """One HTML file that needs no other file and no network.

    It shows the network as a graph, the norm of δ from the loss back to the inputs, and of each step its equation and
    backward rule, its value and δ, the terms whose sum that δ is, and the gradients of its parameters. Names, comments
    and lines of source code are shown as text, whatever is in them.

    Args:
        data: what ``Explanation.to_json`` gives.

    >>> from dlfn.explain.page import render
    >>> agreement = {"backprop": None, "autodiff": None, "ok": True, "notes": []}
    >>> about = {"title": "none", "source": "none", "dlfn": "0", "jax": "0", "date": "", "value": 1.0}
    >>> page = render(about | {"agreement": agreement, "groups": [], "loops": [], "steps": []})
    >>> page.startswith("<!doctype html>")
    True
    """
    here = files("dlfn.explain.page")

    def read(*path: str) -> str:
        return here.joinpath(*path).read_text("utf-8")

    font = base64.b64encode(here.joinpath("vendor", "temml.woff2").read_bytes()).decode()
    mathematics = read("vendor", "temml.css").replace("url('Temml.woff2')", f"url('data:font/woff2;base64,{font}')")
    style = mathematics + "".join(read("style", f"{name}.css") for name in _STYLES)
    own = "\n".join(read("script", f"{name}.js") for name in _SCRIPTS)
    scripts = [read("vendor", "dagre.min.js"), read("vendor", "temml.min.js"), f'"use strict";\n(() => {{\n{own}}})();']
    # In a script's element nothing but "<" can end it; JSON has another way to write that.
    text = Markup(json.dumps(packed(data), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
    body = Markup(
        element("script", text, type="application/json", id="data")
        + element("noscript", "The graph of this page is drawn by its script, which the browser does not run.")
        + element("main", element("h1", data["title"]), id="page")
    )
    return document(data["title"], body, style=style, scripts=scripts)
