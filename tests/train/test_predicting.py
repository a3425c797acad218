"""What is done with a finished run, for every task: predictions, a program for jax alone, and outputs in the report."""

import json
import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from dlfn import ops, train
from dlfn.cli import main
from dlfn.train.commands.sample import _beginning
from dlfn.train.data import digit_images
from dlfn.train.data.texts import text_codec
from dlfn.train.parts import make_data
from dlfn.train.predicting import read_inputs
from dlfn.train.reporting import outcomes

# Data of the user's own, in bytes, whose classes have names.
MODULE = """
from dlfn.train.data import digit_images
from dlfn.train.data.in_memory import labelled, scaled
def data():
    images, labels = digit_images()
    images, labels = images[:40], labels[:40]
    return labelled((images, labels), (images, labels), scaled(images, True, 16), labels=("<script>", *"123456789"))
"""
TINY = """
[train]
steps = 1
batch_size = 4
eval_batch = 512
eval_batches = 1
[mesh]
data = 1
[optimizer]
name = "sgd"
learning_rate = 0.1
"""
RUNS = {
    "classification": '[data]\nname = "classes_in_bytes:data"\n[model]\nwidths = [4]\n',
    "regression": '[data]\nname = "diabetes"\n[model]\nwidths = [4]\n[task]\nname = "regression"\n',
    "elbo": '[data]\nstandardise = false\n[model]\nname = "vae"\nwidths = [4]\nlatent = 2\n[task]\nname = "elbo"\n',
    "next_token": (
        '[data]\nname = "text"\npath = "{folder}/text.txt"\ncontext = 4\n'
        '[model]\nname = "lstm"\nwidth = 4\n[task]\nname = "next_token"\n'
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where the runs are, and the module of the data of one."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "classes_in_bytes.py").write_text(MODULE)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def run_of(runs):
    """The folder of a task's run, which the first test that asks for it trains. The text of one is gone afterwards."""

    def run_of(name):
        if not (runs / name).exists():
            (runs / "text.txt").write_text("a <b> c\n" * 40)
            path = runs / f"{name}.toml"
            path.write_text(RUNS[name].replace("{folder}", str(runs)) + TINY)
            train.train(train.load_config(path, [f"run.folder={runs / name}"]), quiet=True)
            (runs / "text.txt").unlink()
        return runs / name

    return run_of


def applied(loaded, x):
    return loaded.model.apply(loaded.params, loaded.state, x)[0]


def test_classes_have_their_names_and_inputs_are_in_bytes(runs, run_of, capsys):
    loaded = train.load(run_of("classification"))
    images = digit_images()[0][:5]
    predictions = train.predict(loaded, images)
    logits = applied(loaded, make_data(loaded.config).test.rows(0, 5)[0])
    assert [p["label"] for p in predictions] == [loaded.info["labels"][i] for i in logits.argmax(-1)]
    np.testing.assert_allclose([p["probability"] for p in predictions], jax.nn.softmax(logits).max(-1), rtol=1e-5)

    np.save(runs / "images.npy", images)
    assert main(["predict", str(run_of("classification")), str(runs / "images.npy"), "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == predictions
    np.savez(runs / "one.npz", anything=images)
    assert read_inputs(loaded, str(runs / "one.npz")).shape == (5, 8, 8)


def test_a_regression_predicts_in_the_units_of_its_target(runs, run_of, capsys):
    from importlib.resources import files

    loaded = train.load(run_of("regression"))
    header, *lines = (files("dlfn.train") / "diabetes" / "diabetes.csv").read_text().splitlines()
    columns = [*range(1, len(header.split(","))), 0]  # in another order, and with the target
    moved = [",".join(line.split(",")[i] for i in columns) for line in (header, *lines)]
    (runs / "patients.csv").write_text("\n".join(moved))
    predictions = [p["prediction"] for p in train.predict(loaded, read_inputs(loaded, str(runs / "patients.csv")))]
    offset, unit = loaded.info["target_scale"]
    data = make_data(loaded.config)
    theirs = [np.ravel(applied(loaded, part.rows(0, part.size)[0])) for part in (data.train, data.test)]
    np.testing.assert_allclose(
        sorted(predictions), sorted(np.concatenate(theirs) * unit + offset), rtol=1e-4, atol=1e-4
    )
    assert main(["predict", str(run_of("regression")), str(runs / "patients.csv")]) == 0
    assert float(capsys.readouterr().out.split()[0]) == pytest.approx(predictions[0], rel=1e-5)


def test_a_text_goes_on_without_what_was_trained_on(runs, run_of, capsys):
    (prediction,) = train.predict(run_of("next_token"), "a <b> c", top=3)
    loaded = train.load(run_of("next_token"))
    logits = applied(loaded, np.asarray(loaded.info["encode"]("b> c"), np.int32)[None])[0, -1]
    probabilities = jax.nn.softmax(logits)
    best = loaded.info["decode"]([int(logits.argmax())])
    assert len(prediction["next"]) == 3
    assert prediction["next"][0] == {"token": best, "probability": pytest.approx(float(probabilities.max()), rel=1e-5)}
    assert main(["predict", str(run_of("next_token")), "a <b>"]) == 0
    assert main(["sample", str(run_of("next_token")), "--prompt", "a", "--length", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()[-1]) >= 1


def test_a_sample_begins_with_a_new_line_or_else_with_the_first_token():
    for content, expected in {"\nab": "\n", "ab": "a"}.items():
        assert _beginning(text_codec("characters", content)._asdict()) == expected


@pytest.mark.exhaustive
def test_an_autoencoder_gives_codes(run_of):
    assert np.shape(train.predict(run_of("elbo"), digit_images()[0][:3])[0]["code"]) == (2,)


LONE = """
import sys
sys.path[:] = [path for path in sys.path if path != {here!r}]
import jax, numpy as np
from jax import export
assert not any(name.startswith("dlfn") for name in sys.modules)
for name in {names}:
    model = export.deserialize(bytearray(open(f"{folder}/{{name}}/export/model.jaxexport", "rb").read()))
    assert model.platforms == ("cpu", "cuda", "tpu")
    x = np.load(f"{folder}/{{name}}.npy")
    y = model.call(x)
    y = y["mean"] if isinstance(y, dict) else y
    np.testing.assert_allclose(y, np.load(f"{folder}/{{name}}_outputs.npy"), rtol=1e-4, atol=1e-5)
    if x.dtype.kind == "f":
        assert jax.grad(lambda x: jax.tree.leaves(model.call(x))[0].sum())(x).shape == x.shape
print("equal")
"""


@pytest.mark.parametrize(
    "names", [["next_token", "regression"], pytest.param(["classification", "elbo"], marks=pytest.mark.exhaustive)]
)
def test_what_is_exported_runs_where_there_is_jax_alone(runs, run_of, names):
    for name in names:
        folder = train.export(run_of(name))
        assert sorted(path.name for path in folder.iterdir()) == ["model.jaxexport", "params.safetensors"]
        loaded = train.load(run_of(name))
        x = np.zeros((3, *loaded.inputs.shape[1:]), loaded.inputs.dtype)  # training had four examples
        outputs = applied(loaded, x)
        np.save(runs / f"{name}.npy", x)
        np.save(runs / f"{name}_outputs.npy", outputs.mean if name == "elbo" else outputs)
    code = textwrap.dedent(LONE).format(here=os.getcwd(), names=names, folder=runs)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=runs, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("classification", ["test examples are right", "&lt;script&gt;", 'class="confusion"']),
        ("regression", ["test targets", "predicted progression"]),
        pytest.param(
            "elbo", ["12 test images", "data:image/png;base64", "reconstruction 12"], marks=pytest.mark.exhaustive
        ),
        ("next_token", ["drawn at temperature", "<pre>"]),
    ],
)
def test_the_report_shows_what_a_model_does(runs, run_of, monkeypatch, name, words):
    monkeypatch.setattr(outcomes, "_LENGTH", 5)
    page = train.report(run_of(name), runs / "page.html").read_text()
    for word in words:
        assert word in page
    assert page.count("<script") == 1
    assert "orbax-checkpoint" in page


def test_the_report_says_why_outputs_are_left_out(runs, run_of, monkeypatch):
    folder = run_of("classification")
    monkeypatch.setitem(sys.modules, "classes_in_bytes", None)  # as if it were not there
    page = train.report(folder, runs / "page.html").read_text()
    assert "left out: " in page
    assert "no module &#x27;classes_in_bytes&#x27;" in page


BAD = {
    "shape": ("classification", np.ones((2, 9)), ["(2, 9)", "(examples, 8, 8)"]),
    "text_for_images": ("classification", "abc", ["inputs are text", "give arrays"]),
    "objects": ("classification", np.full((1, 8, 8), None), ["dtype object", "numbers"]),
    "nan": ("classification", np.full((1, 8, 8), np.nan), ["not finite"]),
    "none": ("classification", np.ones((0, 8, 8)), ["no examples"]),
    "empty_text": ("next_token", "", ["text is empty"]),
    "unknown_character": ("next_token", "z", ["character 'z'"]),
    "token_beyond": ("next_token", np.full((1, 3), 99), ["tokens", "from 0 to"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs_are_refused(run_of, refused, case):
    name, inputs, parts = BAD[case]
    refused(lambda: train.predict(run_of(name), inputs), parts)


def test_bad_files_and_folders_are_refused(runs, run_of, refused):
    loaded = train.load(run_of("regression"))
    (runs / "few.csv").write_text("age,sex\n1,2\n")
    refused(lambda: read_inputs(loaded, str(runs / "few.csv")), ["no column 'bmi'"])
    (runs / "words.csv").write_text("1,2\na,b\n")
    refused(lambda: read_inputs(loaded, str(runs / "words.csv")), ["no table of numbers"])
    refused(lambda: read_inputs(loaded, str(runs / "image.png")), ["image.png"])
    np.savez(runs / "two.npz", a=1, b=2)
    refused(lambda: read_inputs(loaded, str(runs / "two.npz")), ["no array 'x'"])
    refused(lambda: train.export(run_of("regression"), run_of("regression")), ["is that of the run"])
    (runs / "file").write_text("")
    refused(lambda: train.export(run_of("regression"), runs / "file" / "below"), ["cannot write"])
    refused(lambda: train.report(run_of("regression"), runs / "file" / "page.html"), ["cannot write"])


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_is_read_as_the_run_has_read_it(runs, delimiter):
    """Without a header, and with numbers that are those of columns."""
    path = runs / f"table{ord(delimiter)}.csv"
    path.write_text("".join(delimiter.join(map(str, (i % 4, i % 3, i % 2))) + "\n" for i in range(12)))
    config = f'[data]\nname = "csv"\ntarget = 1\npath = "{path}"\ndelimiter = "{delimiter}"\n{RUNS["regression"]}'
    path.with_suffix(".toml").write_text(config.replace('[data]\nname = "diabetes"\n', "") + TINY)
    run = path.with_suffix("")
    train.train(train.load_config(path.with_suffix(".toml"), [f"run.folder={run}"]), quiet=True)
    loaded = train.load(run)
    np.testing.assert_array_equal(read_inputs(loaded, str(path)), [[i % 4, i % 2] for i in range(12)])


def test_evaluation_is_on_all_test_data_and_on_the_devices_that_there_are(run_of):
    folder = run_of("elbo")
    config, loaded = folder / "config.toml", train.load(folder)
    config.write_text(
        config.read_text().replace("eval_batch = 512", "eval_batch = 100").replace("data = 1", "data = 64")
    )
    measured = train.evaluate(folder)
    x, _ = make_data(loaded.config).test.rows(0, 360)
    (logits, _, _), _ = loaded.model.apply(loaded.params, loaded.state, x)
    pixels = ops.binary_cross_entropy(logits.reshape(360, -1), x.reshape(360, -1), reduction="none").sum(-1)
    assert measured["reconstruction"] == pytest.approx(float(pixels.mean()), rel=1e-5)
