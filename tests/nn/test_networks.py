"""Random networks of all layers and combinators: three gradients agree on every leaf.

The ordinary suite builds 3 of them, and ``pytest -m exhaustive tests/nn/test_networks.py`` 222 more.
"""

import random

import jax
import pytest

import dlfn
from dlfn import nn
from dlfn.check.measures import cotangents, norm, projected
from every_layer import ANYWHERE, BY_KIND, CHANNELS, ENDS, IDS, SHAPES
from helpers import initialised

pytestmark = pytest.mark.usefixtures("quick_compilation")


def blocks(rng, kind, depth):
    """A network whose output has the shape of its input, from CHANNELS to CHANNELS."""
    layers = [keeper(rng, kind, depth) for _ in range(rng.randint(1, 2))]
    return nn.Serial(*layers, nn.Linear(CHANNELS))


def combined(rng, kind, depth):
    def block():
        return blocks(rng, kind, depth - 1)

    make = rng.choice(["residual", "projection", "parallel", "named", "repeat", "checkpoint"])
    if make == "residual":
        combinator = nn.Residual(block())
    elif make == "projection":
        combinator = nn.Residual(nn.Serial(block(), nn.Linear(3)), nn.Linear(3, bias=False))
    elif make == "parallel":
        combinator = nn.Parallel(block(), block(), merge="concatenate")
    elif make == "named":
        combinator = nn.Serial(first=block(), second=block())
    else:
        combinator = nn.Repeat(block(), 3, checkpoint=make == "checkpoint")
    return nn.Serial(nn.Linear(CHANNELS), combinator)


def keeper(rng, kind, depth):
    """A layer that keeps the kind of its input, those of one kind alone as often as those that go anywhere."""
    source = rng.choice(["plain", "special", "combined"] if depth else ["plain", "special"])
    if source == "combined":
        return combined(rng, kind, depth)
    makers = ANYWHERE | BY_KIND[kind] if source == "plain" else BY_KIND[kind] or ANYWHERE
    return rng.choice(list(makers.values()))()


def network_of(rng):
    kind = rng.choice(list(SHAPES))
    layers = [keeper(rng, kind, 1) for _ in range(rng.randint(1, 3))]
    of_ids = kind == "sequence" and rng.random() < 0.5
    if of_ids:
        layers.insert(0, nn.Embedding(IDS, CHANNELS))
    if ENDS[kind] and rng.random() < 0.5:
        layers.append(rng.choice(list(ENDS[kind].values()))())
    return nn.Serial(*layers), SHAPES[kind], of_ids


def check(network, seed):
    model, shape, of_ids = network
    with jax.enable_x64(True):
        key, x_key = jax.random.split(jax.random.key(seed))
        x = jax.random.normal(x_key, shape, "float64")
        x = jax.random.randint(x_key, shape[:-1], 0, IDS) if of_ids else x
        params, state = initialised(model, x)

        def outputs(params, x):
            return model.apply(params, state, x, key=key, train=True)[0]

        loss = projected(outputs, cotangents(jax.eval_shape(outputs, params, x), seed))
        at = (0,) if of_ids else (0, 1)
        paths = {
            "autodiff": jax.grad(dlfn.autodiff(loss), at),
            "hand": jax.grad(loss, at),
            "backprop": dlfn.backprop(loss, at),
        }
        found = jax.jit(lambda *args: {path: gradient(*args) for path, gradient in paths.items()})(params, x)
        expected = found.pop("autodiff")
        largest = max(norm(leaf) for leaf in jax.tree.leaves(expected))
        for path, got in found.items():
            for (where, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
                # A bias before a normalisation has the gradient 0 but for rounding: that of the others.
                bound = 1e-10 * max(norm(b), 1e-5 * largest)
                assert norm(a - b) <= bound, (path, jax.tree_util.keystr(where))


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=() if seed in (1, 3, 4) else pytest.mark.exhaustive) for seed in range(225)]
)
def test_three_gradients_of_random_networks(seed):
    check(network_of(random.Random(seed)), seed)


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
    """Alone and in a loop: the total is the number of parameters. One activation stands for all: they are one layer."""
    x = jax.ShapeDtypeStruct(SHAPES[kind], "float32")
    makers = {name: make for name, make in ANYWHERE.items() if name not in set(nn.ACTIVATIONS) - {"relu"}}
    for make in (makers | BY_KIND[kind]).values():
        repeated = nn.Serial(nn.Linear(CHANNELS), nn.Repeat(nn.Serial(make(), nn.Linear(CHANNELS)), 3))
        for model in (make(), repeated):
            params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
            total = nn.summary(model, x).splitlines()[-1].split()
            assert total[:2] == ["total", f"{nn.count_parameters(params):,}"]
