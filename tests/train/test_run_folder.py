"""The folder of a run: the same run goes on in it, another one is refused or moves it aside, and nothing is lost."""

import errno
import json
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn.files
from dlfn.train.run import RunFolder
from dlfn.weights import load_params

CONFIG = 'seed = 1\n[run]\nfolder = "run"\n[model]\nname = "mlp"\nwidths = [4, 4]\n'
PARAMS = {"w": np.arange(3.0)}


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def started(config=CONFIG, **settings):
    folder = RunFolder("run", config, **settings)
    folder.start()
    return folder


def interrupted(config=CONFIG):
    """A run with lines for three steps and a checkpoint, whose process has ended."""
    folder = started(config)
    for step in (1, 2, 3):
        folder.log(step, {"train/loss": 1 / step})
    (folder.checkpoints / "2").mkdir(parents=True)
    (folder.checkpoints / "2" / "data").write_text("weights")
    folder.close()
    return contents("run")


def finished(config=CONFIG):
    folder = started(config)
    folder.log(1, {"train/loss": 0.5})
    folder.finish(PARAMS, {"train/loss": 0.5})
    folder.close()
    return contents("run")


def test_a_run_from_its_start_to_its_end(work):
    folder = RunFolder("run", CONFIG)
    assert not list(work.iterdir())
    folder.start()
    assert contents("run") == {Path("config.toml"): CONFIG.encode()}
    folder.log(1, {"train/loss": np.float32(0.5), "test/loss": float("nan"), "rate": jnp.float32(2), "tokens": 10**12})
    folder.log(2, {"train/loss": float("-inf")})
    assert (work / "run" / "metrics.jsonl").read_text() == (
        '{"step": 1, "train/loss": 0.5, "test/loss": null, "rate": 2.0, "tokens": 1000000000000}\n'
        '{"step": 2, "train/loss": null}\n'
    )
    assert folder.finished is None
    params, state = {"w": jnp.arange(3.0), "b": jnp.ones(2, jnp.bfloat16)}, {"mean": jnp.ones(2)}
    folder.finish(params, {"test/loss": 0.25, "test/accuracy": float("nan")}, state=state)
    assert RunFolder("run", CONFIG).finished == {"test/loss": 0.25, "test/accuracy": None}
    loaded = load_params("run/params.safetensors", params, state)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and jnp.array_equal(a, b), loaded, (params, state))
    )
    names = ["config.toml", "finished.json", "metrics.jsonl", "params.safetensors"]
    assert sorted(path.name for path in (work / "run").iterdir()) == names


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CONFIG.replace('"run"', '"elsewhere/run"'),
        CONFIG + "[mesh]\nfsdp = 4\n",
        "\n# said otherwise\n" + CONFIG.replace("= [4, 4]", "=[4,4]"),
    ],
)
def test_the_same_run_goes_on(config):
    before = interrupted()
    folder = started(config)
    assert folder.finished is None
    assert contents("run") == before
    folder.rewind(2)
    folder.log(3, {"train/loss": 9.0})
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 9.0)]


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 1), (2, 3), (3, 4), (99, 5)])
def test_lines_past_a_step_are_cut_and_half_a_line(step, kept):
    lines = [b'{"step": 1, "a": 1}\n', b'{"step": 2, "a": 1}\n', b'{"step": 2, "b": 1}\n', b'{"step": 3}\n']
    folder = started()
    Path("run/metrics.jsonl").write_bytes(b"".join([*lines, b'{"step": 4}\n', b'{"step": 5, "a"']))
    folder.rewind(step)
    assert Path("run/metrics.jsonl").read_bytes() == b"".join([*lines, b'{"step": 4}\n'][:kept])


def test_a_kill_while_lines_are_cut_leaves_them_all(monkeypatch):
    before = interrupted()

    def killed(*_):
        raise SystemExit

    folder = started()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(SystemExit):
            folder.rewind(1)
    assert contents("run") == before


DIFFERENT = {
    "another value": (CONFIG.replace("seed = 1", "seed = 2"), ["seed = 1", "now it is seed = 2"]),
    "another type": (CONFIG.replace("seed = 1", "seed = true"), ["seed = 1", "now it is seed = true"]),
    "in a table": (CONFIG.replace("[4, 4]", "[4]"), ["model.widths = [4, 4]", "now it is model.widths = [4]"]),
    "a key more": (CONFIG + "depth = 2\n", ["no model.depth", "now it is model.depth = 2"]),
    "a key less": (CONFIG.replace("seed = 1\n", ""), ["seed = 1", "now it is no seed"]),
    "the first of two": (CONFIG.replace("mlp", "cnn").replace("[4, 4]", "[8]"), ['model.name = "mlp"', '"cnn"']),
    "a table for a value": (CONFIG.replace("seed = 1", "seed.a = 1"), ["no seed.a", "now it is seed.a = 1"]),
}


@pytest.mark.parametrize(("config", "parts"), DIFFERENT.values(), ids=DIFFERENT)
@pytest.mark.parametrize("make", [interrupted, finished])
def test_another_configuration_is_refused(refused, make, config, parts):
    before = make()
    refused(lambda: RunFolder("run", config), ["run.folder = 'run' holds a run with", *parts, "run.folder=", "--fresh"])
    assert contents("run") == before


@pytest.mark.parametrize("config", [CONFIG, CONFIG.replace("seed = 1", "seed = 2")])
def test_fresh_moves_the_old_run_aside_with_all_that_is_in_its_folder(work, config):
    olds = []
    for make in (interrupted, finished):
        make()
        Path("run/notes.txt").write_text("mine")
        olds.append(contents("run"))
        folder = RunFolder("run", config, fresh=True)
        assert folder.finished is None
        assert contents("run") == olds[-1]
        folder.start()
        assert folder.moved is not None
        assert contents("run") == {Path("config.toml"): config.encode()}
        folder.close()
        Path("run/config.toml").write_text(CONFIG)
    Path("run.3").touch()
    RunFolder("run", config, fresh=True).start()
    assert [contents("run.1"), contents("run.2")] == olds
    assert sorted(path.name for path in work.iterdir()) == ["run", "run.1", "run.2", "run.3", "run.4"]


def test_fresh_moves_the_working_folder_and_a_link(work, monkeypatch):
    old = interrupted()
    monkeypatch.chdir("run")
    folder = RunFolder(".", CONFIG, fresh=True)
    folder.start()
    folder.close()
    monkeypatch.chdir(work)
    assert contents("run.1") == old
    assert contents("run") == {Path("config.toml"): CONFIG.encode()}
    Path("link").symlink_to("run.1")
    RunFolder("link", CONFIG, fresh=True).start()
    assert Path("link.1").is_symlink()
    assert contents("link") == contents("run")


def test_fresh_needs_no_old_run(work):
    started(fresh=True)
    assert [path.name for path in work.iterdir()] == ["run"]


@pytest.mark.parametrize("fresh", [False, True])
def test_what_no_run_wrote_is_refused(refused, fresh):
    Path("run").mkdir()
    Path("run/.DS_Store").touch()
    RunFolder("run", CONFIG, fresh=fresh)
    Path("run/thesis.txt").write_text("mine")
    refused(lambda: RunFolder("run", CONFIG, fresh=fresh), ["run.folder = 'run' holds files but no run", "choose"])


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "params.safetensors", "finished.json", "checkpoints"])
def test_what_stands_where_a_run_writes_is_refused(refused, name):
    interrupted()
    path = Path("run") / name
    if path.exists():
        path.rename("aside")
    kinds = ("file", "folder") if name == "checkpoints" else ("folder", "file")
    path.touch() if name == "checkpoints" else path.mkdir()
    refused(lambda: RunFolder("run", CONFIG), [f"'run/{name}' is a {kinds[0]}", f"must be the {kinds[1]}", "move it"])


def test_what_cannot_be_read_is_refused(refused):
    finished()
    Path("run/finished.json").write_text('{"loss"')
    refused(lambda: RunFolder("run", CONFIG).finished, ["'run/finished.json' is not JSON", "remove it"])
    Path("run/config.toml").write_text("seed = ")
    refused(lambda: RunFolder("run", CONFIG), ["cannot read 'run/config.toml'", "--fresh"])


def test_a_file_for_the_folder_or_above_it_is_refused(refused):
    Path("file").touch()
    refused(lambda: RunFolder("file", CONFIG), ["run.folder = 'file' is a file", "choose a folder"])
    refused(lambda: RunFolder("file/run", CONFIG), ["cannot write to run.folder = 'file/run': Not a directory"])


@pytest.mark.parametrize("end", [RunFolder.close, None])
def test_a_second_run_is_refused_until_the_first_has_ended(refused, end):
    pytest.importorskip("fcntl")
    first = started()
    for fresh in (False, True):
        refused(RunFolder("run", CONFIG, fresh=fresh).start, ["run.folder = 'run' is in use by another run", "wait"])
    assert contents("run") == {Path("config.toml"): CONFIG.encode()}
    if end:
        end(first)
    del first  # as the end of the process does
    started(fresh=True)
    assert Path("run.1").is_dir()


def test_a_run_that_began_in_between_is_noticed(refused):
    late = RunFolder("run", CONFIG.replace("seed = 1", "seed = 2"))
    interrupted()
    refused(late.start, ["holds a run with seed = 1"])


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda folder: folder.log(4, {"a": 1.0}), "run/metrics.jsonl"),
        (lambda folder: folder.rewind(1), "run/metrics.jsonl"),
        (lambda folder: folder.finish(PARAMS, {}), "run/params.safetensors"),
    ],
    ids=["log", "rewind", "finish"],
)
def test_a_full_disk_is_one_line_and_loses_nothing(monkeypatch, refused, call, name):
    before = interrupted()
    folder = started()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full_disk)
        refused(lambda: call(folder), ["cannot write", name, "No space left on device"])
    assert contents("run") == before


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
        assert contents(tmp_path) == {Path("a.json"): b"old"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
def test_tensorboard_shows_what_the_metrics_hold(work):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # killed after step 3, with a checkpoint of step 2
        # What is in [run] may be another from start to start.
        folder = RunFolder(
            "run", CONFIG.replace("[run]", f"[run]\ntensorboard = {str(begin > 0).lower()}"), tensorboard=True
        )
        folder.start()
        folder.rewind(begin)
        for step in steps:
            folder.log(step, {"train/loss": step + begin / 8, "rate": float("nan")})
        folder.close()
    read = EventAccumulator("run/tensorboard").Reload()
    assert read.Tags()["scalars"] == ["train/loss"]
    losses = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert losses == [(1, 1.0), (2, 2.0), (3, 3.25), (4, 4.25)]
    lines = map(json.loads, (work / "run" / "metrics.jsonl").read_text().splitlines())
    assert losses == [(line["step"], line["train/loss"]) for line in lines]


def test_tensorboard_is_asked_for_before_anything_is_written(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(dlfn.InputError, match="tensorboardX is not installed; pip install"):
        RunFolder("run", CONFIG, tensorboard=True)
    assert not list(work.iterdir())
