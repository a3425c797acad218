"""Training: any dispatch size and any gradient gives the same parameters, and a run's folder holds what it says."""

import itertools
import json
import sys
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dlfn
from dlfn import nn
from dlfn.cli import main
from dlfn.train import Plan, TrainingError, data, load, load_config, train
from dlfn.train.config import Schedule
from dlfn.train.diagnosis import first_bad_step
from dlfn.train.optimizer import make_optimizer, make_schedule
from dlfn.train.progress import progress
from dlfn.train.step import Learner, Metrics, make_dispatch
from dlfn.train.tasks import Classification
from dlfn.weights import load_safetensors

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = """
[model]
widths = [8]
keep_prob = 0.9
[train]
steps = 7
batch_size = 16
steps_per_dispatch = 3
log_every = 2
eval_every = 4
compare = false
[mesh]
data = 1
"""


@pytest.fixture
def configure(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return lambda *overrides: load_config(path, [f"run.folder={tmp_path / 'run'}", *overrides])


def _leaves(folder):
    return {
        name.removeprefix("params/"): leaf for name, leaf in load_safetensors(folder / "params.safetensors").items()
    }


def test_a_run_leaves_configuration_metrics_and_parameters(configure, tmp_path, capsys):
    config = configure()
    trained = train(config)
    folder = tmp_path / "run"
    names = ["checkpoints", "config.toml", "environment.jsonl", "finished.json", "metrics.jsonl", "params.safetensors"]
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == names
    assert load_config(folder / "config.toml") == config
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4, 6, 7]
    assert [line["step"] for line in lines if "test/accuracy" in line] == [4, 7]
    assert lines[-1] == {"step": 7, **trained.metrics}
    assert _leaves(folder).keys() == {"hidden_0/linear/w", "hidden_0/linear/b", "logits/w", "logits/b"}
    np.testing.assert_array_equal(_leaves(folder)["logits/w"], trained.params["logits"]["w"])
    printed = capsys.readouterr().out
    for part in ("hidden_0/linear", "compiled in", "steps/s", "test/accuracy"):
        assert part in printed


def test_a_fresh_run_moves_an_earlier_one_aside_and_nothing_else(configure, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(dlfn.InputError, match=r"run\.folder = .* holds files but no run; choose"):
        train(configure(), quiet=True)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()

    train(configure("train.steps=1"), quiet=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(dlfn.InputError, match=r"holds a run with seed = 0, and now it is seed = 1; .* --fresh"):
        train(configure("train.steps=1", "seed=1"), quiet=True)
    train(configure("train.steps=2", "seed=1"), fresh=True, quiet=True)
    assert tomllib.loads((folder / "config.toml").read_text())["seed"] == 1
    assert (tmp_path / "run.1" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("sizes", [(1, 3), pytest.param((1, 3, 50), marks=pytest.mark.exhaustive)])
def test_how_many_steps_share_a_dispatch_makes_no_difference(configure, tmp_path, sizes):
    results = []
    for size in sizes:
        train(configure(f"train.steps_per_dispatch={size}"), fresh=True, quiet=True)
        results.append(_leaves(tmp_path / "run"))
    for other in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), results[0], other)


@pytest.mark.parametrize("steps", [60, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_the_three_gradients_train_to_the_same_parameters(configure, tmp_path, x64, steps):
    results = {}
    for gradient in ("hand", "backprop", "autodiff"):
        overrides = f"gradient={gradient}", f"train.steps={steps}", "model.residual=true", "model.widths=[8, 8]"
        train(configure(*overrides, "train.save_every=0", "train.steps_per_dispatch=50"), fresh=True, quiet=True)
        results[gradient] = _leaves(tmp_path / "run")
    for gradient, leaves in results.items():
        for path, leaf in leaves.items():
            assert leaf.dtype == np.float64
            error = np.linalg.norm(leaf - results["autodiff"][path]) / np.linalg.norm(leaf)
            assert error <= 1e-9, (gradient, path)


def test_a_dispatch_donates_its_carry_and_equals_a_plain_loop():
    model, optimizer = nn.Linear(3), optax.sgd(0.1)
    x, y = jax.random.normal(jax.random.key(0), (6, 2)), jnp.array([0, 1, 2, 0, 1, 2], jnp.int32)
    params, state = model.init(jax.random.key(1), x)
    expected, indices = jax.tree.map(jnp.copy, params), jnp.array([[0, 1], [4, 3], [5, 2]])
    for rows in indices:
        loss = lambda p, rows=rows: optax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
            x[rows] @ p["w"] + p["b"], y[rows]
        ).mean()
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, expected, jax.grad(loss)(expected))
    source, learner = data.arrays(np.asarray(x), np.asarray(y)).train, Learner(model, Classification(), optimizer)
    carry, metrics = make_dispatch(learner, source)(
        learner.start(params, state), source.resident(), jax.random.key(2), jnp.int32(0), indices
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), carry.params, expected)
    assert metrics.loss.shape == (3,)
    assert metrics.alive.all()
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.name=adm"], "optimizer.name = 'adm': did you mean 'adam'?"),
        (["optimizer.wieght_decay=1"], "'optimizer.wieght_decay' for adamw; did you mean 'optimizer.weight_decay'?"),
        (["optimizer.name=sgd", "optimizer.b1=0.9"], "unknown key 'optimizer.b1' for sgd; expected one of "),
        (
            ["optimizer.name=sgd", "optimizer.weight_decay=1e-2"],
            "optimizer='{name = \"sgd\", learning_rate = 0.001}' drops",
        ),
        (["optimizer.learning_rate=fast"], "optimizer.learning_rate = 'fast': expected a number, got str"),
        (["optimizer.nesterov=1"], "optimizer.nesterov = 1: expected true or false, got int"),
        (["train.batch_size=2000"], "train.batch_size = 2000: there are only 1437 training examples"),
    ],
)
def test_bad_input_stops_before_anything_is_written(configure, tmp_path, overrides, message):
    with pytest.raises(dlfn.InputError) as caught:
        train(configure(*overrides), quiet=True)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_every_optimizer_on_offer_takes_a_step():
    from dlfn.train.optimizer import _NAMES

    params = {"w": jnp.ones((3, 3))}
    for name in _NAMES:
        optimizer = make_optimizer({"name": name, "learning_rate": 1e-3}, Schedule(), 7)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert jnp.isfinite(updates["w"]).all(), name


def test_schedules_warm_up_to_the_peak_and_fall_to_the_end():
    for name, last in (("constant", 2.0), ("linear", 0.2), ("cosine", 0.2)):
        schedule = make_schedule(Schedule(name, warmup=0.1, end=0.1), 2.0, 100)
        rates = [float(schedule(step)) for step in range(101)]
        assert 0 < rates[0] < rates[5] < rates[10] == 2
        assert rates[100] == pytest.approx(last)
        assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert float(make_schedule(Schedule("cosine"), 2.0, 1)(0)) == 2


def test_a_loss_that_is_not_finite_names_step_and_leaf(configure, tmp_path):
    with pytest.raises(TrainingError, match=r"step \d: the loss is (nan|inf)") as caught:
        train(configure("optimizer.name=sgd", "optimizer.learning_rate=1e38"))
    assert "inf, forward at " in str(caught.value)
    assert not (tmp_path / "run" / "params.safetensors").exists()

    paths, alive = ["a/w", "b/0", "b/1"], np.array([True, False, False])
    norms = np.array([[1, 1, 1], [1, np.nan, 1], [1, 1, 1]])
    for start, losses, expected in (
        (10, [1, np.nan, 1], "step 12: the loss is nan"),
        (0, [1, 1, 1], "step 2: the loss is 1"),
    ):
        metrics = Metrics(np.array(losses), {}, norms, np.ones(3), alive)
        step, message = first_bad_step(start, metrics, paths)
        assert step == start + 1
        assert message.startswith(f"{expected}, and the first leaf whose gradient is not finite is 'b/0'; try a lower ")
    assert first_bad_step(0, metrics._replace(alive=np.ones(3, bool)), paths) is None


def test_a_terminal_shows_a_bar_and_the_same_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    with progress(4) as shown:
        shown.advance(2)
        shown.report(2, {"train/loss": 0.5})
        shown.advance(4)
    printed = capsys.readouterr().out
    assert "step      2  train/loss 0.5" in printed
    assert "4/4" in printed


def test_chunks_end_where_something_is_due_so_that_a_resumed_run_has_the_same():
    for steps, every, save, full in itertools.product(range(1, 10), range(5), range(5), range(1, 5)):
        chunks = Plan(steps=steps, eval_every=every, save_every=save, steps_per_dispatch=full).chunks(0)
        starts, stops = zip(*chunks, strict=True)
        assert (starts, stops[-1]) == ((0, *stops[:-1]), steps)
        assert all(0 < stop - start <= full for start, stop in chunks)
        for at in (at for at in range(1, steps) if (every and at % every == 0) or (save and at % save == 0)):
            assert at in stops
            assert Plan(steps=steps, eval_every=every, save_every=save, steps_per_dispatch=full).chunks(at) == [
                chunk for chunk in chunks if chunk[0] >= at
            ]


def test_the_best_checkpoint_can_be_loaded_and_evaluated(configure, tmp_path, capsys):
    train(
        configure("train.save_every=1", "train.eval_every=1", "train.steps=4", "optimizer.learning_rate=1"), quiet=True
    )
    folder = tmp_path / "run"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["test/loss"] for line in lines if "test/loss" in line]
    assert losses[-1] > min(losses)
    assert main(["evaluate", str(folder), "--best"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(min(losses), rel=1e-5)
    assert not np.array_equal(load(folder, best=True).params["logits"]["w"], load(folder).params["logits"]["w"])
