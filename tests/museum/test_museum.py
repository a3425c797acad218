"""What compare says of gradients that shipped wrong, and of the same mended."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import dlfn
from dlfn.check.probes import vary
from dlfn.check.shapes import reshaped
from museum import EXHIBITS
from museum.exhibit import ORDINARY

PAGE = Path(__file__).parents[2] / "docs" / "museum.md"

pytestmark = pytest.mark.usefixtures("quick_compilation")

# A right rule is tried with every probe, which takes seconds: two in every run, all exhaustively.
ALWAYS = {"Liger: total variation of equal distributions", "jax: sinc near 0"}


def some(names):
    return pytest.mark.parametrize(
        "exhibit",
        [
            pytest.param(exhibit, id=exhibit.name, marks=() if exhibit.name in names else pytest.mark.exhaustive)
            for exhibit in EXHIBITS
        ],
    )


@pytest.mark.usefixtures("unaudited")  # which is tried below
@some({exhibit.name for exhibit in EXHIBITS[::2]})
def test_wrong_gradients_are_found(exhibit):
    result = dlfn.compare(exhibit.wrong, probe=True, coordinates=0, **exhibit.options)(*exhibit.args)
    assert not result, result
    if exhibit.found == ORDINARY:
        assert result.failure is None
        assert exhibit.argument in [row.path for row in result.rows if not row.ok]
    else:
        assert all(row.ok for row in result.rows)
        assert result.failure.probe.startswith(f"{exhibit.found} in ")
        assert f"wrong at a probe, {exhibit.found}" in str(result)


@some(ALWAYS)
def test_right_gradients_pass(exhibit):
    result = dlfn.compare(exhibit.right, probe=True, coordinates=0, **exhibit.options)(*exhibit.args)
    assert result, result


def place(function):
    code = function.__code__
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def at_probe(exhibit):
    """The arguments of the first probe that the exhibit is found by."""
    if exhibit.found == ORDINARY:
        return exhibit.args
    floats = [np.float64(x) if x.dtype.kind == "f" else x for x in exhibit.args]
    probes = itertools.chain(vary(floats), reshaped(exhibit.definition, floats))
    return next(probe.values for probe in probes if probe.name == exhibit.found)


@some({exhibit.name for exhibit in EXHIBITS[::8]})
def test_audit_names_the_wrong_rule(exhibit):
    audit = dlfn.audit(exhibit.wrong, dtype=exhibit.options.get("dtype", "float64"))(*at_probe(exhibit))
    assert not audit, audit
    (call,) = [call for call in audit.calls if not call.ok]
    assert call.rule.name == exhibit.definition.__name__
    assert call.rule.defined_at.endswith(f"/{place(exhibit.definition)}")
    assert call.rule.derived_at.endswith(f"/{place(exhibit.backward)}")


def test_the_page_has_every_exhibit_and_what_found_it():
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    assert [row[:2] for row in rows] == [[f"| [{e.name}]({e.report})", e.what] for e in EXHIBITS]
    for exhibit, (_, _, by_compare, *others) in zip(EXHIBITS, rows, strict=True):
        assert by_compare.startswith(f"**found**: {exhibit.found}")
        assert len(others) == 3
