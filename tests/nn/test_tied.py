"""Params that serve in several places: one leaf, the sum of the gradients, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, weights
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 4))
IDS = jnp.array([[1, 0, 4]])
TWINS = nn.Tied(nn.Serial(nn.Linear(4), nn.Tanh(), nn.Linear(4)), {"2": "0"})
LANGUAGE = nn.Serial(embedding=nn.Embedding(5, 4), body=nn.Residual(nn.FeedForward()), head=nn.Linear(5))
TIED = nn.Tied(LANGUAGE, {"head/w": "embedding/table.T"})


def test_gradients_of_all_uses_are_added():
    params, state = initialised(TIED, IDS)
    assert nn.count_parameters(params) == nn.count_parameters(initialised(LANGUAGE, IDS)[0]) - 20

    def loss(params):
        return jnp.sum(TIED.apply(params, state, IDS)[0] ** 2)

    def untied(params, w):
        params = {**params, "head": {**params["head"], "w": w}}
        return jnp.sum(LANGUAGE.apply(params, state, IDS)[0] ** 2)

    table = params["embedding"]["table"]
    first, second = jax.grad(untied, (0, 1))(params, table.T)
    for gradient in (jax.grad(loss)(params), dlfn.backprop(loss)(params)):
        np.testing.assert_allclose(gradient["embedding"]["table"], first["embedding"]["table"] + second.T, rtol=1e-4)
        assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_repeated_blocks_are_tied_each_for_itself():
    model = nn.Repeat(TWINS, 2)
    params, state = initialised(model, X)
    assert jax.tree.map(jnp.shape, params) == ({"b": (2, 4), "w": (2, 4, 4)}, (), ())
    expected = X
    for block in range(2):
        own = jax.tree.map(lambda leaf, block=block: leaf[block], params[0])
        expected, _ = TWINS.layer.apply((own, (), own), (), expected)
    np.testing.assert_allclose(model.apply(params, state, X)[0], expected, rtol=1e-5)


def test_places_in_stacked_params():
    model = nn.Tied(nn.Serial(nn.Repeat(nn.Linear(4), 2), nn.Repeat(nn.Linear(4), 2)), {"1": "0"})
    params, state = initialised(model, X)
    expected, _ = model.layer.apply((params[0], params[0]), (), X)
    np.testing.assert_allclose(model.apply(params, state, X)[0], expected, rtol=1e-5)


def test_each_place_has_a_state_of_its_own():
    branch = nn.Serial(nn.Linear(4), nn.BatchNorm())
    model = nn.Tied(nn.Parallel(a=branch, b=branch, split=True, merge="sum"), {"b": "a"})
    inputs = {"a": X, "b": X + 1}
    params, state = model.init(KEY, inputs)
    _, after = model.apply(params, state, inputs, train=True)
    assert params["b"] == ()
    means = [after[name][1]["mean"] for name in "ab"]
    assert not np.allclose(*means)


@pytest.mark.parametrize(("model", "x"), [(TWINS, X), (TIED, IDS), (nn.Serial(deep=nn.Repeat(TWINS, 3)), X)])
def test_summary_counts_what_is_tied_once(model, x):
    params, _ = model.init(KEY, x)
    total = nn.summary(model, x).replace(",", "").splitlines()[-1].split()[1]
    assert int(total) == nn.count_parameters(params)


def test_weights_have_one_name_for_what_is_tied(tmp_path):
    params, _ = initialised(TIED, IDS)
    weights.save_params(tmp_path / "tied.safetensors", params)
    found = weights.load_safetensors(tmp_path / "tied.safetensors")
    names = ["embedding/table", "body/up/w", "body/up/b", "body/down/w", "body/down/b", "head/b"]
    assert found.keys() == {f"params/{name}" for name in names}


def test_models_of_equal_ties_are_equal_and_print_them():
    assert hash(TWINS) == hash(nn.Tied(TWINS.layer, {"2": "0"}))
    assert str(TIED).endswith("  head/w = embedding/table.T\n)")


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: nn.Tied(LANGUAGE, {"head/v": "embedding/table"}).init(KEY, IDS), ["'head/v'", "no 'v' among"]),
        (lambda: nn.Tied(LANGUAGE, {"head/w": "embedding/table"}).init(KEY, IDS), ["float32[4, 5]", "float32[5, 4]"]),
        (lambda: nn.Tied(LANGUAGE, {"head/b": "body/up/b.T"}).init(KEY, IDS), ["'body/up/b.T'", "last two axes"]),
        (lambda: nn.Tied(LANGUAGE, {"head": "body", "body/up": "embedding"}), ["'body'", "where the params are"]),
        (lambda: nn.Tied(LANGUAGE, {"head": "head/w"}), ["'head'", "where the params are"]),
        (lambda: nn.Tied(LANGUAGE, {}), ["ties is {}", "a dict of paths"]),
        (lambda: nn.Tied(LANGUAGE, "head"), ["ties is 'head'", "a dict of paths"]),
        (lambda: TIED.apply(initialised(LANGUAGE, IDS)[0], (), IDS), ["'head/w'", "must be ()"]),
    ],
)
def test_mistakes(mistake, parts, refused):
    refused(mistake, parts)
