"""Writes the pages that are made of code and of stored results, before Sphinx reads; none is in the repository."""

from pathlib import Path

import accuracy
import reference
from sphinx.application import Sphinx

import benchmarks

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
INCLUDED = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("reference")
    app.connect("config-inited", lambda app, config: write())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write() -> None:
    for name, text in reference.pages():
        put(f"reference/{name}.rst", text)
    put("accuracy.md", accuracy.page())
    put("benchmarks.md", benchmarks.page())
    for page, file in INCLUDED.items():
        # As if they stood in docs/.
        text = (
            (ROOT / file)
            .read_text(encoding="utf-8")
            .replace("](docs/", "](")
            .replace("](CHANGELOG.md)", "](changelog.md)")
        )
        put(f"{page}.md", text)


def put(name: str, text: str) -> None:
    """A page that has not changed keeps its date, by which Sphinx knows that it need not be read."""
    path = DOCS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
