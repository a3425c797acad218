"""A run that is stopped and goes on ends with the bits of one that was left alone, on one device and on eight."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import dlfn
from dlfn import nn, train
from dlfn.cli import main
from dlfn.train import data
from dlfn.train.checkpoints import Checkpoints
from dlfn.train.evaluation import Evaluation
from dlfn.train.run import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
IMAGES = data.arrays(RNG.normal(size=(40, 4, 4)).astype(np.float32), np.arange(40) % 3, test_fraction=0.2)
TOKENS = data.Windows(RNG.integers(0, 7, 200).astype(np.uint8), 8, "text")
# With running statistics; dropout, and the moving average of weights; and stacked blocks.
CASES = {
    "mlp": (
        nn.Serial(nn.Flatten(), nn.Linear(8, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.7), nn.Linear(3)),
        IMAGES,
    ),
    "cnn": (nn.models.cnn(3, channels=(2,), hidden=4), IMAGES),
    "gpt": (nn.models.gpt(7, context=8, layers=1, heads=2, width=8, keep_prob=0.8), data.Dataset(TOKENS)),
}
SETTINGS = {"steps": 8, "batch_size": 16, "save_every": 2, "eval_every": 4, "steps_per_dispatch": 3, "quiet": True}


class Stop(Exception):
    pass


def run(name, folder=None, devices=1, **settings):
    model, source = CASES[name]
    loss = "next_token" if name == "gpt" else "classification"
    settings = {**SETTINGS, "ema": 0.9, "accumulate": 2, **settings}
    placement = train.Placement(data=devices)
    return train.fit(
        model, source, loss=loss, optimizer=optax.adam(0.01), placement=placement, folder=folder, **settings
    )


def fit(name, folder=None, devices=1, stop_after=None, monkeypatch=None, **settings):
    """The carry at the end of a run, which may be stopped after the checkpoint of a step."""
    if stop_after is None:
        return run(name, folder, devices, **settings).carry

    save = Checkpoints.save

    def saved(self, step, *arguments):
        save(self, step, *arguments)
        if step == stop_after:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", saved)
        with pytest.raises(Stop):
            run(name, folder, devices, **settings)
    return None


def assert_same_bits(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True), a, b)


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("mlp", 1),
        *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in itertools.product(("cnn", "gpt"), (1, 8))),
        pytest.param("mlp", 8, marks=pytest.mark.exhaustive),
    ],
)
def test_it_ends_with_the_same_bits(name, devices, tmp_path, monkeypatch):
    fit(name, tmp_path / "run", devices, stop_after=4, monkeypatch=monkeypatch)
    resumed = fit(name, tmp_path / "run", devices)
    assert_same_bits(resumed, fit(name, devices=devices))


def test_a_step_that_is_damaged_is_skipped_and_named(tmp_path, monkeypatch, capsys):
    fit("mlp", tmp_path / "run", stop_after=6, monkeypatch=monkeypatch)
    step = tmp_path / "run" / "checkpoints" / "6"
    path = max(step.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    resumed = fit("mlp", tmp_path / "run", quiet=False)
    printed = capsys.readouterr().out
    assert "skipped the checkpoint of step 6: file default/" in printed
    assert "resumed at step 4, from " in printed
    assert_same_bits(resumed, fit("mlp"))


def test_a_signal_while_metrics_are_waited_for_loses_no_line(tmp_path):
    def rate(step):
        """Is asked for when a record is made, with the next dispatch under way."""
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        return 0.01

    settings = {"save_every": 0, "eval_every": 0, "steps_per_dispatch": 2, "log_every": 2}
    result = run("mlp", tmp_path / "run", learning_rate=rate, **settings)
    assert result.stopped == "SIGTERM"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(2, result.step + 1, 2)]


@pytest.mark.parametrize("asked", [False, True])
def test_a_run_that_has_lost_patience_does_not_go_on(asked, tmp_path, monkeypatch):
    """Though it is killed before it has written its parameters, or is asked to stop at the same step."""

    def rate(step):
        if asked and step == 1:
            signal.raise_signal(signal.SIGTERM)
        return 0.01

    def killed(*_, **__):
        raise Stop

    settings = {"eval_every": 2, "patience": 1, "steps_per_dispatch": 2, "log_every": 2, "learning_rate": rate}
    monkeypatch.setattr(Evaluation, "__call__", lambda *_: {"loss": 1.0})
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "finish", killed)
        with pytest.raises(Stop):
            run("mlp", tmp_path / "run", **settings)
    result = run("mlp", tmp_path / "run", **settings)
    assert (result.step, result.stopped) == (4, "patience")
    assert (tmp_path / "run" / "finished.json").exists()


def test_eight_devices_go_on_where_one_stopped_and_back(tmp_path, monkeypatch):
    expected = fit("mlp")
    for first, then in ((1, 8), (8, 1)):
        folder = tmp_path / f"{first}"
        fit("mlp", folder, first, stop_after=4, monkeypatch=monkeypatch)
        carry = fit("mlp", folder, then)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), carry, expected)


CONFIG = """
[model]
widths = [4]
[train]
steps = 100000
save_every = 0
eval_every = 0
log_every = 10
steps_per_dispatch = 10
[mesh]
data = 1
"""


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.toml").write_text(CONFIG)
    root = str(Path(dlfn.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "dlfn", "train", "long.toml"],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
    )
    metrics, deadline = tmp_path / "runs" / "long" / "metrics.jsonl", time.monotonic() + 120
    try:
        while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.kill()
    (step,) = (int(path.name) for path in (metrics.parent / "checkpoints").iterdir())
    assert step % 10 == 0
    assert not (metrics.parent / "finished.json").exists()
    steps = f"train.steps={step + 10}"
    config = metrics.parent / "config.toml"
    config.write_text(config.read_text().replace("steps = 100000", f"steps = {step + 10}"))
    assert main(["train", "long.toml", steps]) == 0
    assert f"resumed at step {step}, from " in capsys.readouterr().out


@pytest.mark.exhaustive
def test_kills():
    """``scripts/kill_and_resume.py``, for two of its kills."""
    script = Path(dlfn.__file__).parents[1] / "scripts" / "kill_and_resume.py"
    done = subprocess.run([sys.executable, script, "--kills", "2"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 kills (")
