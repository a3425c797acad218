"""The example scripts: few steps of each, and what they print and draw."""

import importlib.util
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats

from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

# Script: arguments, words of its output. Where there is a plot, {plot} is its file.
EXAMPLES = {
    "nand_perceptron": ([], ["[-2, -2, -2]", "converged after 3 passes: w = [2, -2, -2]"]),
    "regressions": (["--steps", "10000"], ["R² = 0.5177; scikit-learn's 0.5177", "both agree with scikit-learn"]),
    "pca_digits": (["--plot", "{plot}"], ["10 components explain 73.8%", "{plot}"]),
    "vae_digits": (["--steps", "4", "--batch-size", "32", "--plot", "{plot}"], ["training ELBO", "of KL", "{plot}"]),
    "vib_digits": (["--steps", "4", "--plot", "{plot}"], ["test accuracy", "0.0001", "{plot}"]),
    "bayes_regression": (["--steps", "30", "--plot", "{plot}"], ["nats per point after 30 steps", "{plot}"]),
    "accelerators": (["--tiny", "--groups", "cross_entropy", "convolutions"], ["dlfn, chunk None", "bottleneck dlfn"]),
    "vanishing_gradients": (["--steps", "4", "--plot", "{plot}"], ["k = 4", "LSTM, forget bias 1", "{plot}"]),
}
if importlib.util.find_spec("torch"):
    arguments, words = EXAMPLES["vae_digits"]
    EXAMPLES["vae_digits"] = [*arguments, "--against", "pytorch"], [*words, "our loss over theirs 1.0000"]


def run(script, *arguments):
    return runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"](arguments)


# A plot, an oracle, a model trained: the others do the same at greater length.
FEW = {"nand_perceptron", "pca_digits", "vib_digits"}


@pytest.mark.parametrize("script", ordinarily(FEW, EXAMPLES))
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


def test_nats_per_point_are_those_of_the_normal_distribution():
    script = runpy.run_path(str(SCRIPTS / "bayes_regression.py"))
    x, y, key = np.linspace(-1, 1, 80, dtype=np.float32)[:, None], np.ones((80, 1), np.float32), jax.random.key(0)
    params, _ = script["MODEL"].init(key, x)
    prediction, _ = script["MODEL"].apply(params, (), x, key=key, train=True)
    kl = sum(layer.kl(params[name]) for name, layer in script["MODEL"].children().items() if params[name])
    expected = -scipy.stats.norm.logpdf(y, prediction, 0.1).mean() + kl / 80
    np.testing.assert_allclose(script["negative_bound"](params, x, y, key), expected, rtol=1e-5)


PLOTTED = [name for name, (arguments, _) in EXAMPLES.items() if "--plot" in arguments]


@pytest.mark.parametrize(
    ("script", "arguments", "package", "message"),
    [(script, [], "matplotlib", 'the plot needs matplotlib: pip install -e ".[examples]"') for script in PLOTTED]
    + [("vae_digits", ["--against", "pytorch"], "torch", "pytorch is not installed: pip install torch")],
)
def test_what_is_not_installed_is_said_before_the_work(
    script, arguments, package, message, capsys, monkeypatch, tmp_path
):
    if package != "matplotlib":
        pytest.importorskip("matplotlib", reason="matplotlib draws the plots")
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    with pytest.raises(SystemExit) as stopped:
        run(script, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("script", PLOTTED)
def test_plots_have_a_folder(script, capsys, monkeypatch, tmp_path):
    """Of their own, unless told; where there can be none, this is said before the work."""
    pytest.importorskip("matplotlib", reason="matplotlib draws the plots")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        run(script, "--help")
    assert f"runs/{script}.png" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        run(script, "--plot", "file/plot.png")
    assert stopped.value.code == 2
    assert "argument --plot" in capsys.readouterr().err


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
