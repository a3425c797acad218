"""Bad input of ``dlfn train`` and its neighbours: exit code 2, one line that names the key or the file, what it was and
what it must be; said before anything is compiled where it can be, and nothing is written."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from dlfn.cli import main
from dlfn.train.run import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = """
[model]
widths = [4]
[train]
steps = 2
batch_size = 8
save_every = 1
[mesh]
data = 1
"""
# Functions of a user, some of which are wrong.
MINE = """
import numpy as np
from dlfn import nn, train
from dlfn.train.data import Arrays, Dataset
value = 3
class Broken:
    def init(self, key, x): raise RuntimeError("no init")
    def apply(self, params, state, x, **_): return x, state
class Wrong(Broken):
    def init(self, key, x): return {"w": x[0]}, ()
    def apply(self, params, state, x, **_): return x @ params["w"].T[:2], state
def raises(): raise ValueError("a bug of mine")
def fails_in_init(): return Broken()
def fails_in_apply(): return Wrong()
def none(): return None
def linear(width: int): return nn.Linear(width)
def loss(y, t): return (y - t) ** 2
def no_number(y, t): return y, t
def three(y, t): return y[:3, 0]
def no_dataset(): return 3
def wide(): return train.data.arrays(np.ones((20, 3), "f"), np.ones((20, 2), "f"))
def hole_in_targets(): return train.data.arrays(np.ones((20, 3), "f"), np.full(20, np.inf, "f"))
def small_test(): return Dataset(Arrays((np.ones((20, 3), "f"), np.zeros(20, "i"))), wide().train, {"outputs": 2})
def tokens(): return Dataset(Arrays(np.full((20, 9), 70, np.int32)), None, {"vocabulary": 60, "context": 8})
def labels(): return Dataset(Arrays((np.ones((20, 3), "f"), np.arange(20, dtype=np.int32))), None, {"outputs": 3})
"""
TEXT = "data.name=text data.path=t.txt data.context=8 task.name=next_token"
GPT = f"{TEXT} model='{{name=\"gpt\", layers=1, heads=2, width=16, KEYS}}'"
gpt = lambda keys: GPT.replace("KEYS", keys)  # noqa: E731
mine = lambda name: f"model='{{name=\"mine:{name}\"}}'"  # noqa: E731
DIABETES = "data='{name = \"diabetes\"}'"

CASES = {
    # Keys and their types.
    "train.stpes=3": "unknown key 'train.stpes'; did you mean 'train.steps'?",
    "steps=3": "unknown key 'steps'; did you mean 'train.steps'?",
    "modle.widths=3": "unknown key 'modle'; did you mean 'mesh.model'?",
    "mesh.nodes=2": "unknown key 'mesh.nodes'; did you mean 'mesh.model'?",
    "data.test_fracton=0.1": "unknown key 'data.test_fracton' for digits; did you mean 'data.test_fraction'?",
    "task.smoothing=0.1": "unknown key 'task.smoothing' for classification; did you mean 'task.label_smoothing'?",
    "augment.crpo={}": "unknown key 'augment.crpo'; did you mean 'augment.crop'?",
    "augment.crop.pad=1": "unknown key 'augment.crop.pad' for crop; did you mean 'augment.crop.padding'?",
    "augment.crop.padding=x": "augment.crop.padding = 'x': expected an integer, got str",
    "augment=3": "augment = 3: expected a table, got int",
    "mesh=8": "mesh = 8: expected a table, got int",
    "seed=1.5": "seed = 1.5: expected an integer, got float",
    "train": "expected key=value, such as train.steps=50, got 'train'",
    "train.steps.x=3": "cannot set 'train.steps.x': 'train.steps' is no table",
    "model.widths=4": "model.widths = 4: expected a list, got int; write model.widths='[256, 128]'",
    # Values out of range.
    "seed=-1": "seed = -1: must be at least 0",
    "seed=99999999999": "seed = 99999999999: must be at most 4294967295",
    "gradient=hnad": "gradient = 'hnad': did you mean 'hand'?",
    "train.batch_size=0": "train.batch_size = 0: must be at least 1",
    "train.steps_per_dispatch=0": "train.steps_per_dispatch = 0: must be at least 1",
    "train.ema=1": "train.ema = 1.0: must be below 1",
    "train.clip_norm=-1": "train.clip_norm = -1.0: must be at least 0",
    "train.keep_last=0": "train.keep_last = 0: must be at least 1",
    "train.overfit=-1": "train.overfit = -1: must be at least 0",
    "schedule.name=cosin": "schedule.name = 'cosin': did you mean 'cosine'?",
    "schedule.warmup=2": "schedule.warmup = 2.0: must be at most 1",
    "schedule.end=-1": "schedule.end = -1.0: must be at least 0",
    "precision.compute=float8": "precision.compute = 'float8': did you mean 'float64'?",
    "precision.params=float64": "precision.params = 'float64': JAX computes in float32 unless JAX_ENABLE_X64=1",
    "task.label_smoothing=3": "[task] label_smoothing = 3.0: must be at least 0 and below 1",
    "data.test_fraction=2": "[data] test_fraction = 2.0: must be at least 0 and below 1, such as 0.2",
    "data.test_fraction=0.99999": "of 1797 examples leaves none to train on",
    # The optimiser.
    "optimizer.name=adm": "optimizer.name = 'adm': did you mean 'adam'?",
    "optimizer.wieght_decay=1": "unknown key 'optimizer.wieght_decay' for adamw; did you mean ",
    "optimizer.learning_rate=0": "optimizer.learning_rate = 0: must be above 0 and finite",
    "optimizer.learning_rate=nan": "optimizer.learning_rate = nan: must be above 0 and finite",
    "optimizer.learning_rate=true": "optimizer.learning_rate = True: expected a number, got bool",
    "optimizer.learning_rate=fast": "optimizer.learning_rate = 'fast': expected a number, got str",
    "optimizer.weight_decay=nan": "optimizer.weight_decay = nan: must be at least 0 and below inf",
    "optimizer.b1=2": "optimizer.b1 = 2: must be at least 0 and below 1",
    "optimizer.eps=-1": "optimizer.eps = -1: must be at least 0 and below inf",
    "optimizer.nesterov=1": "optimizer.nesterov = 1: expected true or false, got int",
    "optimizer.groups=3": "optimizer.groups = 3: expected a table of tables",
    "optimizer.groups='{\"(\"={}}'": "optimizer.groups: '(' is no regular expression: missing )",
    'optimizer.groups=\'{"w$"={name="adm"}}\'': "optimizer.groups.\"w$\".name = 'adm': did you mean 'adam'?",
    "optimizer.groups='{\"logits/wieght\"={}}'": "optimizer.groups: 'logits/wieght' is found in no path of a parameter",
    "optimizer.no_decay=b": "optimizer.no_decay = 'b': expected a list of regular expressions of paths",
    "optimizer.no_decay='[\"(\"]'": "optimizer.no_decay: '(' is no regular expression",
    # Batches and devices.
    "train.batch_size=5000": "train.batch_size = 5000: there are only 1437 training examples",
    "train.accumulate=3": "train.batch_size = 8: must be a multiple of 3, which is train.accumulate = 3 times the 1",
    "mesh.data=8 train.batch_size=12": "train.batch_size = 12: must be a multiple of 8, which is train.accumulate = 1",
    "mesh.data=16": "mesh: data = 16, fsdp = 1, model = 1 do not fit the 8 devices",
    "mesh.data=-1 mesh.model=3": "mesh: fsdp = 1, model = 3 do not fit the 8 devices; their product must divide that",
    "mesh.data=0": "mesh.data = 0: must be a positive integer, or -1 for what is left",
    "mesh.data=-2": "mesh.data = -2: must be at least -1",
    "mesh.data=-1 mesh.fsdp=-1": "mesh.fsdp = -1: only one axis can take what is left, and mesh.data does",
    "train.patience=3 data.test_fraction=0": "train.patience = 3: there is no test part",
    # The model.
    "model.keep_prob=nan": "[model] mlp: keep_prob is the fraction kept, in (0, 1], got nan",
    "model.rate=2": "[model] mlp: rate is the fraction dropped, in [0, 1), got 2.0",
    "model.keep_prob=2": "[model] mlp: keep_prob is the fraction kept, in (0, 1], got 2.0",
    "model.widths=[0]": "[model] Linear: features is 0, and must be a positive integer",
    "model.activation=gleu": "[model] unknown activation 'gleu'; did you mean 'gelu'?",
    "model.outputs=5": "model.outputs = 5: the data have 10; leave the key out, and it is theirs",
    "model='{name=\"mpl\"}'": "model.name = 'mpl': did you mean 'mlp'?",
    "model.name=gpt": "unknown key 'model.widths' for gpt; did you mean 'model.width'?",
    "model='{name=\"gpt\"}'": "model.vocabulary is not set, and gpt needs it; add it to [model]",
    gpt("vocabulary=2"): "model.vocabulary = 2: the data have 3; leave the key out, and it is theirs",
    gpt("context=4"): "LearnedPositions(length=4) has 4 positions, and 8 are asked of it",
    gpt('positions="rpoe"'): "model.positions = 'rpoe': did you mean 'rope'?",
    gpt("ratio=0.001"): "positive integer",
    # Functions of the user's.
    mine("missing"): "model.name = 'mine:missing': mine has no 'missing'",
    mine("value"): "model.name = 'mine:value': expected a function, got int",
    "model='{name=\"nowhere:f\"}'": "model.name = 'nowhere:f': there is no module 'nowhere' on the path; go to",
    mine("raises"): "[model] mine:raises: ValueError: a bug of mine (",
    mine("fails_in_init"): "the model's init fails: RuntimeError: no init (",
    mine("fails_in_apply"): "the model fails: TypeError: ",
    mine("none"): "model is None, and must be a layer, or a function of params and inputs",
    mine("linear"): "model.width is not set, and mine:linear needs it; add it to [model]",
    "model='{name=\"mine:linear\", width=1.5}'": "model.width = 1.5: expected an integer, got float",
    "model='{name=\"mine:linear\", widht=1}'": "unknown key 'model.widht' for mine:linear; did you mean 'model.width'?",
    "task.name=mine:loss": "the loss fails: ",
    "task.name=mine:no_number": "the loss returns (float32[8,10], int32[8]) for a batch of 8, and must return a number",
    "task.name=mine:three": "the loss returns float32[3] for a batch of 8, and must return a number for each example",
    "task.name=mine:raises": "the loss fails: TypeError: raises() takes 0 positional arguments but 2 were given",
    "data='{name=\"mine:no_dataset\"}'": "data.name = 'mine:no_dataset': it returns 3, and must return a Dataset",
    "data='{name=\"mine:raises\"}'": "[data] mine:raises: ValueError: a bug of mine (",
    # Tasks that are not for the data, and data that are not for the model.
    "task.name=clasification": "task.name = 'clasification': did you mean 'classification'?",
    "task.name=regression": "regression: the model's outputs have shape [8, 10] and the targets [8]; set the",
    "task.name=next_token": "next_token: a batch of the data is (float32[8,8,8], int32[8]), and must be tokens",
    "task.name=elbo": "elbo: the model returns float32[8,10], and must return logits, mean and log-variance",
    "task.name=elbo model='{name=\"vae\"}'": "pixels must be from 0 to 1; for data of images set standardise = false",
    "model='{name=\"vae\"}'": "classification: the model returns (float32[8,8,8], float32[8,8], float32[8,8])",
    DIABETES: "classification: the targets are float32[8,1], and must be labels, which are integers",
    f"{DIABETES} model='{{name=\"cnn\"}}' task.name=regression": "layer 'images': the input has shape (8, 10), and",
    f"{DIABETES} task.name=regression augment.crop.padding=1": "[augment.crop] crop: images is float32[8, 10], and",
    "augment.crop.padding=-1": "[augment.crop] crop: padding is -1, and must be an int, 0 or more",
    "data='{name=\"mine:wide\"}' task.name=regression model.outputs=3": "have shape [8, 3] and the targets [8, 2]",
    "data='{name=\"mine:hole_in_targets\"}' task.name=regression model.outputs=1": "a target of the data is inf, at",
    "data='{name=\"mine:small_test\"}'": "classification: the targets are float32[1,2], and must be labels",
    "data='{name=\"mine:labels\"}'": "classification: a label of the data is 19, and the model has outputs for 0 to 2",
    gpt("tied=true").replace(TEXT, "data='{name=\"mine:tokens\"}' task.name=next_token"): "a token of the data is 70",
    # Files.
    "data.name=sv": "data.name = 'sv': did you mean 'csv'?",
    f"{TEXT} data.path=no.txt {mine('none')}": "[data] path = 'no.txt': there is no such file; did you mean 't.txt'?",
    f"{TEXT} data.context=0 {mine('none')}": "[data] context = 0: must be at least 1",
    f"{TEXT} data.context=9000 {mine('none')}": "and must have 9001 at least; lower context, or take more text",
    "data='{name=\"csv\"}'": "data.path is not set, and csv needs it; add it to [data]",
    'data=\'{name="csv", path="no.csv"}\'': "[data] path = 'no.csv': there is no such file",
    'data=\'{name="csv", path="t.csv"}\'': "t.csv",
    'data=\'{name="idx", path="nowhere"}\'': "[data] path = 'nowhere' is not there, and must be a folder",
    'data=\'{name="arrays_file", path="t.npz"}\'': "[data] 't.npz' has no array 'x'; expected one of ",
    'data=\'{name="arrays_file", path="t.txt"}\'': "t.txt",
    # The folder of the run.
    "run.folder=tiny.toml": "run.folder = 'tiny.toml' is a file; choose a folder",
    "run.folder=tiny.toml/run": "cannot write to run.folder = 'tiny.toml/run'",
    "run.folder=.": "run.folder = '.' holds files but no run; choose a new or an empty folder",
    "run.folder=/proc/run": "cannot write to run.folder = '/proc/run'",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "t.txt").write_text("ab " * 500)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    np.savez(tmp_path / "t.npz", y=np.ones(3))
    return tmp_path


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder): path.read_bytes() for path in files}


def refuse(capsys, folder, argv, parts):
    before = contents(folder)
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dlfn: error: ")
    assert printed.err.count("\n") == 1
    for part in parts:
        assert part in printed.err
    assert contents(folder) == before


@pytest.mark.parametrize("overrides", CASES)
def test_it_is_refused_before_anything_is_written(folder, capsys, overrides):
    refuse(capsys, folder, ["train", "tiny.toml", *shlex.split(overrides)], [CASES[overrides]])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def as_unfinished(run):
    (run / "finished.json").unlink()


def damaged(run):
    as_unfinished(run)
    for path in (run / "checkpoints").glob("*/meta.json"):
        flip(path)


def of_another_model(run):
    as_unfinished(run)
    for name in ("config.toml", "killed.toml"):
        path = run / name if name == "config.toml" else run.parents[1] / "tiny.toml"
        path.write_text(path.read_text().replace("widths = [4]", "widths = [5]"))


def gone(run):
    shutil.rmtree(run / "checkpoints")


def no_longer_json(run):
    (run / "finished.json").write_text("{")


def no_longer_toml(run):
    (run / "config.toml").write_text("= 3")


def a_file_for_checkpoints(run):
    gone(run)
    (run / "checkpoints").write_text("mine")


CHANGES = {
    damaged: ["no checkpoint in ", "is whole: step 2: file meta.json was changed; step 1: ", "start anew in another"],
    of_another_model: [
        "leaf 'carry/params/hidden_0/linear/b' is float32[4], and here it is float32[5]",
        "another model",
    ],
    gone: ["is finished, and its checkpoints are gone; load its parameters with dlfn.train.load"],
    no_longer_json: ["finished.json' is not JSON"],
    no_longer_toml: ["cannot read ", "config.toml", "--fresh moves that run aside"],
    a_file_for_checkpoints: ["checkpoints' is a file, and must be the folder of a run; move it elsewhere"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, which each test copies."""
    work = tmp_path_factory.mktemp("finished")
    (work / "tiny.toml").write_text(TINY)
    assert main(["train", str(work / "tiny.toml"), f"run.folder={work / 'run'}"]) == 0
    return work / "run"


@pytest.fixture
def run(folder, finished):
    return shutil.copytree(finished, folder / "runs" / "tiny")


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_that_was_changed_is_left_as_it_is(folder, run, capsys, change):
    change(run)
    before = contents(folder)
    assert main(["train", "tiny.toml"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    for part in CHANGES[change]:
        assert part in printed
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("override", "part"),
    [
        (
            "train.steps=3",
            "holds a run with train.steps = 2, and now it is train.steps = 3; choose another folder with ",
        ),
        ("model.widths=[5]", "holds a run with model.widths = [4], and now it is model.widths = [5]"),
        ("gradient=backprop", 'holds a run with gradient = "hand", and now it is gradient = "backprop"'),
    ],
)
def test_a_run_of_other_settings_is_left_as_it_is(folder, run, capsys, override, part):
    refuse(capsys, folder, ["train", "tiny.toml", override], [part, "--fresh"])


def test_a_run_in_use_is_left_alone(folder, run, capsys):
    holder = RunFolder(run, (run / "config.toml").read_text())
    holder.start()
    as_unfinished(run)
    before = contents(folder)
    assert main(["train", "tiny.toml"]) == 2
    assert "is in use by another run; wait for its end, or choose another folder" in capsys.readouterr().err
    assert contents(folder) == before
    holder.close()


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["evaluate", "nowhere"], "'nowhere' holds no run: there is no config.toml in it"),
        (["sample", "nowhere"], "'nowhere' holds no run: there is no config.toml in it"),
        (["sample", "runs/tiny"], "the run in 'runs/tiny' is not of text with a known vocabulary"),
        (["configs", "digits_mpl"], "no configuration 'digits_mpl'; did you mean 'digits_mlp'?"),
        (["train", "tiny.tolm"], "no configuration at 'tiny.tolm'; did you mean 'tiny.toml'?"),
        (["train", "mine.py"], "'mine.py' is not TOML"),
        (["train", "t.npz"], "'t.npz' is not TOML"),
        (["train", "runs"], "cannot read the configuration 'runs': Is a directory"),
    ],
)
def test_the_other_commands_and_files_that_are_no_configuration(folder, run, capsys, argv, part):
    refuse(capsys, folder, argv, [part])


def test_there_are_enough_kinds():
    assert len(CASES) + len(CHANGES) >= 100
    assert not Path("mine.py").exists()
