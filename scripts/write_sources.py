#!/usr/bin/env python
"""Writes docs/sources.md: every formula of the catalogue with the paper and the documents that it comes from, what
implements it and what a document has wrong, and the numbered traps of the registry."""

import argparse
import re
import sys
from pathlib import Path

# A checkout does without installing it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dlfn.catalogue import ROWS, implemented_by
from dlfn.registry.all import entries

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sources.md"

HEAD = """\
# Sources

Every formula that dlfn implements: the paper that it is credited to, where there is one, the document and section that
it was taken from, what implements it, and what the document has wrong. `dlfn formulas --check` runs the checks of
each. `python scripts/write_sources.py` writes this page from `dlfn/catalogue`, and a test holds it to that.

The documents are five sheets of deep-learning mathematics, which docstrings cite by number:

| number | document |
|---|---|
| 000 | Deep Learning Mathematics Cheat Sheet |
| 001 | DNN Math Derivations Guide |
| 002 | Mathematics of Deep Learning: Hidden Layers |
| 003 | Cheatsheet: Backpropagation & Neural Networks |
| 004 | Mathematical Foundations for Deep Learning |
| peers | not in the documents, but in PyTorch, `jax.nn` or optax |

Where a document is wrong, or two disagree, [errata.md](errata.md) shows the figure.
"""

TRAPS = """\
## Traps

Inputs for which autodiff of the textbook formula fails in JAX 0.10. The registry has each as a case of its op, with the
right value and gradients, and the tests hold the op to them. `python scripts/traps.py` prints what autodiff gives.

| number | op | input | dtype |
|---|---|---|---|
"""

# These take more than one call of an op, so that they are tests, not cases of the registry.
ELSEWHERE = {
    30: ("layer_norm", "rows of mean 3000: the relative error of dx", "float32"),
    33: ("rnn", "4096 steps: the relative error of the weights' gradient", "bfloat16"),
}


def _section(row):
    lines = [f'### <a id="{row.id}"></a>{row.id}', "", "```math", row.latex, "```", ""]
    lines += [f"- Paper: {paper}" for paper in row.papers]
    lines.append(f"- Document: {row.where}" if row.where != "peers" else "- Document: none (peers)")
    lines.append("- Implemented by: " + ", ".join(f"`{name}`" for name in implemented_by(row)))
    if row.erratum:
        lines.append(f"- Erratum: {row.erratum}")
    return "\n".join(lines) + "\n"


def _traps():
    numbered = {(number, op, words): dtype for number, (op, words, dtype) in ELSEWHERE.items()}
    for entry in entries():
        for trap in entry.traps:
            if found := re.fullmatch(r"(\d+): (.*)", trap.name):
                numbered[int(found[1]), entry.op.name, found[2]] = trap.dtype
    return "".join(f"| {n} | `{op}` | {words} | {dtype} |\n" for (n, op, words), dtype in sorted(numbered.items()))


def page():
    """The text of the page."""
    families = dict.fromkeys(row.id.partition(".")[0] for row in ROWS)
    parts = [HEAD]
    for family in families:
        parts.append(f"## {family}\n")
        parts += [_section(row) for row in ROWS if row.id.startswith(f"{family}.")]
    return "\n".join([*parts, TRAPS + _traps()])


def main(argv=None):
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
