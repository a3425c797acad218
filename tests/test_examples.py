"""The example scripts run and print what they found."""

import importlib.util
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

# Script, arguments, words of its output. {folder} is a temporary one; every file that a script is told to write there
# must exist afterwards.
EXAMPLES = [
    ("nand_perceptron", [], ["[-2, -2, -2]", "converged after 3 passes: w = [2, -2, -2]"]),
    ("regressions", ["--steps", "10000"], ["R² = 0.5177; scikit-learn's 0.5177", "both agree with scikit-learn"]),
    ("pca_digits", ["--plot", "{folder}/pca.png"], ["10 components explain 73.8%", "pca.png"]),
]


@pytest.mark.parametrize(("script", "arguments", "words"), EXAMPLES, ids=[script for script, *_ in EXAMPLES])
def test_example(script, arguments, words, tmp_path, monkeypatch, capsys):
    if any(argument.endswith(".png") for argument in arguments):
        pytest.importorskip("matplotlib", reason="matplotlib draws the plots")
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert load(script).main(arguments) in (0, None)
    printed = capsys.readouterr().out
    for word in words:
        assert word in printed
    for argument in arguments:
        if argument.startswith(str(tmp_path)):
            assert Path(argument).stat().st_size > 0


@pytest.mark.parametrize("script", [script for script, *_ in EXAMPLES])
def test_help(script, capsys):
    with pytest.raises(SystemExit) as stopped:
        load(script).main(["--help"])
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out


def load(script):
    spec = importlib.util.spec_from_file_location(f"example_{script}", SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
