"""The folder of a run: whatever ends a run before it has succeeded, what was there stays as it was."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dlfn
import dlfn.files
from dlfn.cli import main
from dlfn.train import TrainingError, load, loop, run
from dlfn.train.run import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = "[train]\nsteps = 2\nsteps_per_dispatch = 1\nlog_every = 1\ncompare = false\n[model]\nwidths = [4]\n"
FILES = ["config.toml", "metrics.jsonl", "params.npz"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def succeeded(tmp_path_factory):
    """A run's configuration and folder."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.toml").write_text(TINY)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["train", "tiny.toml"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def earlier(succeeded, monkeypatch):
    """The folder of a run that has succeeded, with a note of the user, which are compared in the end."""
    monkeypatch.chdir(succeeded)
    folder = succeeded / "runs" / "tiny"
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    assert sorted(before) == sorted([*FILES, "notes.txt"])
    yield folder
    assert contents(folder) == before


def interrupt(*_, **__):
    raise KeyboardInterrupt


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken(*_, **__):
    raise RuntimeError("broken")


def disagree(*_):
    raise TrainingError("the gradients disagree")


FAILURES = {
    "loss not finite": (None, None, None, 1),
    "interrupted at a step": (loop, "_check_finite", interrupt, 130),
    "interrupted while it writes": (run.np, "savez", interrupt, 130),
    "disk full at a line": (RunFolder, "log", full_disk, 2),
    "disk full at the parameters": (run.np, "savez", full_disk, 2),
    "disk full at the end": (run.os, "fsync", full_disk, 2),
    "gradients disagree": (loop, "_compare_gradients", disagree, 1),
    "an error of the program": (loop, "_check_finite", broken, RuntimeError),
}


@pytest.mark.parametrize(("owner", "name", "failure", "code"), FAILURES.values(), ids=FAILURES)
def test_a_run_that_fails_leaves_the_earlier_one(earlier, monkeypatch, owner, name, failure, code):
    argv = ["train", "tiny.toml", "seed=1", "train.compare=true"]
    if failure is None:
        argv += ["optimizer.name=sgd", "optimizer.learning_rate=1e38", "train.steps=9"]
    else:
        monkeypatch.setattr(owner, name, failure)
    if isinstance(code, int):
        assert main(argv) == code
    else:
        with pytest.raises(code, match="broken"):
            main(argv)
    assert not (earlier / ".finished").exists()


def test_a_killed_run_leaves_the_earlier_one_and_the_next_replaces_both(earlier):
    script = "import sys; from dlfn.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "train", "tiny.toml", "seed=1", "train.steps=10000000"]
    environment = {**os.environ, "PYTHONPATH": str(Path(dlfn.__file__).parents[1])}
    running = earlier / "unfinished" / "metrics.jsonl"
    running.unlink(missing_ok=True)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (running.exists() and running.read_text().count("\n") >= 3):  # it can be read while it grows
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert json.loads(running.read_text().splitlines()[0])["step"] == 1
    (earlier / "unfinished" / ".params.npz.123").touch()  # as a kill would leave it there

    folder = RunFolder(load("tiny.toml"))
    folder.start()
    assert [path.name for path in folder.unfinished.iterdir()] == ["config.toml"]
    folder.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_refused_before_the_work(earlier, capsys):
    earlier.chmod(0o555)
    try:
        assert main(["train", "tiny.toml"]) == 2
    finally:
        earlier.chmod(0o755)
    assert capsys.readouterr().out == ""


def make(folder, seed):
    """A run that only has to finish, and the files that it then has."""
    made = RunFolder(load("tiny.toml", [f"run.folder={folder}", f"seed={seed}"]))
    made.start()
    made.log(1, {"test/loss": float(seed)})
    made.save_params({"w": np.full(3, seed)})
    return made, contents(made.unfinished)


@pytest.mark.parametrize("renames", range(5))
def test_a_kill_while_files_are_moved_is_made_good_by_the_next_run(tmp_path, monkeypatch, renames):
    """Before the first rename the earlier run is there, after it the new one is, if need be when the next starts."""
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    first, old = make("run", 1)
    first.finish()
    assert contents(tmp_path / "run") == old
    second, new = make("run", 2)
    replace, done = Path.replace, []

    def killed(path, target):
        if len(done) == renames:
            raise SystemExit
        done.append(path)
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        if renames < 4:
            with pytest.raises(SystemExit):
                second.finish()
        else:
            second.finish()
    second.close()  # as a kill does
    RunFolder(load("tiny.toml", ["run.folder=run"])).start()
    assert contents(tmp_path / "run") == (old if renames == 0 else new)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [*FILES, "unfinished"]


def test_what_no_run_has_written_is_refused(tmp_path, monkeypatch, refused):
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    made, _ = make("run", 1)
    (made.unfinished / "plot.png").touch()
    refused(lambda: RunFolder(load("tiny.toml", ["run.folder=run"])), ["run/unfinished' holds 'plot.png'", "move it"])
    (made.unfinished / "plot.png").unlink()
    made.finish()
    (tmp_path / "run" / "params.npz").unlink()
    (tmp_path / "run" / "params.npz").mkdir()
    refused(lambda: RunFolder(load("tiny.toml", ["run.folder=run"])), ["run/params.npz' is a folder", "must be a file"])


@pytest.mark.parametrize("name", ["unfinished", ".finished"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_stands_where_a_run_makes_a_folder_is_refused_before_the_work(tmp_path, monkeypatch, refused, name, kind):
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    make("run", 1)[0].finish()
    path = tmp_path / "run" / name
    if kind == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    parts = [f"run/{name}' is a {kind}", "must be a folder", "move it elsewhere"]
    refused(lambda: RunFolder(load("tiny.toml", ["run.folder=run"])), parts)


def test_what_tools_put_beside_the_files_of_a_run_goes_with_its_folder(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        made, files = make("run", seed)
        for hidden in (made.unfinished / ".ipynb_checkpoints", tmp_path / "run" / ".ipynb_checkpoints"):
            hidden.mkdir(exist_ok=True)
            (hidden / "a.txt").touch()
        made.finish()
        assert contents(tmp_path / "run") == files
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".ipynb_checkpoints", *FILES]


def test_what_the_user_puts_beside_the_files_of_a_run_is_kept(tmp_path, monkeypatch, refused):
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    made, files = make("run", 1)
    (made.unfinished / "plots").mkdir()
    made.finish()
    assert contents(tmp_path / "run") == files
    refused(lambda: RunFolder(load("tiny.toml", ["run.folder=run"])), ["run/unfinished' holds 'plots'", "move it"])
    (tmp_path / "run" / "unfinished" / "plots").rmdir()
    make("run", 2)[0].finish()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES


def test_a_second_run_in_a_folder_is_refused_until_the_first_has_ended(tmp_path, monkeypatch, refused):
    pytest.importorskip("fcntl")
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    for end in (RunFolder.finish, RunFolder.close):
        first, files = make("run", 1)
        second = RunFolder(load("tiny.toml", ["run.folder=run", "seed=2"]))
        refused(second.start, ["run.folder = 'run' is in use by another run", "wait"])
        assert contents(first.unfinished) == files
        end(first)
        second.start()
        second.close()
    first, _ = make("run", 1)
    assert main(["train", "tiny.toml", "run.folder=run"]) == 2
    del first
    assert main(["train", "tiny.toml", "run.folder=run"]) == 0


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    """What --json, plots and safetensors are written by."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def write(error):
        with dlfn.files.replacing(path) as file:
            file.write(b"half")
            raise error

    for error in (KeyboardInterrupt(), OSError(errno.ENOSPC, "full")):
        with pytest.raises(type(error)):
            write(error)
        assert contents(tmp_path) == {"a.json": b"old"}
