"""The derivations: one for each row, tied to the row's objects; every step holds, and a wrong one does not."""

import ast
import re

import pytest

from dlfn import catalogue
from dlfn.catalogue.derivations import Step, check, derivation, derivations, latex
from dlfn.catalogue.derivations.notation import Derivation, parse
from dlfn.catalogue.derivations.numbers import PUBLIC, agree, evaluate
from dlfn.cli import main

pytestmark = pytest.mark.usefixtures("quick_compilation")

IDS = [row.id for row in catalogue.ROWS]
FEW = ["calculus.product", "linear.sigmoid", "optim.adam", "information.mutual"]
EXAMPLES = [pytest.param(id, marks=[] if id in FEW else pytest.mark.exhaustive) for id in IDS]


def named(side: ast.expr) -> set[str]:
    """Dotted names of the library's objects in a side."""
    names = set()
    for node in ast.walk(side):
        if isinstance(node, ast.Attribute) and (name := ast.unparse(node)).partition(".")[0] in PUBLIC:
            names.add(f"dlfn.{name.removeprefix('dlfn.')}")
    return names


def test_every_row_has_a_derivation():
    assert sorted(derivations()) == sorted(IDS)


@pytest.mark.parametrize("id", IDS)
def test_derivations_are_told(id):
    """In steps with reasons, of which some are about the public objects of the row."""
    row = derivation(id)
    assert 4 <= len(row.steps) <= 12
    for step in row.steps:
        assert step.why, step
        assert len(step.sides) > 1, step
        text = latex(step, row)
        assert text.count("{") == text.count("}")
    for part in (*row.givens, *row.lets):
        assert latex(part, row)
    sides = [side for step in row.steps for side in step.sides] + [let.body for let in row.lets]
    words = {node.id for side in sides for node in ast.walk(side) if isinstance(node, ast.Name)}
    objects = {*catalogue.implemented_by(catalogue.find(id))}
    assert set().union(*map(named, sides)) & objects or words & INDIRECT.get(id, set())


# What a word of the derivation calls for the row.
INDIRECT = {
    "network.parameter_count": {"parameters"},
    "transformer.block": {"transformer_block"},
    "optim.schedules_clipping": {"clipped"},
    "probability.bayes_by_backprop": {"bayesian"},
}


@pytest.mark.parametrize("id", EXAMPLES)
def test_every_step_holds(id):
    for result in check(derivation(id), symbolically=False):
        assert result.problem is None, f"{result.step}: {result.problem}"


@pytest.mark.parametrize("id", EXAMPLES)
def test_a_planted_wrong_step_fails(id):
    """With the wrong sign, a factor, or a term more, of any side, at one point."""
    row = derivation(id)
    for step in row.steps:
        right = evaluate(step, row, 0)
        assert agree(right, step.relation, step.tolerance) is None
        if step.relation != "=":
            assert agree(right[::-1], step.relation, step.tolerance), step
            continue
        for i, side in enumerate(right):
            wrongs = [side + 0.01] + ([-side, 1.01 * side] if abs(side).max() > 0.01 else [])
            for wrong in wrongs:
                assert agree([*right[:i], wrong, *right[i + 1 :]], step.relation, step.tolerance), step


def test_a_wrong_sign_in_the_text_is_found():
    text = "== linear.sigmoid\nz: real\nσ(z) := 1 / (1 + exp(-z))\n\n- D(σ(z), z) = σ(z) * (1 + σ(z))\n  Wrong.\n"
    [wrong] = parse(text)
    [result] = check(wrong)
    assert result.problem
    assert not result.proven
    [right] = parse(text.replace("1 + σ", "1 - σ"))
    [result] = check(right)
    assert result.problem is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("D(x**3, x) = 3 * x**2", True),
        ("D(x**3, x) = 3 * x**2 + 1 / 10**12", False),
        ("D(sum(v**2), v) = 2 * v", True),
        ("max(x, 0) = (x + abs(x)) / 2", False),  # true, but SymPy is not asked about maxima
    ],
)
def test_proofs(text, holds):
    symbols = pytest.importorskip("dlfn.catalogue.derivations.symbols")
    [row] = parse(f"== any\nx: real\nv: real(3)\n\n- {text}\n  So.\n")
    assert symbols.proven(row.steps[0], row) is holds


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a / (1 + x)**2", r"\frac{a}{(1 + x)^{2}}"),
        ("-(a - x)", "-(a - x)"),
        ("v * v + x * v", r"v \odot v + x\, v"),
        ("D(tanh(x), x)", r"\frac{d}{d x} \tanh(x)"),
        ("Σ(v[i] * a, i, 3)", r"\sum_{i} v_{i}\, a"),
        ("dx * x_hat", r"\bar{x}\, \hat{x}"),
        ("ops.l2_penalty(x)", r"\texttt{ops.l2\_penalty}(x)"),
    ],
)
def test_latex(text, written):
    [row] = parse(f"== any\nx, a: real\nv: real(3)\n\n- {text} = 0\n  So.\n")
    assert latex(row.steps[0], row) == f"{written} = 0"


def test_command(capsys, monkeypatch):
    assert main(["formulas", "linear.sigmoid", "--derivations"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"1 of 1 derivations, 6 of 6 steps checked, (\d of them symbolically|none symbolically)", output)
    row = derivation("linear.sigmoid")
    wrong = Step((*row.steps[2].sides[::-1], ast.parse("2 * σ(z)", mode="eval").body), "=", "Wrong.")
    planted = Derivation(row.id, row.givens, row.lets, (*row.steps, wrong))
    monkeypatch.setitem(derivations(), row.id, planted)
    assert main(["formulas", "linear.sigmoid", "--derivations"]) == 1
    assert "0 of 1 derivations, 6 of 7 steps" in capsys.readouterr().out
