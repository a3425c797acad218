"""Pages of the atlas."""

from pathlib import Path

from dlfn import catalogue
from dlfn.catalogue.atlas import plot, uses
from dlfn.catalogue.atlas.code import described, parts, source
from dlfn.catalogue.derivations import Checked, Derivation, check, derivation, has_sympy, latex
from dlfn.catalogue.row import Row
from dlfn.core import Op
from dlfn.files import write_text

__all__ = ["page", "write"]

_FAMILIES = {
    "calculus": "Calculus",
    "linalg": "Linear algebra",
    "linear": "Linear models",
    "network": "Networks and backpropagation",
    "activation": "Activations",
    "norm": "Normalisation",
    "dropout": "Dropout",
    "conv": "Convolution",
    "pool": "Pooling",
    "rnn": "Recurrence",
    "attention": "Attention",
    "transformer": "Transformers",
    "loss": "Losses",
    "regularisation": "Regularisation",
    "init": "Initialisation",
    "optim": "Optimisation",
    "probability": "Probability",
    "statistics": "Statistics",
    "data": "Data",
    "numeric": "Safe elementary functions",
    "information": "Information theory",
}
# Longer sources are named, and not shown.
_LINES = 60


def write(folder: Path) -> None:
    """Writes ``index.md`` and a page for each row, ``ROW.md``. Takes some minutes, as every step is checked."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {row.id: list(check(derivation(row.id))) for row in catalogue.ROWS}
    for row in catalogue.ROWS:
        write_text(folder / f"{row.id}.md", page(row, results[row.id]))
    write_text(folder / "index.md", _index(results))


def _index(results: dict[str, list[Checked]]) -> str:
    steps = [step for each in results.values() for step in each]
    derived = sum(not any(step.problem for step in each) for each in results.values())
    lines = [
        "# Atlas of formulas",
        "",
        "Every formula of the documents, derived from its definition to its backward pass in steps that are checked: "
        "both sides are evaluated at random points in float64, and SymPy proves them where it can.",
        "",
        f"**{derived} of {len(results)} derivations hold, with "
        f"{sum(not step.problem for step in steps)} of {len(steps)} steps{_symbolically(steps)}.** `dlfn formulas --derivations` runs them.",
        "",
    ]
    families: dict[str, list[Row]] = {}
    for row in catalogue.ROWS:
        families.setdefault(row.id.partition(".")[0], []).append(row)
    for family, rows in families.items():
        lines += [f"## {_FAMILIES[family]}", ""]
        for row in rows:
            lines += [f"[`{row.id}`]({row.id}.md) ({len(results[row.id])} steps)", "", "$$", row.latex, "$$", ""]
    lines += ["```{toctree}", ":hidden:", "", *(row.id for row in catalogue.ROWS), "```", ""]
    return "\n".join(lines)


def _symbolically(steps: list[Checked]) -> str:
    if not has_sympy():
        return "; SymPy is not installed, so none of them symbolically"
    return f", {sum(bool(step.proven) for step in steps)} of them symbolically, too"


def page(row: Row, results: list[Checked] | None = None) -> str:
    """The page of a row, in Markdown. ``results`` are those of its derivation's check, if it was run already."""
    results = list(check(derivation(row.id))) if results is None else results
    names = catalogue.implemented_by(row)
    sections = [
        f"# `{row.id}`",
        f"$$\n{row.latex}\n$$",
        f"*Documents: {row.where}.*" + "".join(f"\n\n{paper}." for paper in row.papers),
        *_derived(derivation(row.id), results),
        *([f"## Erratum\n\n{row.erratum}\n\nThe steps above have the figures that decide."] if row.erratum else []),
        "## In code",
        *(_code(name) for name in names),
        *_plots(names),
        *_used(names),
    ]
    return "\n\n".join(sections) + "\n"


def _derived(told: Derivation, results: list[Checked]) -> list[str]:
    sections = ["## Derivation"]
    if told.givens:
        given = ", \\quad ".join(latex(each, told) for each in told.givens)
        sections.append(f"Given, and drawn at random for the check:\n\n$$\n{given}\n$$")
    if told.lets:
        rows = " \\\\\n".join(latex(each, told).replace(" = ", " &= ", 1) for each in told.lets)
        sections.append(f"Let\n\n$$\n\\begin{{aligned}}\n{rows}\n\\end{{aligned}}\n$$")
    for number, result in enumerate(results, 1):
        step = result.step
        sections.append(f"**{number}.** {step.why}\n\n$$\n{_broken(latex(step, told))}\n$$\n\n{_mark(result)}")
    return sections


def _broken(text: str) -> str:
    """Long chains with one side a line."""
    sides = text.split(" = ")
    if len(text) < 110 or len(sides) < 2 or text.count(r"\begin") or r"\text" in text:
        return text
    return "\\begin{aligned}\n" + sides[0] + " &= " + " \\\\\n&= ".join(sides[1:]) + "\n\\end{aligned}"


def _mark(result: Checked) -> str:
    if result.problem:
        return f"✗ *Fails*: {result.problem}"
    within = f"to {result.step.tolerance:.0e}".replace("e-0", "e−").replace("e-", "e−")
    proof = ", and proven by SymPy" if result.proven else ""
    return f"✓ *holds at random points {within}{proof}*"


def _code(name: str) -> str:
    item = catalogue.resolve(name)
    heading = f"### `{name}`\n\n{described(item)}"
    if isinstance(item, Op):
        columns = [f"**{title}**\n\n```python\n{text}\n```" for title, text in parts(item).items()]
        return f"{heading}\n\n" + _columns(columns)
    text = source(item) if callable(item) else ""
    if text and len(text.splitlines()) <= _LINES:
        return f"{heading}\n\n```python\n{text}\n```"
    return heading


def _columns(blocks: list[str]) -> str:
    """Side by side where there is room; in plain Markdown one after the other."""
    inside = "\n\n".join(f'<div class="atlas-column">\n\n{block}\n\n</div>' for block in blocks)
    return f'<div class="atlas-columns">\n\n{inside}\n\n</div>'


def _plots(names: list[str]) -> list[str]:
    figures = [figure for name in names for figure in plot.figures(name)]
    if not figures:
        return []
    return ["## Values and errors", plot.EXPLANATION, *figures]


def _used(names: list[str]) -> list[str]:
    rows = [(name, uses.users(name)) for name in names]
    lines = [f"- `{name}` by {', '.join(f'`{user}`' for user in users)}" for name, users in rows if users]
    configs = uses.configurations({*names, *(user for _, users in rows for user in users)})
    if configs:
        lines.append(f"- in the models of the packaged configurations {', '.join(f'`{name}`' for name in configs)}")
    return ["## Used\n\n" + "\n".join(lines)] if lines else []
