"""Oracles of calculus, linear algebra, linear models, and networks."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import dlfn
from dlfn import calculus, linalg, linear_models, nn, ops
from dlfn.catalogue.oracles._table import Table, agree, normal, require, sklearn

__all__ = ["ORACLES"]

ORACLES = Table()


def _rule_agrees(of_pairs, f, x=1.3):
    pair = of_pairs(calculus.variable(x))
    agree(pair, jax.value_and_grad(f)(x), 1e-14)


@ORACLES.add("calculus.power", "jax.grad")
def _():
    for n in (3, -2, 0.5, 0):
        _rule_agrees(lambda u, n=n: calculus.power(u, n), lambda x, n=n: x**n)


@ORACLES.add("calculus.product", "jax.grad")
def _():
    _rule_agrees(lambda u: calculus.product(calculus.sin(u), calculus.exp(u)), lambda x: jnp.sin(x) * jnp.exp(x))


@ORACLES.add("calculus.quotient", "jax.grad")
def _():
    _rule_agrees(lambda u: calculus.quotient(calculus.sin(u), calculus.exp(u)), lambda x: jnp.sin(x) / jnp.exp(x))


@ORACLES.add("calculus.chain", "jax.grad")
def _():
    _rule_agrees(calculus.chain(calculus.exp, calculus.sin), lambda x: jnp.exp(jnp.sin(x)))


@ORACLES.add("calculus.elementary", "jax.grad")
def _():
    for name in ("sin", "cos", "exp", "log"):
        _rule_agrees(getattr(calculus, name), getattr(jnp, name))


@ORACLES.add("calculus.limit", "math.cos")
def _():
    for method, richardson, rtol in (
        ("forward", 0, 1e-7),
        ("central", 0, 1e-9),
        ("central", 3, 1e-12),
        ("complex", 0, 1e-15),
    ):
        slope = calculus.finite_difference(jnp.sin, method=method, richardson=richardson)
        agree(slope(1.0), math.cos(1.0), rtol, 0)


@ORACLES.add("calculus.gradient", "the document's gradient, and jax.grad")
def _():
    f = lambda x, y: (3 * x + 4 * y - 5) ** 2  # noqa: E731
    x, y = 1.5, -0.5
    agree(calculus.gradient(f)(x, y), (6 * (3 * x + 4 * y - 5), 8 * (3 * x + 4 * y - 5)), 1e-14)
    agree(calculus.partial(f, 1)(x, y), jax.grad(f, 1)(x, y), 1e-14)


@ORACLES.add("calculus.directional", "jax.jvp")
def _():
    f = lambda x: jnp.sum(jnp.sin(x) * x**2)  # noqa: E731
    x, v = normal(5), normal(5, seed=1)
    agree(calculus.directional(f)(x, v), jax.jvp(f, (x,), (v,))[1], 1e-13)


@ORACLES.add("calculus.multivariable_chain", "the document's derivative, and jax.grad")
def _():
    x, b, y, w = 2.0, 0.5, 1.0, 0.7
    loss = lambda w: (jnp.square(w * x + b) - y) ** 2  # noqa: E731
    h = w * x + b
    agree(dlfn.backprop(loss)(w), 2 * (h**2 - y) * 2 * h * x, 1e-14)
    agree(dlfn.backprop(loss)(w), jax.grad(loss)(w), 1e-14)


@ORACLES.add("calculus.matrix_chain", "jax.jacrev")
def _():
    w, x = normal(3, 4), normal(4)
    agree(calculus.jacobian(lambda x: jnp.tanh(w @ x))(x), jax.jacrev(lambda x: jnp.tanh(w @ x))(x), 1e-13)
    agree(calculus.jacobian(jnp.sin)(x), np.diag(np.cos(x)), 1e-14)


@ORACLES.add("linalg.products", "numpy.linalg")
def _():
    a, b = np.asarray(normal(4, 4)), np.asarray(normal(4, 2, seed=1))
    agree(ops.matmul(jnp.asarray(a), jnp.asarray(b)), a @ b)
    agree(ops.dot(jnp.asarray(a), jnp.asarray(a)), np.einsum("ij,ij->i", a, a))
    agree(ops.inverse(jnp.asarray(a)), np.linalg.inv(a))
    agree(ops.solve(jnp.asarray(a), jnp.asarray(b)), np.linalg.solve(a, b))


@ORACLES.add("linalg.eigen", "numpy.linalg.eigvalsh and eigvals")
def _():
    a = np.asarray(normal(4, 4))
    agree(ops.eigh(jnp.asarray(a + a.T))[0], np.linalg.eigvalsh(a + a.T))
    if jax.default_backend() == "cpu":
        values, vectors = linalg.eig(jnp.asarray(a))
        agree(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(a)))
        agree(vectors @ np.diag(values) @ np.linalg.inv(vectors), a, atol=1e-10)


@ORACLES.add("linalg.pca", "sklearn.decomposition.PCA")
def _():
    PCA = sklearn("decomposition").PCA
    x = normal(30, 5) @ normal(5, 5, seed=1)
    ours, theirs = linalg.PCA.fit(x, 2), PCA(2, svd_solver="full").fit(x)
    z = theirs.transform(x)
    agree(ours.explained_variance, theirs.explained_variance_)
    agree(jnp.abs(ours.transform(x)), np.abs(z), 1e-9)
    agree(ours.inverse_transform(ours.transform(x)), theirs.inverse_transform(z), 1e-9)


@ORACLES.add("linalg.transforms", "numpy, and scipy.spatial.transform.Rotation")
def _():
    from scipy.spatial.transform import Rotation

    theta, points = 0.7, np.asarray(normal(6, 2))
    turned = points @ Rotation.from_euler("z", theta).as_matrix()[:2, :2].T
    agree(linalg.transform_points(linalg.rotation(theta), points), turned)
    agree(linalg.transform_points(linalg.scaling([2.0, 3.0]), points), points * [2, 3])
    agree(linalg.transform_points(linalg.translation([1.0, -2.0]), points), points + np.array([1, -2]))
    slope = np.array([[-math.sin(theta), -math.cos(theta)], [math.cos(theta), -math.sin(theta)]])
    agree(jax.jacobian(linalg.rotation)(theta)[:2, :2], slope)


@ORACLES.add("linear.perceptron", "the document's four steps")
def _():
    x = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    targets = jnp.array([1.0, 1.0, 1.0, -1.0])
    agree(linear_models.perceptron(x, targets, passes=1).weights, [-2, -2, -2])
    fit = linear_models.perceptron(x, targets)
    require(fit.converged, "NAND's rule does not converge")
    agree(jnp.sign(fit.weights[0] + x @ fit.weights[1:]), targets)


@ORACLES.add("linear.regression", "numpy.linalg.lstsq, and sklearn.linear_model.LinearRegression")
def _():
    LinearRegression = sklearn("linear_model").LinearRegression
    x, y = np.asarray(normal(40, 3)), np.asarray(normal(40, seed=1))
    fit = linear_models.linear_regression.fit(jnp.asarray(x), jnp.asarray(y), steps=2000)
    agree(fit.params["w"], LinearRegression().fit(x, y).coef_, 1e-9)
    solution = np.linalg.lstsq(np.c_[x, np.ones(40)], y)[0]
    agree([*fit.params["w"], fit.params["b"]], solution, 1e-9)


@ORACLES.add("linear.sigmoid", "scipy.special.expit, and the document's digits")
def _():
    from scipy.special import expit

    x = np.linspace(-30, 30, 121)
    agree(ops.sigmoid(jnp.asarray(x)), expit(x), 1e-14)
    agree([ops.sigmoid(1.0), jax.grad(ops.sigmoid)(1.0)], [0.731, 0.197], 0, 5e-4)


@ORACLES.add("linear.log_sum_exp", "scipy.special.logsumexp")
def _():
    from scipy.special import log_softmax, logsumexp

    z = 1000 * normal(4, 5)
    agree(ops.logsumexp(z), logsumexp(np.asarray(z), axis=-1), 1e-14)
    agree(ops.log_softmax(z), log_softmax(np.asarray(z), axis=-1), 1e-14)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@ORACLES.add("network.backprop", "the document's recursion of δ in NumPy")
def _():
    sizes = (4, 6, 5, 3)
    weights = [normal(*shape, seed=i) for i, shape in enumerate(itertools.pairwise(sizes))]
    x, y = normal(7, 4, seed=9), jax.nn.one_hot(jnp.arange(7) % 3, 3, dtype=jnp.float64)

    def loss(weights):
        h = x
        for layer, w in enumerate(weights[:-1], 1):
            h = ops.sigmoid(checkpoint_name(ops.linear(h, w), f"z{layer}"))
        return ops.softmax_cross_entropy(checkpoint_name(ops.linear(h, weights[-1]), "z3"), y)

    gradients, deltas = dlfn.backprop(loss, record=True)(weights)
    w = [np.asarray(a) for a in weights]
    h = [np.asarray(x)]
    for layer in range(3):
        h.append(_sigmoid(h[-1] @ w[layer]))
    z = h[2] @ w[2]
    delta = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) - np.asarray(y)) / 7
    for layer in (3, 2, 1):
        agree(deltas[f"z{layer}"], delta)
        agree(gradients[layer - 1], h[layer - 1].T @ delta)
        delta = (delta @ w[layer - 1].T) * h[layer - 1] * (1 - h[layer - 1])


@ORACLES.add("conv.stride_padding", "lax.conv_general_dilated")
@ORACLES.add("network.conv_output_size", "lax.conv_general_dilated, and the document's 32 → 28 → 14 → 14")
def _():
    for n, window, stride, pad in itertools.product((7, 12, 32), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2)):
        x, kernel = jnp.zeros((1, 1, n)), jnp.zeros((1, 1, window))
        size = jax.eval_shape(lambda x, k, s=stride, p=pad: lax.conv_general_dilated(x, k, (s,), [(p, p)]), x, kernel)
        agree(ops.conv_output_size(n, window, stride=stride, padding=pad), size.shape[-1])
    first = ops.conv_output_size(32, 5)
    pooled = ops.conv_output_size(first, 2, stride=2)
    agree((first, pooled, ops.conv_output_size(pooled, 3, padding=1)), (28, 14, 14))


@ORACLES.add("network.parameter_count", "the document's 164 and 184")
def _():
    for bias, total in ((False, 164), (True, 184)):
        model = nn.Serial(*(nn.Linear(features, bias=bias) for features in (10, 6, 4)))
        params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8)))
        agree(nn.count_parameters(params), total)


@ORACLES.add("network.quick_reference", "the document's table in NumPy")
def _():
    z, following, w = normal(5, 4), normal(5, 3, seed=1), normal(4, 3, seed=2)
    y, bits, one_hot = normal(5, 4, seed=3), jnp.round(_sigmoid(normal(5, 4, seed=4))), jnp.eye(4)[jnp.arange(5) % 4]
    probabilities = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    back = np.asarray(following @ w.T)
    for loss, expected in (
        (lambda z: ops.mse(z, y, half=True, reduction="sum"), z - y),
        (lambda z: ops.binary_cross_entropy(z, bits, reduction="sum"), _sigmoid(z) - bits),
        (lambda z: ops.softmax_cross_entropy(z, one_hot, reduction="sum"), probabilities - one_hot),
        (lambda z: jnp.sum(following * ops.linear(ops.relu(z), w)), back * (z > 0)),
        (lambda z: jnp.sum(following * ops.linear(ops.sigmoid(z), w)), back * _sigmoid(z) * (1 - _sigmoid(z))),
    ):
        agree(dlfn.backprop(loss)(z), expected)
