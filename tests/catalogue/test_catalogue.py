"""The catalogue: complete, and every oracle of it. The gradients of its ops are swept in test_sweeps.py; ``dlfn
formulas --check`` runs both."""

import hashlib
import json
import re
import runpy
from pathlib import Path

import jax
import pytest

from dlfn import catalogue
from dlfn.catalogue.coverage import LAYERS
from dlfn.catalogue.oracles import ORACLES
from dlfn.catalogue.papers import PAPERS
from dlfn.cli import main
from dlfn.linear_models import Regression
from dlfn.registry.all import entries

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).resolve().parents[2]
IDS = [row.id for row in catalogue.ROWS]


def test_ids_are_those_of_the_formulas():
    assert len(IDS) == len(set(IDS)) == 76
    assert hashlib.sha256("\n".join(sorted(IDS)).encode()).hexdigest()[:16] == "52a07f735cda886f"


@pytest.mark.parametrize("row", catalogue.ROWS, ids=IDS)
def test_every_row_is_implemented_and_checked(row):
    names = catalogue.implemented_by(row)
    assert names
    for name in names:
        implementation = catalogue.resolve(name)
        assert callable(implementation) or isinstance(implementation, Regression), name
        assert implementation.__doc__
    assert list(catalogue.checks(row))
    assert row.where
    assert row.latex.count("{") == row.latex.count("}")


@pytest.mark.parametrize("row", catalogue.ROWS, ids=IDS)
def test_everything_that_implements_a_row_is_checked(row):
    """Values by an oracle, of the row or of its ops, and every object by a check of its own or the row's oracle."""
    registered = {f"dlfn.ops.{entry.op.name}": entry for entry in entries()}
    names = catalogue.implemented_by(row)
    assert row.id in ORACLES or any(
        case.oracle for name in names if name in registered for case in registered[name].cases
    )
    assert not [name for name in names if not (name in registered or name in LAYERS or row.id in ORACLES)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_the_rows(name):
    """``dlfn formulas --check`` runs these too; tests/nn/test_networks.py compares all layers in networks."""
    row = catalogue.Row("any", "002", "x", (name,))
    assert [check.run() for check in catalogue.checks(row)] == [None]


def test_papers_belong_to_rows_and_read_alike():
    assert set(PAPERS) <= set(IDS)
    for paper in (paper for papers in PAPERS.values() for paper in papers):
        assert re.fullmatch(r"([^:*]+: )?[^*]+ (1[789]|20)\d\d, \*.+\*.*", paper), paper


def test_the_page_of_sources_is_what_its_script_writes():
    script = runpy.run_path(str(ROOT / "scripts" / "write_sources.py"))
    text = script["page"]()
    assert (ROOT / "docs" / "sources.md").read_text(encoding="utf-8") == text, "run: python scripts/write_sources.py"
    assert {int(n) for n in re.findall(r"^\| (\d+) \| `", text, re.MULTILINE)} == set(range(1, 34))
    assert text.count('<a id="') == 76


def test_every_op_implements_a_row():
    for entry in entries():
        assert entry.formulas, entry.op.name
        assert set(entry.formulas) <= set(IDS), entry.op.name


# The files of these rooms compare what implements such a row with the same functions, and at harder points.
COMPARED_ELSEWHERE = {"statistics.tests", "data.augmentation", "linalg.pca", "probability.bayes",
                      "probability.distributions"}  # fmt: skip


@pytest.mark.parametrize(
    "id", [pytest.param(id, marks=[pytest.mark.exhaustive] * (id in COMPARED_ELSEWHERE)) for id in ORACLES]
)
def test_oracles(id, x64):
    ORACLES[id][1]()


def test_every_oracle_and_layer_belongs_to_a_row():
    assert set(ORACLES) <= set(IDS)
    assert set(LAYERS) <= {name for row in catalogue.ROWS for name in row.objects}


def test_the_command_checks_and_writes_json(tmp_path, capsys):
    path = tmp_path / "formulas.json"
    assert main(["formulas", "linear.sigmoid", "attention.multi_head", "--check", "--json", str(path)]) == 0
    assert "2 of 2 formulas checked and ok" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert report["ok"] is True
    assert [row["id"] for row in report["rows"]] == ["linear.sigmoid", "attention.multi_head"]
    for row in report["rows"]:
        assert set(row) == {"id", "where", "papers", "implemented_by", "checked_by", "erratum", "ok"}


def test_a_check_that_fails_is_reported(monkeypatch, tmp_path, capsys):
    def wrong():
        raise AssertionError("0.1 is not 0.2")

    monkeypatch.setitem(ORACLES, "network.parameter_count", ("the document", wrong))
    path = tmp_path / "formulas.json"
    assert main(["formulas", "network.parameter_count", "--check", "--json", str(path)]) == 1
    assert "PROBLEM values against the document: AssertionError: 0.1 is not 0.2" in capsys.readouterr().out
    assert json.loads(path.read_text())["ok"] is False


def test_an_object_that_is_gone_is_reported(monkeypatch, capsys):
    row = catalogue.Row("network.parameter_count", "001", "n", ("dlfn.nn.count_them",))
    monkeypatch.setattr("dlfn.catalogue.find", lambda id: row)
    assert main(["formulas", row.id]) == 1
    assert "PROBLEM dlfn.nn.count_them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("id", "hint"),
    [
        ("linear.softmaxx", "did you mean 'linear.softmax'?"),
        ("gelu", "did you mean 'activation.gelu'?"),
        ("nonsense", "`dlfn formulas` lists all"),
    ],
)
def test_an_unknown_id_names_the_nearest(id, hint, capsys):
    assert main(["formulas", id]) == 2
    assert capsys.readouterr().err == f"dlfn: error: unknown formula {id!r}; {hint}\n"


def test_an_id_that_is_given_twice_is_printed_once(capsys):
    assert main(["formulas", "linear.sigmoid", "linear.sigmoid"]) == 0
    assert "1 of 1 formulas ok" in capsys.readouterr().out


def test_layers_gradients_fail_where_a_backward_is_wrong(monkeypatch):
    from dlfn import nn
    from dlfn.catalogue import coverage

    class Wrong(nn.Linear):
        def apply(self, params, state, x, *, key=None, train=False):
            @jax.custom_vjp
            def double(x):
                return 2 * x

            double.defvjp(lambda x: (2 * x, None), lambda _, dy: (2.01 * dy,))
            y, state = super().apply(params, state, x)
            return double(y), state

    monkeypatch.setitem(coverage.LAYERS, "dlfn.nn.Residual", (Wrong(3), (4, 2)))
    row = catalogue.Row("transformer", "002", "x", ("dlfn.nn.Residual",))
    coverage._layer.cache_clear()
    (check,) = catalogue.checks(row)
    assert "AssertionError: 3 leaves disagree, such as" in (check.run() or "")
    coverage._layer.cache_clear()
