"""The worked examples of the documents, to the digits that they print.

NAND's steps are with the perceptron. (3x + 4y − 5)² as a gradient is in test_calculus.py; here it is backpropagated.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRADIENTS = {"hand": jax.grad, "backprop": dlfn.backprop, "autodiff": lambda f, at=0: jax.grad(dlfn.autodiff(f), at)}


@pytest.fixture(params=GRADIENTS)
def gradient(request, x64):
    return GRADIENTS[request.param]


def test_sigmoid_and_its_derivative_at_1(gradient):
    """001 section 3."""
    assert f"{ops.sigmoid(1.0):.3f}" == "0.731"
    assert f"{gradient(ops.sigmoid)(1.0):.3f}" == "0.197"
    assert ops.sigmoid(0.0) == 0.5
    assert [float(ops.sigmoid(z)) for z in (jnp.inf, -jnp.inf)] == [1, 0]


def test_gradient_of_a_squared_plane(gradient):
    """000 section 4: 6 (3x + 4y − 5) and 8 (3x + 4y − 5)."""
    f = lambda x, y: (3 * x + 4 * y - 5) ** 2  # noqa: E731
    for x, y in ((1.0, 2.0), (0.0, 0.0), (-1.5, 0.25)):
        inner = 3 * x + 4 * y - 5
        np.testing.assert_allclose(gradient(f, (0, 1))(x, y), (6 * inner, 8 * inner), rtol=1e-14)


def test_chain_of_squares(gradient):
    """000 section 5: L = (ŷ − y)², ŷ = h², h = w₁x + b; dL/dw₁ = 2 (ŷ − y) · 2h · x."""
    x, y, w, b = 1.5, 0.4, -0.7, 0.2
    h = w * x + b
    loss = lambda w: ((w * x + b) ** 2 - y) ** 2  # noqa: E731
    assert gradient(loss)(w) == pytest.approx(2 * (h**2 - y) * 2 * h * x, rel=1e-14)


def test_sizes_of_a_small_convolutional_network():
    """001 section 9: 32 × 32 × 3 → 28 × 28 × 32 → 14 × 14 × 32 → 14 × 14 × 64, by the formula and by the ops."""
    model = nn.Serial(nn.Conv(32, (5, 5)), nn.MaxPool(2), nn.Conv(64, (3, 3), padding=1))
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
    settings = (dict(window=5), dict(window=2, stride=2), dict(window=3, padding=1))
    n, shapes = 32, []
    for layer, p, setting in zip(model.layers, params, settings):
        x = jax.eval_shape(lambda p, x, layer=layer: layer.apply(p, (), x)[0], p, x)
        n = ops.conv_output_size(n, **setting)
        assert x.shape[1:3] == (n, n)
        shapes.append(x.shape[1:])
    assert shapes == [(28, 28, 32), (14, 14, 32), (14, 14, 64)]
    # Section 10's formula: (f f c_in) c_out + c_out.
    assert nn.count_parameters(params) == (5 * 5 * 3) * 32 + 32 + (3 * 3 * 32) * 64 + 64


@pytest.mark.parametrize(("bias", "each", "total"), [(False, [80, 60, 24], 164), (True, [90, 66, 28], 184)])
def test_parameters_of_a_small_network(bias, each, total):
    """001 section 10: 8 → 10 → 6 → 4."""
    model = nn.Serial(*(nn.Linear(features, bias=bias) for features in (10, 6, 4)))
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8)))
    assert [nn.count_parameters(layer) for layer in params] == each
    assert nn.count_parameters(params) == total


RNG = np.random.default_rng(0)
Z, NEXT, W = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3))
TARGETS, BITS, IDS = RNG.normal(size=(5, 4)), RNG.integers(0, 2, (5, 4)).astype(float), RNG.integers(0, 4, 5)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# Model: J as a function of z, summed over the examples, and ∂J/∂z. δˡ⁺¹ of the hidden layers is NEXT, their Wˡ⁺¹ is W.
QUICK_REFERENCE = {
    "linear regression, MSE, identity": (
        lambda z: ops.mse(z, jnp.array(TARGETS), half=True, reduction="sum"), Z - TARGETS,
    ),
    "logistic regression, BCE, sigmoid": (
        lambda z: ops.binary_cross_entropy(z, jnp.array(BITS), reduction="sum"), sigmoid(Z) - BITS,
    ),
    "softmax classification, CCE, softmax": (
        lambda z: ops.softmax_cross_entropy(z, jnp.array(IDS), reduction="sum"), softmax(Z) - np.eye(4)[IDS],
    ),
    "hidden layer, ReLU": (
        lambda z: jnp.sum(NEXT * ops.linear(ops.relu(z), jnp.array(W))), (NEXT @ W.T) * (Z > 0),
    ),
    "hidden layer, sigmoid": (
        lambda z: jnp.sum(NEXT * ops.linear(ops.sigmoid(z), jnp.array(W))),
        (NEXT @ W.T) * sigmoid(Z) * (1 - sigmoid(Z)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", QUICK_REFERENCE)
def test_quick_reference(row, gradient):
    """001's table of all gradients with respect to z."""
    loss, expected = QUICK_REFERENCE[row]
    np.testing.assert_allclose(jax.jit(gradient(loss))(jnp.array(Z)), expected, rtol=1e-12, atol=1e-15)
