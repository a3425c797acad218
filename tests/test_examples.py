"""The example scripts: few steps of each, and what they print and draw."""

import importlib.util
import runpy
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

# Script: arguments, words of its output. Where there is a plot, {plot} is its file.
EXAMPLES = {
    "nand_perceptron": ([], ["[-2, -2, -2]", "converged after 3 passes: w = [2, -2, -2]"]),
    "regressions": (["--steps", "10000"], ["R² = 0.5177; scikit-learn's 0.5177", "both agree with scikit-learn"]),
    "pca_digits": (["--plot", "{plot}"], ["10 components explain 73.8%", "{plot}"]),
    "vae_digits": (["--steps", "20", "--batch-size", "32", "--plot", "{plot}"], ["training ELBO", "of KL", "{plot}"]),
    "vib_digits": (["--steps", "20", "--plot", "{plot}"], ["test accuracy", "0.0001", "{plot}"]),
    "bayes_regression": (["--steps", "300", "--plot", "{plot}"], ["nats per point after 300 steps", "{plot}"]),
    "vanishing_gradients": (["--steps", "20", "--plot", "{plot}"], ["k = 20", "LSTM, forget bias 1", "{plot}"]),
}
if importlib.util.find_spec("torch"):
    arguments, words = EXAMPLES["vae_digits"]
    EXAMPLES["vae_digits"] = [*arguments, "--against", "pytorch"], [*words, "our loss over theirs 1.0000"]


def run(script, *arguments):
    return runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"](arguments)


@pytest.mark.parametrize("script", EXAMPLES)
def test_example(script, tmp_path, capsys):
    arguments, words = EXAMPLES[script]
    plot = tmp_path / "plot.png"
    if "{plot}" in arguments:
        pytest.importorskip("matplotlib", reason="matplotlib draws the plots")
    assert run(script, *(argument.format(plot=plot) for argument in arguments)) in (0, None)
    printed = capsys.readouterr().out
    assert [word for word in words if word.format(plot=plot) not in printed] == []
    if "{plot}" in arguments:
        assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("script", EXAMPLES)
def test_help(script, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(script, "--help")
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("script", [script for script, (arguments, _) in EXAMPLES.items() if "--steps" in arguments])
def test_bad_input(script, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(script, "--steps", "0")
    assert stopped.value.code == 2
    assert "--steps" in capsys.readouterr().err
