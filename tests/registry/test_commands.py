"""``dlfn check`` and ``dlfn bench``, in process."""

import dataclasses
import json
import re
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import dlfn
from dlfn import registry
from dlfn.bench.measurement import Measurement, measure, residual_bytes
from dlfn.cli import main

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_check_passes_and_writes_json(tmp_path, capsys):
    path = tmp_path / "check.json"
    assert main(["check", "silu", "linear", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["ok"] is True
    assert {case["op"] for case in report["cases"]} == {"silu", "linear"}
    assert {case["path"] for case in report["cases"]} == {"hand", "backprop", "finite_difference"}
    assert {case["dtype"] for case in report["cases"]} == {"float64", "float32", "bfloat16", "float16"}
    for case in report["cases"]:
        assert set(case) == {"op", "case", "dtype", "path", "argument", "max_relative_error", "tolerance", "ok"}
        if case["dtype"] == "float64" and case["path"] != "finite_difference":
            assert case["max_relative_error"] <= 1e-10
    printed = capsys.readouterr().out
    assert "the worst of each op, dtype and path:" in printed
    assert "failed: 0" in printed


@pytest.fixture
def wrong_op():
    """An op whose backward is off in one coordinate, or not finite."""

    def use(spoil):
        op = dlfn.Op(lambda x, w: x * w, lambda x, w: (x * w, (x, w)), name="crooked")
        op.def_backward(lambda residuals, dy: (dy * residuals[1], spoil(dy * residuals[0])))
        case = registry.Case(lambda lead: (registry.normal(*lead, 3), registry.normal(*lead, 3)))
        registry.register(registry.Entry(op, ("network.affine",), (case,)))

    yield use
    registry.ENTRIES.pop("crooked", None)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [(lambda dw: dw.at[2, 1].mul(1.001), float), (lambda dw: dw.at[2, 1].set(jnp.nan), type(None))],
    ids=["wrong", "nan"],
)
def test_check_fails_on_a_wrong_backward(wrong_op, tmp_path, capsys, spoil, error):
    wrong_op(spoil)
    path = tmp_path / "check.json"
    assert main(["check", "crooked", "--json", str(path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"crooked +default +float64 +hand +w .*\[2, 1\]: ", out)
    report = json.loads(path.read_text())
    failed = [case for case in report["cases"] if not case["ok"]]
    assert report["ok"] is False
    assert {case["argument"] for case in failed} == {"w"}
    assert {case["path"] for case in failed if case["dtype"] == "float64"} == {"hand", "backprop"}
    assert all(isinstance(case["max_relative_error"], error) for case in failed)


def test_a_backward_that_raises_fails_its_check_and_no_other(wrong_op, tmp_path, capsys):
    wrong_op(lambda dw: dw[:2])
    path = tmp_path / "check.json"
    assert main(["check", "crooked", "relu", "--json", str(path)]) == 1
    assert "backward's cotangent of w is float64[2, 3], but w is float64[4, 3]" in capsys.readouterr().out
    cases = json.loads(path.read_text())["cases"]
    assert {case["op"] for case in cases} == {"crooked", "relu"}
    assert all(case["max_relative_error"] is None for case in cases if not case["ok"])


@pytest.mark.parametrize("command", ["check", "bench"])
def test_unknown_op(command, capsys, tmp_path):
    path = tmp_path / "out.json"
    assert main([command, "sigmiod", "--json", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err == "dlfn: error: unknown op 'sigmiod'; did you mean 'sigmoid'?\n"
    assert captured.out == ""
    assert not path.exists()
    assert main([command, "nonsense"]) == 2
    assert capsys.readouterr().err == "dlfn: error: unknown op 'nonsense'; the ops are those of dlfn.ops\n"


def test_forms_of_platforms_are_checked_where_there_is_one(monkeypatch, capsys):
    assert main(["check", "--platform-forms"]) == 2
    assert "there is no GPU or TPU here" in capsys.readouterr().err
    # As on a GPU, whose forms are then those of this CPU.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert main(["check", "softmax", "relu", "--platform-forms"]) == 0
    printed = capsys.readouterr().out
    assert "softmax: " in printed
    assert "relu: " not in printed


def test_bench_writes_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["dlfn.bench.measurement"], "PAIRS", 2)
    path = tmp_path / "bench.json"
    assert main(["bench", "relu", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert {"date", "processor", "cores", "jax", "dlfn"} <= set(report)
    rows = report["rows"]
    assert {row["baseline"] for row in rows} == {"jax.nn", "jax.nn + checkpoint"}
    for row in rows:
        assert set(row) == {
            "op", "case", "baseline", "speedup", "speedup_low", "speedup_high", "temp_bytes", "baseline_temp_bytes",
            "residual_bytes", "baseline_residual_bytes",
        }  # fmt: skip
        assert 0 < row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
        assert row["residual_bytes"] == 4 * 1024 * 1024
    assert "relu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("speedup", "floor", "ratio", "code", "mark"),
    [
        (0.5, 0.97, None, 0, "BELOW 0.97×"),  # without a ratio it only says so
        (0.9, 0.97, 0.95, 1, "BELOW 0.95×"),
        (0.9, 0.97, 0.8, 0, ""),
        (1.1, 0.97, 1.2, 1, "BELOW 1.2×"),
        (0.6, 0.55, 0.95, 0, ""),  # the op's own lower floor
        (0.5, 0.55, 0.95, 1, "BELOW 0.55×"),
        (0.5, 0.55, 0.4, 0, ""),
    ],
)
def test_bench_fails_below_a_ratio_or_a_lower_floor(
    wrong_op, tmp_path, capsys, monkeypatch, speedup, floor, ratio, code, mark
):
    wrong_op(lambda dw: dw)
    entry = registry.ENTRIES["crooked"]
    bench = registry.Bench("(3,)", (registry.normal(3),) * 2, {"plain": jnp.multiply}, floor=floor)
    registry.register(dataclasses.replace(entry, benches=(bench,)))

    def measured(ours, rival, args):
        slow = "checkpoint" in repr(rival)  # which does not count, however slow we are beside it
        return Measurement(0.01 if slow else speedup, 0.0, 9.0, 0, 0, 0, 0)

    monkeypatch.setattr(sys.modules["dlfn.bench.measurement"], "measure", measured)
    path = tmp_path / "bench.json"
    given = [] if ratio is None else ["--fail-below", str(ratio)]
    assert main(["bench", "crooked", "--json", str(path), *given]) == code
    printed = capsys.readouterr().out
    assert printed.count("BELOW") == (mark != "")
    assert mark in printed
    report = json.loads(path.read_text())
    assert (report["ok"], len(report["rows"])) == (code == 0, 2)


def test_measure_tells_faster_from_slower(optimised):
    """A loop of 8 products against none: the benchmark must see it, in both directions."""
    x = jnp.ones((128, 128))

    def slow(x):
        return jax.lax.fori_loop(0, 8, lambda _, y: jnp.tanh(y @ y) * 0.1, x)

    def fast(x):
        return x * 2

    assert measure(fast, slow, (x,), pairs=4).speedup > 2
    assert measure(slow, fast, (x,), pairs=4).speedup < 0.5


def test_measure_treats_both_alike(monkeypatch):
    """As many calls in every measurement, and each as often first as second: an op against itself must give 1."""
    timed, module = [], sys.modules["dlfn.bench.measurement"]

    def seconds(call, repeats):
        timed.append((call, repeats))
        return 0.002 * (1 + (len(timed) == 1))  # the first call ever is slow

    monkeypatch.setattr(module, "_seconds", seconds)
    assert measure(jnp.tanh, jnp.tanh, (jnp.ones(3),), pairs=4).speedup == 1
    pairs = timed[-8:]
    assert {repeats for _, repeats in pairs} == {5}
    first = [call for call, _ in pairs[::2]]
    assert [first.count(call) for call in first] == [2, 2, 2, 2]


def test_residual_bytes_counts_each_array_once():
    x = jnp.ones(100)
    assert residual_bytes(lambda x: jnp.sin(x) * jnp.cos(x), (x,)) >= 2 * 400
    assert residual_bytes(dlfn.ops.gelu, (x,)) == 400
    assert residual_bytes(lambda x: x + 1, (x,)) == 0


def test_tables_of_speeds_are_what_their_script_writes():
    script = runpy.run_path(str(ROOT / "scripts" / "write_benchmarks.py"))
    for name in script["TABLES"]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert text == script["page"](name), "run: python scripts/write_benchmarks.py"
