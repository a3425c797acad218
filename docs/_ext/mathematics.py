"""Mathematics as the LaTeX it is, which Temml makes MathML of in the browser: no network, no fonts, no images."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

VENDOR = Path(__file__).resolve().parents[2] / "dlfn" / "explain" / "page" / "vendor"
RENDER = """
document.addEventListener("DOMContentLoaded", () => {
  for (const e of document.querySelectorAll(".math"))
    temml.render(e.textContent, e, { displayMode: e.dataset.display === "true" });
});
"""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("temml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "temml"
    app.config.html_static_path += [str(VENDOR / name) for name in ("temml.min.js", "temml.css", "temml.woff2")]
    app.add_js_file("temml.min.js")
    app.add_js_file(None, body=RENDER)
    app.add_css_file("temml.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math", **{"data-display": "false"}))
    self.body.append(f"{self.encode(node.astext())}</span>")
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    latex = node.astext().strip()
    # What Sphinx would put around lines: they are aligned at & and broken at \\\\.
    if not latex.startswith(r"\begin{") and ("&" in latex or r"\\" in latex):
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    self.body.append(self.starttag(node, "div", "", CLASS="math", **{"data-display": "true"}))
    self.body.append(f"{self.encode(latex)}</div>")
    raise nodes.SkipNode
