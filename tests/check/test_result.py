"""A comparison as a table, as JSON and as an exception. These are made of rows, without a gradient."""

import dataclasses
import json
import math
import os

import pytest

import dlfn
from dlfn.check.result import Comparison, Row
from dlfn.check.table import format_table, shortened

LONG = "params['encoder']['layers'][{}]['attention']['query']['kernel']"


def row(path="x", excess=0.1, **changes):
    error = excess * 1e-10
    fields = dict(path=path, shape=(128, 256), norm=2.0, scale=2.0, hand=error, backprop=error, finite_difference=error)
    ok = excess <= 1
    given = dict(linearity=error, worst=f"hand rule [0, {excess:g}]: 2 instead of 3", ok=ok, excess=excess, bound=1e-10)
    return Row(**{**fields, **given, **changes})


def comparison(*rows, **changes):
    return dataclasses.replace(Comparison(rows, 0.0, 1e-10, 1e-10, "float64"), **changes)


def lines(result):
    return str(result).split("\n")


def test_failures_come_first_and_the_worst_of_them_at_the_top():
    result = comparison(row("a"), row("b", 20.0), row("c", 0.2), row("d", 3.0), row("e", math.inf, hand=None))
    assert [line.split()[0] for line in lines(result)[2:-1]] == ["e", "hand", "b", "hand", "d", "hand", "a", "c"]
    assert [line.split()[-1] for line in lines(result)[2:8:2]] == ["FAIL"] * 3
    assert lines(result)[3] == "  hand rule [0, inf]: 2 instead of 3"
    assert lines(result)[-1].startswith("NOT ALL GRADIENTS AGREE: float64")


def test_many_leaves_that_agree_are_folded_to_those_nearest_to_their_bounds():
    rows = [row(f"w{i}", 1 - abs(i - 50) / 100) for i in range(104)]
    shown = lines(comparison(*rows))
    assert [line.split()[0] for line in shown[2:-2]] == [f"w{i}" for i in range(46, 54)]
    assert shown[-2] == "… 96 more agree"
    assert "more" not in str(comparison(*rows[:8]))
    failing = lines(comparison(*[row(f"w{i}", 2.0) for i in range(30)]))
    assert failing[-2] == "… 10 more FAIL"
    assert len(failing) == 2 + 2 * 20 + 2


@pytest.mark.parametrize("columns", [100, 80, 60])
def test_no_line_of_a_table_is_wider_than_the_terminal(columns, monkeypatch):
    rows = [*(row(LONG.format(i), 0.5) for i in range(3)), row("bias", 9.0, worst="hand rule " + "9" * 200)]
    monkeypatch.setattr("sys.stdout.isatty", lambda: columns != 100, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    notes = ("a rule is not linear in its cotangent: twice the cotangent must give twice the gradient. " * 2,)
    shown = lines(comparison(*rows, notes=notes))
    assert max(map(len, shown if columns != 100 else shown[:-2])) <= columns
    assert ("shape" in shown[0]) == (columns == 100)
    assert "…" in shown[4]
    assert shown[2].startswith("bias")
    if columns != 60:
        assert shown[2].endswith("FAIL")
        assert shown[4].startswith("params['")
        assert "['kernel']  " in shown[4] or "ernel']  " in shown[4]


def test_what_is_no_terminal_gets_the_whole_of_every_note(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((40, 9)))
    note = "a step of the finite differences crossed a kink, " * 4
    assert note in str(comparison(row(), notes=(note,)))


def test_remarks():
    zero = row("b", norm=1e-17, scale=2.0)
    wrong = row("c", 5e7, ok=True, culprit="[2]", worst="hand rule [2]: 0 instead of nan")
    shown = lines(comparison(zero, wrong))
    assert shown[2].endswith("ok")
    assert shown[3] == "  0 but for rounding"
    assert shown[5] == "  the definition is wrong: hand rule [2]: 0 instead of nan"


def test_json_has_everything_and_only_finite_numbers():
    bad = row("y", math.inf, norm=math.nan, hand=None)
    found = json.loads(comparison(row(), bad, value_error=None, notes=("a note",)).to_json())
    assert set(found) == {"ok", "value_ok", *(field.name for field in dataclasses.fields(Comparison))}
    assert set(found["rows"][0]) == {field.name for field in dataclasses.fields(Row)}
    assert (found["ok"], found["value_ok"], found["value_error"], found["notes"]) == (False, False, None, ["a note"])
    assert found["rows"][0]["shape"] == [128, 256]
    assert [found["rows"][1][key] for key in ("norm", "hand", "excess")] == ["nan", None, "inf"]


def test_a_failed_comparison_raises_its_table():
    comparison(row()).raise_if_failed()
    failed = comparison(row(excess=2.0))
    with pytest.raises(dlfn.GradientError) as caught:
        failed.raise_if_failed()
    assert str(failed) in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_tables():
    assert format_table(["a", "bb"], [["1", "2"], ["333", ""]]) == "a    bb\n---  --\n1    2\n333"
    assert shortened("abcdefg", 7) == "abcdefg"
    assert shortened("abcdefgh", 5) == "ab…gh"
