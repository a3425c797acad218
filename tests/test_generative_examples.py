"""The scripts about distributions: few steps of each, and what they print and draw."""

import importlib.util
import runpy
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
EXAMPLES = {
    "vae_digits": (["--steps", "20", "--batch-size", "32"], ["training ELBO", "of KL"]),
    "vib_digits": (["--steps", "20"], ["test accuracy", "0.0001"]),
    "bayes_regression": (["--steps", "300"], ["nats per point after 300 steps", "deviation of the predictions"]),
    "vanishing_gradients": (["--steps", "20"], ["k = 20", "LSTM, forget bias 1"]),
}


def run(script, *arguments):
    return runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"](arguments)


@pytest.mark.parametrize("script", EXAMPLES)
def test_example(script, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws the plots")
    arguments, words = EXAMPLES[script]
    if script == "vae_digits" and importlib.util.find_spec("torch"):
        arguments, words = [*arguments, "--against", "pytorch"], [*words, "our loss over theirs 1.0000"]
    plot = tmp_path / "plot.png"
    assert run(script, *arguments, "--plot", str(plot)) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in [*words, str(plot)])
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("script", EXAMPLES)
def test_help_and_bad_input(script, capsys):
    for arguments, code, word in ((["--help"], 0, "--plot FILE"), (["--steps", "0"], 2, "'0' is not a whole number")):
        with pytest.raises(SystemExit) as stopped:
            run(script, *arguments)
        assert stopped.value.code == code
        assert word in "".join(capsys.readouterr())
