"""Configuration: nothing is ignored, and every mistake is named with its path."""

import pytest

import dlfn
from dlfn.train.config import Choice, Config, load, to_toml


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "example.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults_files_and_overrides_in_that_order(toml):
    path = toml("seed = 3\n[model]\nwidths = [8, 4]\n[train]\nsteps = 7")
    config = load(path, ["train.steps=9", "model.activation=relu", "run.folder=1", "optimizer.b1=0.5"])
    assert (config.seed, config.model.settings["widths"], config.train.steps) == (3, (8, 4), 9)
    assert config.model.settings["activation"] == "relu"
    assert config.run.folder == "1"
    assert config.optimizer == {"name": "adamw", "learning_rate": 1e-3, "b1": 0.5}
    assert load(path).run.folder == "runs/example"
    assert load(path).schedule == Config(run=config.run).schedule


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("model.widths=[3]", (3,)),
        ("model.keep_prob=1", 1.0),
        ("model.activation='relu'", "relu"),
        ("model.activation=relu", "relu"),
        ("data.test_fraction=0", 0.0),
        ("task.label_smoothing=1e-1", 0.1),
        ("train.compare=false", False),
        ("train.ema=0", 0.0),
        ("run.folder=7", "7"),
    ],
)
def test_overrides_are_typed(toml, override, value):
    section, _, key = override.partition("=")[0].partition(".")
    table = getattr(load(toml(""), [override]), section)
    found = table.settings[key] if isinstance(table, Choice) else getattr(table, key)
    assert (found, type(found)) == (value, type(value))


def test_defaults_of_functions_are_written_out_but_not_what_the_data_know(toml):
    config = load(toml(""), ["model.name=gpt", "data.name=text", "task.name=next_token"])
    assert config.model.settings["heads"] == 6
    assert "vocabulary" not in config.model.settings
    assert "context" not in config.model.settings
    assert config.task == Choice("next_token", {})


def test_resolved_configuration_is_read_back_as_it_was(toml):
    config = load(toml(""), ['run.folder=a "quoted" \\ path, ü😀', "optimizer.learning_rate=1e-05", "model.widths=[]"])
    assert load(toml(to_toml(config))) == config
    tables = ["augment.crop.padding=1", "augment.flip={}", "optimizer.groups={'w$' = {name = 'muon'}}"]
    config = load(toml("[mesh]\nfsdp = 2"), [*tables, "optimizer.no_decay=['b$', '\\\\d']"])
    assert load(toml(to_toml(config))) == config


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("[model]\nwdiths = [3]", [], "unknown key 'model.wdiths' for mlp; did you mean 'model.widths'?"),
        ("", ["model.wdiths=[3]"], "unknown key 'model.wdiths' for mlp; did you mean 'model.widths'?"),
        ("", ["steps=3"], "unknown key 'steps'; did you mean 'train.steps'?"),
        ("", ["model.zzz=3"], "unknown key 'model.zzz' for mlp; expected one of model.widths, model.outputs, "),
        ("gradeint = 'hand'", [], "did you mean 'gradient'?"),
        ("gradient = 'hands'", [], "gradient = 'hands': did you mean 'hand'?"),
        ("", ["train.steps=many"], "train.steps = 'many': expected an integer, got str"),
        ("", ["train.steps=true"], "train.steps = True: expected an integer, got bool"),
        ("", ["train.steps=1.5"], "train.steps = 1.5: expected an integer, got float"),
        ("", ["train.steps=0"], "train.steps = 0: must be at least 1"),
        ("", ["model.widths=3"], "model.widths = 3: expected a list, got int"),
        ("", ["model.widths=[3, 'x']"], "model.widths[1] = 'x': expected an integer, got str"),
        ("train = 3", [], "train = 3: expected a table, got int"),
        ("optimizer = 3", [], "optimizer = 3: expected a table, got int"),
        ("run = 3", [], "run = 3: expected a table, got int"),
        ("seed = 3", ["seed.x=1"], "cannot set 'seed.x': 'seed' is no table"),
        ("", ["train.steps"], "expected key=value, such as train.steps=50, got 'train.steps'"),
        ("seed = = 3", [], "is not TOML"),
    ],
)
def test_mistakes_name_path_value_and_fix(toml, text, overrides, message):
    with pytest.raises(dlfn.InputError) as caught:
        load(toml(text), overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_suggests_one_that_exists(toml):
    path = toml("")
    with pytest.raises(dlfn.InputError, match=r"did you mean '.*example\.toml'"):
        load(path.with_name("exampel.toml"))
    with pytest.raises(dlfn.InputError, match="nor is there one of a similar name"):
        load(path.with_name("toml.toml"))  # the endings do not count
    with pytest.raises(dlfn.InputError, match="nor is there one of a similar name"):
        load(path.parent / "nowhere" / "x.toml")
    with pytest.raises(dlfn.InputError, match="cannot read"):
        load(path.parent)
