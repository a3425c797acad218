"""The atlas: pages made of the catalogue, the derivations, the registry and the code."""

import json
import re

import numpy as np
import pytest

from dlfn import catalogue, nn, ops
from dlfn.catalogue.atlas import code, pages, plot, uses
from dlfn.catalogue.derivations import Checked, derivation, derivations
from dlfn.core import Op

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def unchecked():
    """Results by row, without the checks that test_derivations.py runs."""
    return {id: [Checked(step, None, None) for step in told.steps] for id, told in derivations().items()}


@pytest.mark.parametrize("row", catalogue.ROWS, ids=lambda row: row.id)
def test_every_row_has_a_page(row, unchecked, monkeypatch):
    """With the row's formula, every step, the code of its ops, and its erratum; mathematics and code are closed."""
    monkeypatch.setattr(plot, "figures", lambda name: [])
    text = pages.page(row, unchecked[row.id])
    assert row.latex in text
    assert text.count("✓") == len(derivation(row.id).steps)
    assert text.count("$$") % 2 == 0
    assert text.count("```") % 2 == 0
    assert text.count("<div") == text.count("</div>")
    assert not row.erratum or row.erratum in text
    for name in catalogue.implemented_by(row):
        assert f"### `{name}`" in text
        if isinstance(catalogue.resolve(name), Op):
            assert "**Definition**" in text
            assert re.search(r"\*\*(Backward pass|f′, which)", text)


def test_a_step_that_fails_is_shown(unchecked):
    row = catalogue.find("calculus.product")
    wrong = [*unchecked[row.id][1:], Checked(derivation(row.id).steps[0], "1 and 2 differ", None)]
    assert "✗ *Fails*: 1 and 2 differ" in pages.page(row, wrong)


def test_the_index_counts_and_links(unchecked, monkeypatch, tmp_path):
    few = catalogue.ROWS[:2]
    monkeypatch.setattr(catalogue, "ROWS", few)
    monkeypatch.setattr(pages, "check", lambda told: unchecked[told.id])
    pages.write(tmp_path / "atlas")
    index = (tmp_path / "atlas" / "index.md").read_text("utf-8")
    assert "**2 of 2 derivations hold" in index
    for row in few:
        assert f"]({row.id}.md)" in index
        assert (tmp_path / "atlas" / f"{row.id}.md").exists()


def test_code_is_without_docstrings():
    found = code.parts(ops.layer_norm)
    assert list(found) == ["Definition", "Backward pass", "Forward pass"]
    assert found["Definition"].startswith("def layer_norm(")
    assert '"""' not in found["Definition"]
    assert "def _layer_norm_backward(" in found["Backward pass"]
    assert "def sigmoid_slope(" in code.parts(ops.sigmoid)["f′, which the backward pass multiplies by"]


def test_docstrings_cannot_become_markup():
    def f():
        r"""A <script>, :math:`a < b`, ``x < y`` and $5.

        .. math::
            a

            b

        Args:
            x: left out.
        """

    text = code.described(f)
    assert text.startswith(r"A &lt;script>, $a < b$, `x < y` and \$5.")
    assert "$$\na\nb\n$$" in text
    assert "left out" not in text


def test_uses():
    assert "dlfn.nn.LSTMCell" in uses.users("dlfn.ops.lstm_step")
    assert "dlfn.nn.Activation" in uses.users("dlfn.ops.gelu")
    assert uses.configurations({"dlfn.nn.MaxPool"}) == ["fashion_cnn"]
    assert set(uses.users("dlfn.ops.layer_norm")) <= {f"dlfn.nn.{name}" for name in nn.__all__}


def test_plots_have_the_largest_errors(monkeypatch):
    """Here of a few numbers, in place of a dense sample."""
    monkeypatch.setattr(plot.ulp, "inputs", lambda *_: iter([np.linspace(-20, 20, 3001, dtype=np.float32)]))
    [figure] = plot.figures("dlfn.ops.sigmoid")
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure)[1])
    ours, theirs = ([error for error in data["errors"][name] if error is not None] for name in ("dlfn", "autodiff"))
    assert len(data["errors"]["dlfn"]) == 512
    assert 0 < max(ours) <= 4 < max(theirs)
    assert len(data["curves"]["x"]) == len(data["curves"]["f"]) == len(data["curves"]["f′"])
    assert "\n\n" not in figure, "a blank line ends a block of HTML"
    assert not re.search(r"https?://(?!www\.w3\.org)", figure), "a page makes no request"
    assert plot.figures("dlfn.ops.softmax") == plot.figures("dlfn.nn.Linear") == []
