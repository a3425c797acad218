"""Pages of the atlas."""

import ast
import inspect
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from dlfn import catalogue
from dlfn.catalogue.atlas import plot, uses
from dlfn.catalogue.atlas.code import described, parts, source
from dlfn.catalogue.derivations import Checked, Derivation, Step, algorithms, check, derivation, has_sympy, latex, sides
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
_NOTATION = r"""A bar is a cotangent: where $y$ depends on $x$,
$\bar x = \frac{\partial}{\partial x}\langle \bar y, y\rangle$ is what the backward pass makes of $\bar y$.
$\langle a, b\rangle$ is the sum of the products of all entries, $\langle a\rangle$ a mean, $\odot$ a product by
elements, $\otimes$ an outer product; indices begin at 0. Names in `this type` are public objects: a derivative of one
is its hand-written backward pass."""
_COLUMNS = (
    ".atlas-columns { display: grid; gap: 0 1rem; "
    "grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)) } .atlas-column { min-width: 0 }"
)
# Longer sources are named, and not shown.
_LINES = 60


def write(folder: Path, *, workers: int = 1) -> None:
    """Writes ``index.md`` and a page for each row, ``ROW.md``. Takes some minutes, as every step is checked.

    Args:
        folder: is made where there is none.
        workers: processes that make pages at the same time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = [row.id for row in catalogue.ROWS]
    if workers > 1:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            made = list(pool.map(_made, ids))
    else:
        made = list(map(_made, ids))
    for id, (text, _) in zip(ids, made):
        write_text(folder / f"{id}.md", text)
    write_text(folder / "index.md", _index({id: results for id, (_, results) in zip(ids, made)}))


def _made(id: str) -> tuple[str, list[Checked]]:
    results = list(check(derivation(id)))
    return page(catalogue.find(id), results), results


def _index(results: dict[str, list[Checked]]) -> str:
    steps = [step for each in results.values() for step in each]
    derived = sum(not any(step.problem for step in each) for each in results.values())
    lines = [
        "# Atlas of formulas",
        "",
        "Every formula of the documents, derived from its definition to its backward pass in steps that are checked: "
        "both sides are evaluated at random points in float64, and SymPy proves them where it can.",
        "",
        _NOTATION,
        "",
        f"**{derived} of {len(results)} derivations hold, with {sum(not step.problem for step in steps)} of "
        f"{len(steps)} steps{_symbolically(steps)}.** `dlfn formulas --derivations` runs them.",
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
        *([f"## Erratum\n\n{row.erratum}"] if row.erratum else []),
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
    nodes = [node for part in _expressions(told) for node in ast.walk(part)]
    words = {node.id for node in nodes if isinstance(node, ast.Name)} & {*algorithms.__all__}
    if words:
        meanings = (f"- `{word}`: {inspect.getdoc(getattr(algorithms, word))}" for word in sorted(words))
        sections.append("where\n\n" + "\n".join(" ".join(meaning.split()) for meaning in meanings))
    for number, result in enumerate(results, 1):
        step = result.step
        sections.append(f"**{number}.** {step.why}\n\n$$\n{_equation(step, told)}\n$$\n\n{_mark(result)}")
    return sections


def _expressions(told: Derivation) -> list[ast.expr]:
    return [side for step in told.steps for side in step.sides] + [let.body for let in told.lets]


def _equation(step: Step, told: Derivation) -> str:
    """Long chains with one side a line."""
    first, *others = sides(step, told)
    sign = "=" if step.relation == "=" else r"\ge"
    if sum(map(len, others), len(first)) < 110:
        return f" {sign} ".join([first, *others])
    rest = "".join(rf" \\{chr(10)}&{sign} {side}" for side in others[1:])
    return f"\\begin{{aligned}}\n{first} &{sign} {others[0]}{rest}\n\\end{{aligned}}"


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
    return f'<style>{_COLUMNS}</style>\n<div class="atlas-columns">\n\n{inside}\n\n</div>'


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
