"""Random networks of all layers and combinators: three gradients agree on every leaf.

The ordinary suite builds 20 of them, and ``pytest -m exhaustive tests/nn/test_networks.py`` 200.
"""

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dlfn
from dlfn import nn
from dlfn.check.measures import cotangents, norm, projected
from every_layer import ANYWHERE, BY_KIND, CHANNELS, ENDS, IDS, SHAPES
from helpers import cotangent

pytestmark = pytest.mark.usefixtures("older_emitters")


@st.composite
def blocks(draw, kind, depth):
    """A network whose output has the shape of its input, from CHANNELS to CHANNELS."""
    layers = [draw(keepers(kind, depth)) for _ in range(draw(st.integers(1, 2)))]
    return nn.Serial(*layers, nn.Linear(CHANNELS))


@st.composite
def combined(draw, kind, depth):
    block = blocks(kind, depth - 1)
    make = draw(st.sampled_from(["residual", "projection", "parallel", "named", "repeat", "checkpoint"]))
    if make == "residual":
        combinator = nn.Residual(draw(block))
    elif make == "projection":
        combinator = nn.Residual(nn.Serial(draw(block), nn.Linear(3)), nn.Linear(3, bias=False))
    elif make == "parallel":
        combinator = nn.Parallel(draw(block), draw(block), merge="concatenate")
    elif make == "named":
        combinator = nn.Serial(first=draw(block), second=draw(block))
    else:
        combinator = nn.Repeat(draw(block), 3, checkpoint=make == "checkpoint")
    return nn.Serial(nn.Linear(CHANNELS), combinator)


def keepers(kind, depth):
    plain = st.sampled_from(list((ANYWHERE | BY_KIND[kind]).values())).map(lambda make: make())
    special = st.sampled_from(list((BY_KIND[kind] or ANYWHERE).values())).map(lambda make: make())
    return plain | special | combined(kind, depth) if depth else plain | special


@st.composite
def networks(draw):
    kind = draw(st.sampled_from(list(SHAPES)))
    layers = [draw(keepers(kind, 1)) for _ in range(draw(st.integers(1, 3)))]
    of_ids = kind == "sequence" and draw(st.booleans())
    if of_ids:
        layers.insert(0, nn.Embedding(IDS, CHANNELS))
    if ENDS[kind] and draw(st.booleans()):
        layers.append(draw(st.sampled_from(list(ENDS[kind].values())))())
    return nn.Serial(*layers), SHAPES[kind], of_ids


def check(network, seed):
    model, shape, of_ids = network
    with jax.enable_x64(True):
        key, x_key, params_key = jax.random.split(jax.random.key(seed), 3)
        x = jax.random.normal(x_key, shape, "float64")
        x = jax.random.randint(x_key, shape[:-1], 0, IDS) if of_ids else x
        params, state = model.init(params_key, x)
        # Off the points at which a bias of 0 or a scale of 1 hides a term.
        params = jax.tree.map(lambda p: p + 0.1 * cotangent(p), params)

        def outputs(params, x):
            return model.apply(params, state, x, key=key, train=True)[0]

        loss = projected(outputs, cotangents(jax.eval_shape(outputs, params, x), seed))
        at = (0,) if of_ids else (0, 1)
        gradients = {"hand": jax.grad(loss, at), "backprop": dlfn.backprop(loss, at)}
        expected = jax.jit(jax.grad(dlfn.autodiff(loss), at))(params, x)
        largest = max(norm(leaf) for leaf in jax.tree.leaves(expected))
        for path, gradient in gradients.items():
            got = jax.jit(gradient)(params, x)
            for (where, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
                # A bias before a normalisation has the gradient 0 but for rounding: that of the others.
                bound = 1e-10 * max(norm(b), 1e-5 * largest)
                assert norm(a - b) <= bound, (path, jax.tree_util.keystr(where))


SETTINGS = dict(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
arguments = given(networks(), st.integers(0, 2**16))


@settings(max_examples=20, **SETTINGS)
@arguments
def test_three_gradients_of_random_networks(network, seed):
    check(network, seed)


@pytest.mark.exhaustive
@settings(max_examples=200, **SETTINGS)
@arguments
def test_three_gradients_of_200_random_networks(network, seed):
    check(network, seed)


MAKERS = ANYWHERE | {name: make for kind in (*BY_KIND.values(), *ENDS.values()) for name, make in kind.items()}


def test_every_layer_is_among_them():
    used = set()

    def visit(layer):
        used.add(type(layer))
        cell = {"cell": layer.cell} if hasattr(layer, "cell") else {}
        for child in (layer.children() | cell).values():
            visit(child)

    for make in MAKERS.values():
        visit(make())
    combined = {nn.Serial, nn.Residual, nn.Parallel, nn.Repeat, nn.Embedding}
    layers = {layer for layer in vars(nn).values() if isinstance(layer, type) and issubclass(layer, nn.Layer)}
    assert layers - used - combined == {nn.Layer, nn.Cell}


@pytest.mark.parametrize("kind", SHAPES)
def test_summary_of_every_layer(kind):
    """Alone and in a loop: the total is the number of parameters."""
    x = jax.ShapeDtypeStruct(SHAPES[kind], "float32")
    for make in (ANYWHERE | BY_KIND[kind]).values():
        repeated = nn.Serial(nn.Linear(CHANNELS), nn.Repeat(nn.Serial(make(), nn.Linear(CHANNELS)), 3))
        for model in (make(), repeated):
            params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
            total = nn.summary(model, x).splitlines()[-1].split()
            assert total[:2] == ["total", f"{nn.count_parameters(params):,}"]
