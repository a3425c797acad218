"""Every δ of a three-layer network by name, against the recursion of 001 section 7 computed here in numpy.

δᴸ = (ŷ − y) / m, as the loss is a mean over m examples, δˡ = (δˡ⁺¹ Wˡ⁺¹ᵀ) ⊙ σ′(zˡ), ∂J/∂Wˡ = hˡ⁻¹ᵀ δˡ, ∂J/∂bˡ = Σ δˡ.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import dlfn
from dlfn import nn, ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZES, M = (4, 6, 5, 3), 7


@pytest.fixture
def network(x64):
    rng = np.random.default_rng(0)
    w = [rng.normal(size=shape) for shape in itertools.pairwise(SIZES)]
    b = [rng.normal(size=size) for size in SIZES[1:]]
    return rng.normal(size=(M, SIZES[0])), w, b


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


# The loss of the logits and labels, the labels, and the function ŷ that pairs with it.
HEADS = {
    "softmax and cross-entropy": (
        ops.softmax_cross_entropy, np.array([0, 2, 1, 1, 0, 2, 2]), lambda y: np.eye(3)[y], softmax,
    ),
    "sigmoid and binary cross-entropy": (
        lambda z, y: ops.binary_cross_entropy(z, y, reduction="sum") / M,
        np.random.default_rng(1).integers(0, 2, (M, 3)).astype(float), lambda y: y, sigmoid,
    ),
}  # fmt: skip


def by_hand(x, w, b, error_of):
    """The δ of every z, and of every h, and the gradients, by the document's equations."""
    z1 = x @ w[0] + b[0]
    h1 = sigmoid(z1)
    z2 = h1 @ w[1] + b[1]
    h2 = np.maximum(z2, 0)
    z3 = h2 @ w[2] + b[2]
    d3 = error_of(z3)
    dh2 = d3 @ w[2].T
    d2 = dh2 * (z2 > 0)
    dh1 = d2 @ w[1].T
    d1 = dh1 * sigmoid(z1) * (1 - sigmoid(z1))
    deltas = {"z1": d1, "h1": dh1, "z2": d2, "h2": dh2, "z3": d3}
    gradient = [x.T @ d1, h1.T @ d2, h2.T @ d3], [d.sum(0) for d in (d1, d2, d3)]
    return deltas, gradient


@pytest.mark.parametrize("head", HEADS)
def test_recorded_deltas_are_those_of_the_recursion(head, network):
    loss_of, labels, targets, activation = HEADS[head]
    x, w, b = network

    def loss(w, b):
        h = x
        for i, act in enumerate((ops.sigmoid, ops.relu, None), 1):
            h = checkpoint_name(ops.linear(h, w[i - 1], b[i - 1]), f"z{i}")
            h = checkpoint_name(act(h), f"h{i}") if act else h
        return loss_of(h, labels)

    gradient, recorded = jax.jit(dlfn.backprop(loss, (0, 1), record=True))([*map(jnp.array, w)], [*map(jnp.array, b)])
    expected, expected_gradient = by_hand(x, w, b, lambda z: (activation(z) - targets(labels)) / M)
    # An op's δ is that of its output, which has its own name here too.
    same = {"linear": "z1", "sigmoid": "h1", "linear#2": "z2", "relu": "h2", "linear#3": "z3"}
    (last,) = set(recorded) - set(expected) - set(same)
    assert last in ("softmax_cross_entropy", "binary_cross_entropy")
    for name in (*expected, *same):
        np.testing.assert_allclose(recorded[name], expected[same.get(name, name)], rtol=1e-12, atol=1e-15, err_msg=name)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_layers_name_their_deltas(network):
    """The same network of layers: δ is recorded by the layer's place in the model."""
    x, w, b = network
    model = nn.Serial(
        first=nn.Serial(z=nn.Linear(6), h=nn.Sigmoid()),
        second=nn.Serial(z=nn.Linear(5), h=nn.ReLU()),
        third=nn.Linear(3),
    )
    linears = [{"w": jnp.array(weight), "b": jnp.array(bias)} for weight, bias in zip(w, b)]
    params = {"first": {"z": linears[0], "h": ()}, "second": {"z": linears[1], "h": ()}, "third": linears[2]}
    labels = HEADS["softmax and cross-entropy"][1]

    def loss(params):
        return ops.softmax_cross_entropy(model.apply(params, (), x)[0], labels)

    _, recorded = jax.jit(dlfn.backprop(loss, record=True))(params)
    expected, _ = by_hand(x, w, b, lambda z: (softmax(z) - np.eye(3)[labels]) / M)
    names = {"first/z": "z1", "first/h": "h1", "second/z": "z2", "second/h": "h2", "third": "z3"}
    for ours, theirs in names.items():
        np.testing.assert_allclose(recorded[ours], expected[theirs], rtol=1e-12, atol=1e-15, err_msg=ours)
