"""BayesianLinear: what it draws and when, its KL term, and its gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dlfn
from dlfn import nn, ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (5, 3))
LAYER = nn.BayesianLinear(4, prior_std=0.5)


def test_weights_are_drawn_in_training_alone_unless_asked(x64):
    x = X.astype("float64")
    params, state = LAYER.init(KEY, x)
    np.testing.assert_allclose(ops.softplus(params["rho"]["w"]), 0.1, rtol=1e-12)
    mean = ops.linear(x, params["mean"]["w"], params["mean"]["b"])
    np.testing.assert_array_equal(LAYER.apply(params, state, x, key=KEY)[0], mean)
    trained = LAYER.apply(params, state, x, key=KEY, train=True)[0]
    assert not jnp.allclose(trained, mean, atol=1e-3)
    sampled = dataclasses.replace(LAYER, sample_at_inference=True)
    np.testing.assert_array_equal(sampled.apply(params, state, x, key=KEY)[0], trained)
    # One draw for all examples: the outputs are still an affine function of x.
    of = lambda x: LAYER.apply(params, state, x, key=KEY, train=True)[0]  # noqa: E731
    np.testing.assert_allclose(of((x[:1] + x[1:2]) / 2), (of(x[:1]) + of(x[1:2])) / 2, rtol=1e-12)


def test_kl_is_that_of_pytorch(x64):
    torch = pytest.importorskip("torch")
    params, _ = LAYER.init(KEY, X.astype("float64"))
    params["rho"] = jax.tree.map(lambda rho: rho + jnp.cos(jnp.arange(rho.size)).reshape(rho.shape), params["rho"])
    tensors = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), params)
    expected = 0.0
    for name in ("w", "b"):
        std = torch.nn.functional.softplus(tensors["rho"][name])
        q, p = torch.distributions.Normal(tensors["mean"][name], std), torch.distributions.Normal(0.0, 0.5)
        expected = expected + torch.distributions.kl_divergence(q, p).sum()
    expected.backward()
    value, gradient = jax.jit(jax.value_and_grad(LAYER.kl))(params)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9), gradient, tensors)


def test_kl_has_a_gradient_where_the_deviation_underflows():
    params, _ = nn.BayesianLinear(1, bias=False).init(KEY, X)
    params["rho"]["w"] = jnp.array([[-30.0], [-100.0], [-1e4]])
    params["mean"]["w"] = 0 * params["mean"]["w"]
    layer = nn.BayesianLinear(1, bias=False)
    np.testing.assert_allclose(layer.kl(params), 10130 - 1.5, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(layer.kl))(params)["rho"]["w"], -np.ones((3, 1)), rtol=1e-6)


def test_three_gradients_of_the_whole_objective_agree(x64):
    params, state = LAYER.init(KEY, X.astype("float64"))
    point, unravel = ravel_pytree((params, X.astype("float64")))  # every leaf would compile its finite differences

    def loss(point):
        params, x = unravel(point)
        y, _ = LAYER.apply(params, state, x, key=KEY, train=True)
        return ops.mse(y, jnp.ones_like(y)) + LAYER.kl(params) / 5

    assert dlfn.compare(loss)(point).ok


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: LAYER.apply(*LAYER.init(KEY, X), X, train=True), ["BayesianLinear needs a key in training"]),
        (
            lambda: dataclasses.replace(LAYER, sample_at_inference=True).apply(*LAYER.init(KEY, X), X),
            ["BayesianLinear with sample_at_inference needs a key"],
        ),
        (lambda: LAYER.apply(*LAYER.init(KEY, X), X[:, :2]), ["3 features", "(5, 2)"]),
        (lambda: nn.BayesianLinear(4, prior_std=0.0), ["prior_std", "above 0", "0.0"]),
        (lambda: nn.BayesianLinear(4, std_init=-1.0), ["std_init", "above 0", "-1.0"]),
        (lambda: ops.normal_kl(X, X[:, :2]), ["mean", "[5, 3]", "log_variance", "[5, 2]"]),
        (lambda: ops.normal_kl(X, X, X[:, :2]), ["prior_mean", "[5, 2]", "[5, 3]", "pass a scalar"]),
        (lambda: ops.normal_kl(X[:0], X[:0]), ["0/0"]),
    ],
)
def test_mistakes_are_named_with_their_fix(mistake, parts, refused):
    refused(mistake, parts)
