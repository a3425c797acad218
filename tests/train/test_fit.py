"""``fit``: any model, loss, optimiser and data; each of its settings against the same by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from dlfn import InputError, nn, ops, train
from dlfn.train import data
from dlfn.train.config import Schedule
from dlfn.train.engine import make_loop
from dlfn.train.evaluation import Evaluation
from dlfn.train.optimizer import make_optimizer
from dlfn.train.programs import Programs
from dlfn.train.recording import Recorder
from dlfn.train.step import Learner
from dlfn.train.tasks import Classification

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5]).astype(np.float32)
LABELS = np.arange(22) % 3
ONE = train.Placement(data=1)
close = lambda a, b, **tolerance: jax.tree.map(  # noqa: E731
    lambda a, b: np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-6, **tolerance}), a, b
)


def line(params, x):
    return x @ params["w"] + params["b"]


def squares(outputs, targets):
    return (outputs - targets) ** 2


def start():
    return {"w": jnp.array([0.1, 0.2, 0.3]), "b": jnp.array(0.0)}


def fit(model=line, source=None, **settings):
    source = data.arrays(X, Y) if source is None else source
    if model is line:
        settings = {"params": start(), "loss": squares, **settings}
    defaults = {"optimizer": optax.sgd(0.1), "steps": 6, "batch_size": 8, "placement": ONE, "quiet": True}
    return train.fit(model, source, **{**defaults, **settings})


def by_hand(optimizer, steps=6, loss=lambda p, x, y: squares(line(p, x), y).mean(), params=None, source=None):
    """The parameters after each step, in a plain loop."""
    params, source = params or start(), source or data.arrays(X, Y).train
    state, after = optimizer.init(params), []
    for step in range(steps):
        rows = source.draw(0, step, step + 1, 8)[0]
        updates, state = optimizer.update(jax.grad(loss)(params, X[rows], Y[rows]), state, params)
        params = optax.apply_updates(params, updates)
        after.append(params)
    return after


def test_a_pure_function_is_trained_as_by_hand_and_keeps_what_it_was_given():
    params = start()
    result = fit(params=params, optimizer=optax.adam(0.1), metrics={"mae": lambda y, t: jnp.abs(y - t)})
    close(result.params, by_hand(optax.adam(0.1))[-1])
    assert sorted(result.metrics) == ["train/loss", "train/mae"]
    close(params, start())
    assert (result.step, result.stopped, result.state) == (6, None, ())


def test_a_layer_is_initialised_by_the_seed():
    results = [fit(nn.mlp((4,), 1), loss="regression", seed=seed, steps=1).params for seed in (0, 0, 1)]
    close(results[0], results[1], rtol=0, atol=0)
    assert not np.allclose(results[0]["logits"]["w"], results[2]["logits"]["w"])


def test_a_function_may_take_key_and_train():
    def noisy(params, x, *, key, train):
        return line(params, x) + (jax.random.normal(key, ()) if train else 0)

    result = fit(noisy, data.arrays(X, Y, test=(X, Y)), params=start(), loss=squares)
    assert not np.allclose(result.params["w"], by_hand(optax.sgd(0.1))[-1]["w"])
    expected = squares(line(result.params, X), Y).mean()
    assert result.metrics["test/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_the_moving_average_is_that_of_optax():
    result, after = fit(ema=0.9), by_hand(optax.sgd(0.1))
    average = start()
    for params in after:
        average = optax.incremental_update(params, average, 1 - 0.9)
    close(result.params, average)
    close(result.carry.params, after[-1])


def test_parameters_may_be_one_array():
    average, params = jnp.ones(3), jnp.ones(3)
    for step in range(2):
        rows = data.arrays(X, Y).train.draw(0, step, step + 1, 8)[0]
        params = params - 0.1 * jax.grad(lambda p, rows=rows: squares(X[rows] @ p, Y[rows]).mean())(params)
        average = 0.9 * average + 0.1 * params
    close(fit(lambda p, x: x @ p, params=jnp.ones(3), loss=squares, ema=0.9, steps=2).params, average)


@pytest.mark.parametrize("gradient", ["hand", "backprop", "autodiff"])
def test_parts_of_a_batch_add_up_to_it_and_gradients_agree(gradient):
    close(fit(accumulate=4, gradient=gradient).params, by_hand(optax.sgd(0.1))[-1])


def test_clipping_weight_decay_by_path_and_groups_are_those_of_optax():
    settings = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}
    decayed = optax.adamw(0.1, weight_decay=0.5, mask={"w": True, "b": False})
    close(fit(optimizer=make_optimizer(settings, Schedule(), 6)).params, by_hand(decayed)[-1])
    chosen = optax.adamw(0.1, weight_decay=0.5, mask={"w": False, "b": True})
    close(fit(optimizer=make_optimizer({**settings, "no_decay": ["w"]}, Schedule(), 6)).params, by_hand(chosen)[-1])
    grouped = optax.partition({"w": optax.sgd(0.02), "b": optax.adam(0.1)}, {"w": "w", "b": "b"})
    groups = {"^w$": {"name": "sgd", "learning_rate": 0.02}}
    close(fit(optimizer=make_optimizer({**settings, "groups": groups}, Schedule(), 6)).params, by_hand(grouped)[-1])
    clipped = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1))
    plain = {"name": "sgd", "learning_rate": 0.1}
    close(fit(optimizer=make_optimizer(plain, Schedule(), 6, clip_norm=0.1)).params, by_hand(clipped)[-1])


def test_muon_is_for_matrices_and_adamw_for_the_rest():
    params = {"hidden": {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}, "logits": {"w": jnp.ones((3, 2))}}
    grads = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)
    settings = {"name": "adamw", "learning_rate": 0.1, "groups": {r"hidden/w$": {"name": "muon"}}}
    optimizer = make_optimizer(settings, Schedule(), 5)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for own, path in ((optax.contrib.muon(0.1), ("hidden", "w")), (optax.adamw(0.1), ("logits", "w"))):
        leaf = lambda tree, path=path: tree[path[0]][path[1]]  # noqa: E731
        expected, _ = own.update({"w": leaf(grads)}, own.init({"w": leaf(params)}), {"w": leaf(params)})
        close(leaf(updates), expected["w"])
    bias = optax.adamw(0.1, weight_decay=0.0)
    expected, _ = bias.update(grads["hidden"]["b"], bias.init(params["hidden"]["b"]), params["hidden"]["b"])
    close(updates["hidden"]["b"], expected)


def test_parameters_stay_in_float32_while_it_computes_in_bfloat16():
    dtypes = []

    def watching(params, x, train):
        if train:
            dtypes.append((params["w"].dtype, x.dtype))
        return line(params, x)

    result = fit(watching, params=start(), loss=squares, compute_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype("float32")}
    assert set(dtypes) == {(jnp.dtype("bfloat16"), jnp.dtype("bfloat16"))}
    close(result.params, by_hand(optax.sgd(0.1))[-1], rtol=0.05, atol=0.05)
    halved = fit(params_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(halved.params)} == {jnp.dtype("bfloat16")}


def test_augmentation_is_on_the_device_and_by_step():
    shifted = lambda key, batch: (batch[0] + jax.random.normal(key, ()), batch[1])  # noqa: E731
    results = [fit(augment=shifted, steps_per_dispatch=size).params for size in (1, 4)]
    close(*results)
    assert not np.allclose(results[0]["w"], by_hand(optax.sgd(0.1))[-1]["w"])


def test_it_stops_when_the_test_loss_no_longer_falls():
    worse = data.arrays(X, Y, test=(X, -Y))
    result = fit(source=worse, steps=50, eval_every=2, patience=3)
    assert (result.step, result.stopped) == (8, "patience")


def test_a_test_loss_that_is_nan_is_worse_than_any_other(monkeypatch):
    losses = iter([float("nan"), 3.0, 2.0, float("nan"), 2.5])
    monkeypatch.setattr(Evaluation, "__call__", lambda *_: {"loss": next(losses)})
    result = fit(source=data.arrays(X, Y, test=(X, Y)), steps=50, eval_every=1, patience=2)
    assert (result.step, result.stopped) == (5, "patience")


def test_augmentation_has_a_key_of_its_own():
    """Not that of a part of the batch, or of a layer, which have the index for it."""
    learner = Learner(None, Classification(), optax.sgd(0.1), augment=lambda key, _: jax.random.key_data(key))
    key = jax.random.key(0)
    own = learner.augmented((), key)
    for index in range(64):
        assert (own != jax.random.key_data(jax.random.fold_in(key, index))).any()


def test_a_model_can_learn_one_batch_by_heart():
    result = fit(nn.mlp((32,), 3), data.arrays(X, LABELS), loss="classification", optimizer=optax.adam(0.03),
                 steps=150, overfit=1, log_every=50)  # fmt: skip
    assert result.metrics["train/accuracy"] == 1
    assert result.metrics["train/loss"] < 0.05


def test_the_learning_rate_is_recorded(tmp_path):
    rate = optax.linear_schedule(0.1, 0.0, 6)
    fit(optimizer=optax.sgd(rate), learning_rate=rate, log_every=3, folder=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["learning_rate"]) for line in lines] == [(3, float(rate(2))), (6, float(rate(5)))]


def test_a_stream_is_trained_on_as_it_comes():
    batches = lambda: ((X[i : i + 8], Y[i : i + 8]) for i in (0, 8))  # noqa: E731
    result = fit(source=data.stream(batches), steps=4, compare=True)
    params, optimizer = start(), optax.sgd(0.1)
    for x, y in [*batches(), *batches()]:
        grads = jax.grad(lambda p, x=x, y=y: squares(line(p, x), y).mean())(params)
        params = optax.apply_updates(params, optimizer.update(grads, optimizer.init(params))[0])
    close(result.params, params)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_every_example_of_the_test_data_counts_once(reduction):
    """Though the last batch is smaller: 22 examples in batches of 8, on one device and on two."""

    def loss(outputs, labels):
        return ops.softmax_cross_entropy(outputs, labels, reduction=reduction)

    model, source = nn.Linear(3), data.arrays(X, LABELS, test=(X, LABELS))
    result = fit(model, source, loss=loss, eval_batch=8, steps=2)
    expected = ops.softmax_cross_entropy(model.apply(result.params, (), X)[0], LABELS)
    assert result.metrics["test/loss"] == pytest.approx(float(expected), rel=1e-5)
    few = fit(model, source, loss=loss, eval_batch=8, eval_batches=2, steps=2)
    expected = ops.softmax_cross_entropy(model.apply(result.params, (), X[:16])[0], LABELS[:16])
    assert few.metrics["test/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_metric_that_is_a_mean_counts_every_example_once_though_the_loss_is_of_each():
    mean = lambda outputs, targets: jnp.abs(outputs - targets).mean()  # noqa: E731
    result = fit(source=data.arrays(X, Y, test=(X, Y)), metrics={"mae": mean}, eval_batch=8)
    assert result.metrics["test/mae"] == pytest.approx(float(mean(line(result.params, X), Y)), rel=1e-5)


def test_three_gradients_are_compared_before_and_after(capsys):
    fit(nn.Linear(3), data.arrays(X, LABELS), loss="classification", steps=1, compare=True, quiet=False)
    assert capsys.readouterr().out.count("agree: float64") == 2


def test_what_is_no_model_loss_or_setting_is_refused(refused):
    refused(lambda: fit(3, loss=squares), ["model is 3, and must be a layer, or a function of params and inputs"])
    refused(lambda: fit(lambda p, x: x, loss=squares), ["model is a function, and has no init; give params"])
    refused(lambda: fit(loss="regresion"), ["loss is 'regresion', and must be a function of outputs and targets"])
    refused(lambda: fit(loss="regression", metrics={"a": squares}), ["metrics go with a loss function"])
    refused(lambda: fit(batchsize=3), ["fit got an unknown setting 'batchsize'; did you mean 'batch_size'?"])
    refused(lambda: fit(source=(X, LABELS)), ["data is of type tuple", "data.arrays(x, y)", "data.stream(batches)"])
    refused(lambda: fit(optimizer="adam"), ["optimizer is 'adam', and must be one of optax", "optax.adam(1e-3)"])
    refused(lambda: fit(gradient="by hand"), ["gradient is 'by hand', and must be one of hand, backprop, autodiff"])


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_numbers_of_the_data_that_are_not_finite_are_named_with_their_step(where):
    x, y = np.ones((16, 1), np.float32), np.ones(16, np.float32)
    (first,) = data.arrays(x, y).train.draw(0, 0, 1, 8)
    late = np.setdiff1d(np.arange(16), first)[0]  # in no batch before the second
    (x if where == "inputs" else y)[late] = np.nan
    settings = dict(loss="regression", optimizer=optax.sgd(0.1), steps=4, batch_size=8, quiet=True, placement=ONE)
    run = lambda: train.fit(nn.Linear(1), data.arrays(x, y), **settings)  # noqa: E731
    error, message = {
        "targets": (InputError, r"step 2: regression: a target of the data is nan, at \[\d\] of the batch"),
        "inputs": (train.TrainingError, r"step 2: the loss is nan.*an input of the data is nan, at \[\d, 0\]"),
    }[where]
    with pytest.raises(error, match=message):
        run()


def test_what_a_model_leaves_out_may_be_nan():
    x = np.where(np.arange(16)[:, None] % 3 == 0, np.nan, 1).astype(np.float32)
    model = lambda params, x: params * jnp.nan_to_num(x)[:, 0]  # noqa: E731
    source = data.arrays(x, np.ones(16, np.float32))
    settings = dict(loss="regression", optimizer=optax.sgd(0.1), steps=2, batch_size=8, quiet=True, placement=ONE)
    fitted = train.fit(model, source, params=jnp.ones(()), **settings)
    assert np.isfinite(fitted.metrics["train/loss"])


def test_convolutions_on_a_cpu_are_trained_by_one_program_for_one_step():
    """Whose loops would run convolutions ten times slower."""
    x = np.random.default_rng(0).standard_normal((16, 5, 5, 1), np.float32)
    model = nn.Serial(nn.Conv(2, 3), nn.Flatten(), nn.Linear(2))
    data = train.data.arrays(x, np.arange(16, dtype=np.int32) % 2)
    settings = dict(loss="classification", optimizer=optax.adam(0.01), steps=5, batch_size=4, quiet=True, placement=ONE)
    one, three = (train.fit(model, data, steps_per_dispatch=count, **settings) for count in (1, 3))
    jax.tree.map(np.testing.assert_array_equal, one.params, three.params)
    loop = make_loop(model, data, steps_per_dispatch=3, **settings)
    with loop.placement.active():
        carry = loop.begin()
        programs = Programs(loop._dispatch, Recorder(loop.plan, [], "examples", 4), print)
        programs(3, *loop._arguments(carry, 0, 3))
    assert [*programs._compiled] == [1]
