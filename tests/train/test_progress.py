"""What a person sees of a run while it goes on."""

import io
import json
import re
import sys

import numpy as np
import pytest

from dlfn.train.plan import Plan
from dlfn.train.progress import progress, results
from dlfn.train.recording import Recorder
from dlfn.train.run import RunFolder
from dlfn.train.step import Metrics

METRICS = {"train/loss": 0.25, "train/accuracy": 0.9, "learning_rate": 1e-3}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_piped_records_are_lines_of_their_own(capsys):
    with progress(10) as bar:
        bar.report(5, METRICS)
        bar.advance(10)
    assert capsys.readouterr().out == "step      5  train/loss 0.25  train/accuracy 0.9  learning_rate 0.001\n"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal_nor_parts_a_name_from_its_value(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    with progress(10) as bar:
        bar.report(5, METRICS)
        bar.advance(10)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    for name, value in METRICS.items():
        assert f"{name} {value:.4g}" in text
    assert max(map(len, re.split(r"[\r\n]+", text))) <= width
    assert ("left" in text) == (width > 60)


def test_results_are_a_table():
    assert results({"a": 0.123456, "long": 2.0}) == "  a     0.1235\n  long  2"
    assert results({}) == ""


def test_steps_of_one_dispatch_share_its_time():
    """Several records of one dispatch have the same speed, whichever of them comes first."""
    recorder = Recorder(Plan(steps=4, log_every=1), ["w"], "examples", 8)
    recorder.total = 2.0
    ones = np.ones(4)
    records = recorder.add(0, Metrics(ones, {}, np.ones((4, 1)), ones, ones))
    assert [record["steps_per_second"] for _, record in records] == pytest.approx([2.0] * 4)
    assert [record["examples_per_second"] for _, record in records] == pytest.approx([16.0] * 4)


def test_every_start_of_a_run_says_where_it_is_computed(tmp_path):
    folder = RunFolder(tmp_path / "run", "seed = 1")
    folder.start()
    for step in (0, 5):
        folder.log_environment(step, {"devices": "1 × cpu"})
    folder.close()
    lines = (tmp_path / "run" / "environment.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, "devices": "1 × cpu"} for step in (0, 5)]
