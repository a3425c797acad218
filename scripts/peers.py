"""Compares the gradients of other libraries' functions, which know nothing of dlfn: the trial of `dlfn.compare`.

    pip install ".[peers]"
    python scripts/peers.py [MODULE ...] [--only TEXT] [--json FILE] [--write docs/peers.md] [--seconds 60]

The cases are expressions in the modules of `scripts/peer_cases`, one a line; each is a function of the arrays that it
names. What is known of a disagreement stands behind it: `# defect: ...` of the library, `# convention: ...` where
several derivatives are sensible, at a kink say. A disagreement that nothing is known of, and an error at a function
that `jax.grad` differentiates, are faults: the script lists them, and exits with 1.
"""

import argparse
import ast
import functools
import importlib
import itertools
import json
import os
import pkgutil
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import peer_cases

import dlfn

CLASSES = {
    "agree": "all gradients that there are agree",
    "convention": "several derivatives are sensible, at a kink say, and the library's is another than the definition's",
    "defect": "the library's derivative is wrong",
    "not differentiable": "`jax.grad` raises too",
    "slow": "no answer within the time",
    "broken": "the expression itself raises, with these versions of the libraries",
    "fault": "of dlfn's: to be mended",
}


class OutOfTime(BaseException):
    """No Exception, which compare would take for the missing of an opinion."""


@dataclass(frozen=True)
class Case:
    """An expression, the namespace that it is evaluated in, and what is known of a disagreement."""

    library: str
    expression: str
    names: dict[str, Any]
    known: str = ""

    def function(self) -> tuple[Any, list[Any]]:
        """The expression as a function of the floating-point arrays in it, and those."""
        nodes = list(ast.walk(ast.parse(self.expression)))
        bound = {node.arg for node in nodes if isinstance(node, ast.arg)}
        used = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name) and node.id not in bound)
        arrays = [name for name in used if isinstance(self.names.get(name), jax.Array)]
        arrays = [n for n in arrays if jnp.issubdtype(self.names[n].dtype, jnp.floating)]
        f = eval(f"lambda {', '.join(arrays)}: {self.expression}", dict(self.names))
        return f, [self.names[n] for n in arrays]


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    library: str
    function: str
    verdict: str
    reference: str = ""
    backprop: bool = True
    why: str = ""
    seconds: float = 0.0


def expanded(line: str) -> list[str]:
    """`f.{a,b}(x)` stands for `f.a(x)` and `f.b(x)`, as in a shell."""
    parts = re.split(r"\{([\w,.]+)\}", line)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def cases(only: str, modules: list[str]) -> Iterator[Case]:
    for module in sorted(pkgutil.iter_modules(peer_cases.__path__), key=lambda module: module.name):
        if modules and module.name not in modules:
            continue
        try:
            names = vars(peer_cases) | vars(importlib.import_module(f"peer_cases.{module.name}"))
        except ImportError as error:
            print(f"{module.name}: left out, {error}")
            continue
        library = ""
        for line in names["CASES"].strip().splitlines():
            if line.startswith("["):
                library = line.strip("[]")
            elif line.strip():
                expression, _, known = line.partition("  # ")
                for each in expanded(expression.strip()):
                    if only in f"{library} {each}":
                        yield Case(library, each, names, known.strip())


def error_of(f: Any, *args: Any) -> str:
    try:
        f(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def raises_in_jax(f: Any, args: list[Any]) -> bool:
    def loss(*args):
        leaves = jax.tree.leaves(f(*args))
        return sum(jnp.sum(y) for y in leaves if jnp.issubdtype(jnp.result_type(y), jnp.floating))

    return bool(error_of(jax.grad(loss, tuple(range(len(args)))), *args))


def verdict_of(case: Case) -> Outcome:
    outcome = functools.partial(Outcome, case.library, case.expression)
    f, args = case.function()
    try:
        result = dlfn.compare(f)(*args)
    except Exception as error:
        if broken := error_of(f, *args):
            return outcome("broken", why=broken)
        if raises_in_jax(f, args):
            return outcome("not differentiable", why=str(error))
        return outcome("fault", why=f"{type(error).__name__}: {error}")
    found = dict(reference=result.reference, backprop=all(row.backprop is not None for row in result.rows))
    if result.ok:
        return outcome("agree", **found, why="; ".join(result.notes))
    verdict, _, why = case.known.partition(": ")
    if verdict in CLASSES:
        return outcome(verdict, **found, why=why)
    worst = "; ".join(f"{row.path}: {row.worst}" for row in result.rows if not row.ok)
    return outcome("fault", **found, why="; ".join([worst, *result.notes]))


def timed(case: Case, limit: int) -> Outcome:
    def stop(*_):
        raise OutOfTime

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    start = time.perf_counter()
    try:
        outcome = verdict_of(case)
    except OutOfTime:
        outcome = Outcome(case.library, case.expression, "slow")
    finally:
        signal.alarm(0)
    return Outcome(**{**asdict(outcome), "seconds": round(time.perf_counter() - start, 1)})


def summary(outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.verdict for outcome in outcomes)
    without = sum(o.verdict == "agree" and not o.backprop for o in outcomes)
    parts = [f"{counts[verdict]} {verdict}" for verdict in CLASSES if counts[verdict]]
    return f"{len(outcomes)} functions: {', '.join(parts)}; {without} of those that agree without backprop"


def table(outcomes: list[Outcome]) -> str:
    lines = ["| library | function | verdict | reference | backprop | |", "|---|---|---|---|---|---|"]
    for o in outcomes:
        # Where a library is installed on the machine that wrote the page is of no interest.
        said = re.sub(r"\S*site-packages/", "", o.why.split("\n")[0]).replace("|", "\\|")
        why = "" if o.verdict == "agree" else said[:200]
        function = o.function.replace("|", "\\|")
        lines.append(
            f"| {o.library} | `{function}` | {o.verdict} | {o.reference} | {'yes' if o.backprop else 'no'} | {why} |"
        )
    return "\n".join(lines)


def write(path: Path, outcomes: list[Outcome], total: int) -> None:
    """Puts summary and table in the place of what follows the marker in a page."""
    marker = "<!-- generated by scripts/peers.py -->"
    prose = path.read_text(encoding="utf-8").partition(marker)[0]
    head = f"With jax {jax.__version__}, of {total} expressions so far {summary(outcomes)}."
    path.write_text(f"{prose}{marker}\n\n{head}\n\n{table(outcomes)}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", help="of scripts/peer_cases; all by default")
    parser.add_argument("--only", default="", help="cases whose library and expression contain this text")
    parser.add_argument("--json", type=Path, help="write the outcomes here, and keep what is there but faults")
    parser.add_argument("--write", type=Path, help="write summary and table into this page")
    parser.add_argument("--seconds", type=int, default=60, help="for each case at most")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    jax.config.update("jax_disable_most_optimizations", True)  # what takes time here is compilation
    outcomes, kept = [], {}
    if options.json and options.json.exists():
        saved = [Outcome(**fields) for fields in json.loads(options.json.read_text(encoding="utf-8"))]
        kept = {(o.library, o.function): o for o in saved if o.verdict not in ("fault", "broken", "slow")}
    chosen = list(cases(options.only, options.modules))
    for case in chosen:
        outcome = kept.get((case.library, case.expression)) or timed(case, options.seconds)
        outcomes.append(outcome)
        line = f"{outcome.verdict:18} {outcome.seconds:5.1f} s  {outcome.library} {outcome.function}"
        print(f"{line}  {outcome.why[:160]}", flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1), encoding="utf-8")
        if options.write:
            write(options.write, outcomes, len(chosen))
        if len(outcomes) % 50 == 0:
            jax.clear_caches()
    print(summary(outcomes))
    return int(any(outcome.verdict in ("fault", "broken") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
