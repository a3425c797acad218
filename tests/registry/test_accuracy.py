"""The measurement of derivatives of the first and the second order, and the file that keeps it."""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from dlfn.registry import accuracy, ulp
from dlfn.registry.all import entries
from registry.test_ulp import CASES, functions, over_cases

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks" / "accuracy" / "cpu.json").read_text(encoding="utf-8"))["rows"]


def test_every_elementwise_op_is_in_the_stored_file():
    wanted = {
        (entry.op.name, case.name, dtype, order)
        for entry in entries()
        if entry.elementwise
        for case in entry.cases
        for dtype in accuracy.DTYPES
        for order in (1, 2)
    }
    stored = {(row["op"], row["case"], row["dtype"], row["order"]) for row in STORED.values()}
    assert stored == wanted, "run scripts/accuracy.py"
    assert all(row["done"] == row["chunks"] and {"dlfn", "jax.nn"} <= set(row["columns"]) for row in STORED.values())


def test_half_types_were_measured_at_every_number():
    finite = {"bfloat16": 65282, "float16": 63490}
    for row in STORED.values():
        if row["dtype"] in finite and row["order"] == 1:
            assert {figure["inputs"] for figure in row["columns"].values()} == {finite[row["dtype"]]}, row


@over_cases
def test_second_derivatives_against_mpmath(name):
    """At random points and at the worst ones of the file, closed forms equal the derivatives of the definitions."""
    mpmath = pytest.importorskip("mpmath")
    entry, case = CASES[name]
    rows = [row for row in STORED.values() if (row["op"], row["case"]) == (entry.op.name, case.name)]
    worst = {order: [r["columns"]["dlfn"]["at"] for r in rows if r["order"] == order] for order in (1, 2)}
    # Beyond 100 all is 0 or 1 or underflows, and differences with 120 digits no longer see it.
    near = {order: [at for at in points if 1e-30 < abs(at) < 100] for order, points in worst.items()}
    x = {1: near[1], 2: [*near[2], *np.random.default_rng(6).uniform(-12, 12, 12)]}
    with mpmath.workdps(120):
        f = functools.partial(functions(mpmath)[entry.op.name], **case.static)
        for order, closed in ((1, case.slope), (2, case.bend)):
            at = np.array(x[order], np.longdouble)
            value, largest = closed(at, **case.static)
            exact = [mpmath.diff(f, mpmath.mpf(float(point)), order) for point in at]
            error = np.abs(value - np.array([np.longdouble(mpmath.nstr(e, 25)) for e in exact]))
            kink = np.isnan(value) | (largest == 0)
            assert np.all(kink | (error <= 1e-14 * largest)), (order, at[np.argmax(error)])


def test_a_derivative_that_is_off_is_counted(x64):
    (entry,) = entries(["sigmoid"])
    x = np.array([-1, 0.5, 2, 3], np.float32)
    for on_device in (False, True):
        right = accuracy.columns(entry, entry.cases[0], 1)["dlfn"](x)
        wrong = right.copy()
        wrong[2] = right[2] * np.float32(1 + 2.0**-18)
        figures = {}
        accuracy.judge(entry.cases[0], 1, {"off": lambda _, y=wrong: y}, x, figures, on_device=on_device)
        assert figures["off"].at == 2
        assert 25 < figures["off"].ulp < 70
        assert (figures["off"].inputs, figures["off"].off) == (4, 1)


def test_points_without_a_second_derivative_are_left_out():
    (entry,) = entries(["relu"])
    figures = {}
    x = np.array([-1, 0, 1], np.float32)
    accuracy.judge(entry.cases[0], 2, {"nan": lambda x: np.where(x == 0, np.nan, 0)}, x, figures)
    assert (figures["nan"].ulp, figures["nan"].inputs) == (0, 2)


def test_chunks_hold_every_number_once():
    x = accuracy.chunk("float16", 0)
    assert accuracy.chunks("float16") == 1
    assert len(set(x.view(np.uint16).tolist())) == len(x) == 65536 - 2 * 1023
    assert accuracy.chunks("float32") == (1 << 32) // ulp.CHUNK
    assert accuracy.chunk("float32", 0)[1] == np.float32(1e-45)


def test_the_script_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("accuracy_script", ROOT / "scripts" / "accuracy.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    chunk, asked = accuracy.chunk, []

    def counted(dtype, number):
        asked.append(number)
        if number == 2 and asked.count(2) == 1:
            raise InterruptedError
        return chunk("float16", 0)[number::4].astype(np.float32)

    monkeypatch.setattr(accuracy, "chunks", lambda dtype: 4)
    monkeypatch.setattr(accuracy, "chunk", counted)
    arguments = [str(tmp_path / "f.json"), "relu", "--exhaustive", "--dtype", "float32"]
    with pytest.raises(InterruptedError):
        script.main(arguments)
    assert [row["done"] for row in json.loads((tmp_path / "f.json").read_text())["rows"].values()] == [2]
    script.main(arguments)
    rows = json.loads((tmp_path / "f.json").read_text())["rows"]
    assert [row["done"] for row in rows.values()] == [4, 4]
    assert rows["relu, float32, 1"]["columns"]["dlfn"] == {"ulp": 0.0, "at": 0.0, "inputs": 63490, "off": 0}
