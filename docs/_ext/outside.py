"""Links of pages to files of the repository: to pages of the site where there are such, and else their names alone."""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^)#\s]*)(#[^)]*)?\)")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    folder = (ROOT / "docs" / docname).parent

    def replaced(match: re.Match[str]) -> str:
        text, anchor = match[1], match[3] or ""
        target = (folder / match[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        path = str(target.relative_to(ROOT))
        if path in PAGES:
            return f"[{text}](/{PAGES[path]}{anchor})"
        if not target.exists():
            raise FileNotFoundError(f"{docname} links to {path}, which is not in the repository")
        return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"

    source[0] = LINK.sub(replaced, source[0])
