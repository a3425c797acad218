"""``dlfn explain``, and pages about steps of training."""

import json

import pytest

from dlfn import train
from dlfn.cli import main
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODULE = """
import jax, jax.numpy as jnp

def loss(w, x):
    y = w * x
    return jnp.sum(y**2)

def here():
    return 2.0, jnp.arange(3.0)

@jax.custom_vjp
def double(x):
    return 2 * x

double.defvjp(lambda x: (2 * x, None), lambda _, dy: (3 * dy,))
number, one = 3, (1.0,)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a name that no other test has, in the current folder."""
    name = f"explained_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_of_a_module_is_explained(module, capsys, tmp_path):
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    arguments = ["explain", f"{module}:loss", "--args", f"{module}:here", "-o", str(page), "--json", str(data)]
    assert main(arguments) == 0
    assert "the three gradients agree" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(data.read_text())["title"] == f"{module}:loss"
    assert main(["explain", f"{module}:double", "--args", f"{module}:one"]) == 1


ERRORS = {
    "{m}:loss": "at which arguments",
    "{m}:los --args {m}:here": "did you mean 'loss'?",
    "{m}:number --args {m}:here": "is int, and must be a function",
    "digits_mlp --args {m}:here": "models have their data",
    "{m}:loss a=b --args {m}:here": "'a=b': a key and its value are for a configuration",
    "digits_mlp --examples 0": "argument --examples: is 0",
    "digits_mlp -o nowhere/page.html": "there is no folder 'nowhere'",
    "digits_mpl": "did you mean",
}


@pytest.mark.parametrize("words", ERRORS)
def test_bad_input_of_the_command_is_one_line(words, module, capsys):
    assert main(["explain", *words.format(m=module).split()]) == 2
    error = capsys.readouterr().err
    assert ERRORS[words] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("explained", ordinarily({False}, [False, True]))
def test_a_run_has_pages_of_its_steps_and_is_explained(explained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = ["model.widths=[4]", "train.steps=6", "train.batch_size=8", "run.folder=run", "train.compare=false"]
    assert main(["train", "digits_mlp", *settings, "train.explain_every=4", "train.steps_per_dispatch=8"]) == 0
    pages = sorted(path.name for path in (tmp_path / "run" / "explain").iterdir())
    assert pages == ["step_4.html"]
    report = train.report("run").read_text()
    assert 'href="explain/step_4.html"' in report
    capsys.readouterr()
    if explained:
        assert main(["explain", "run", "--examples", "2"]) == 0
        assert "params/hidden_0/linear/w" in capsys.readouterr().out
