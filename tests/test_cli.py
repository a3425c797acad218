"""The command line: exit codes, one clear line on bad input, and nothing half-written."""

import re
import signal

import pytest

from dlfn.cli import main
from dlfn.train import Plan

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = """
[mesh]
data = 1
[train]
steps = 2
steps_per_dispatch = 1
log_every = 1
[model]
widths = [4]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_train_runs_into_the_default_folder(config, capsys):
    assert main(["train", str(config), "seed=1"]) == 0
    assert (config.parent / "runs" / "tiny" / "params.safetensors").is_file()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("named", [[], ["digits_mlp"]])
def test_the_default_comes_with_dlfn(named, config):
    assert main(["train", *named, "train.steps=2", "train.compare=false", "model.widths=[4]"]) == 0
    assert 'folder = "runs/digits_mlp"' in (config.parent / "runs" / "digits_mlp" / "config.toml").read_text()


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["train", "--help"]])
def test_help_has_an_example(argv, capsys):
    assert main(argv) == 0
    assert "dlfn train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no command given; expected one of train, configs, evaluate, predict, sample, export, "),
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "train.stpes=3"], "unknown key 'train.stpes'; did you mean 'train.steps'?"),
        (["train", "digits_mpl"], "no configuration at 'digits_mpl'; did you mean 'digits_mlp'?"),
        (["train", "tiny.toml", "--fast"], "unrecognized arguments: --fast; see dlfn train --help"),
        (["train", "tniy.toml"], "no configuration at 'tniy.toml'; did you mean 'tiny.toml'?"),
        (["train", "tiny.toml", "train.stpes=3"], "unknown key 'train.stpes'; did you mean 'train.steps'?"),
        (["train", "tiny.toml", "train.steps=x"], "train.steps = 'x': expected an integer, got str"),
        (["train", "tiny.toml", "run.folder=tiny.toml"], "run.folder = 'tiny.toml' is a file; choose a folder"),
        (["train", "tiny.toml", "run.folder=."], "run.folder = '.' holds files but no run"),
        (["train", "nope.toml"], "no configuration at 'nope.toml'; nor is there one of a similar name"),
        (["train", "tiny.toml", "train.batch_size=5000"], "there are only 1437 training examples"),
        (["check", "gelu", "--json", "."], "argument --json: cannot write '.': Is a directory"),
        (
            ["formulas", "--json", "tiny.toml/x.json"],
            "argument --json: cannot write 'tiny.toml/x.json': there is no folder 'tiny.toml'",
        ),
        *(
            (
                [command, "--json", "no/such/a.json"],
                "argument --json: cannot write 'no/such/a.json': there is no folder 'no/such'",
            )
            for command in ("check", "bench", "formulas")
        ),
        (["bench", "relu", "--fail-below", "nan"], "argument --fail-below: 'nan' is not a number above 0, such as 0.9"),
        (["bench", "relu", "--fail-below", "0.9x"], "argument --fail-below: '0.9x' is not a number above 0"),
        (["train", "tiny.toml", "run.folder=tiny.toml/run"], "cannot write to run.folder = 'tiny.toml/run'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(config, capsys, argv, message):
    assert main(argv) == 2
    captured = capsys.readouterr()
    printed = captured.err
    assert captured.out == ""  # it is said before the work
    assert printed.startswith("dlfn: error: ")
    assert message in printed
    assert printed.count("\n") == 1
    assert [path.name for path in config.parent.iterdir()] == ["tiny.toml"]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"dlfn .+, jax \d.*\n", capsys.readouterr().out)


def test_failed_training_is_exit_1(config, capsys):
    assert main(["train", str(config), "optimizer.name=sgd", "optimizer.learning_rate=1e38", "train.steps=9"]) == 1
    assert "dlfn: error: step" in capsys.readouterr().err


def test_interrupt_is_exit_130_after_a_checkpoint(config, capsys, monkeypatch):
    is_due, signals = Plan.is_due, [signal.SIGINT]

    def interrupted(*args):
        if signals:  # a second one ends the process
            signal.raise_signal(signals.pop())
        return is_due(*args)

    with monkeypatch.context() as patched:
        patched.setattr(Plan, "is_due", interrupted)
        # A shell that runs this in its background has SIGINT ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert main(["train", str(config)]) == 130
        finally:
            signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == ""
    folder = config.parent / "runs" / "tiny"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["1"]
    assert not (folder / "finished.json").exists()
    assert main(["train", str(config)]) == 0
    assert "resumed at step 1" in capsys.readouterr().out


def test_a_finished_run_says_so(config, capsys):
    assert main(["train", str(config)]) == 0
    capsys.readouterr()
    assert main(["train", str(config)]) == 0
    assert "is finished, after 2 steps" in capsys.readouterr().out
