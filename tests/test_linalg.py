"""General eigenvalues, principal components against scikit-learn, transforms of the plane three ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, decomposition

import dlfn
from dlfn import linalg
from dlfn.linalg import PCA, rotation, scaling, transform_points, translation

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_general_matrices_are_put_together_again(x64):
    a = np.random.default_rng(0).normal(size=(2, 4, 4))
    eigenvalues, q = linalg.eig(a)
    np.testing.assert_allclose(q * eigenvalues[:, None, :] @ np.linalg.inv(q), a, atol=1e-12)
    np.testing.assert_allclose(a @ q, q * eigenvalues[:, None, :], atol=1e-12)


def test_general_eigenvalues_need_the_cpu(monkeypatch, refused):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    refused(lambda: jax.jit(linalg.eig)(jnp.eye(2)), ["eig: a is on a gpu device", "dlfn.ops.eigh"])
    linalg.eig(jnp.eye(2))
    refused(lambda: linalg.eig(jnp.ones((2, 3))), ["eig: a is float32[2, 3]"])


@pytest.mark.parametrize("shape", [(50, 4), (5, 20), (6, 6)], ids=str)
@pytest.mark.parametrize("k", [1, 3, None])
def test_pca_against_scikit_learn(shape, k, x64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + 10
    theirs = decomposition.PCA(k, svd_solver="full").fit(x)
    ours = jax.jit(PCA.fit, static_argnums=1)(x, k)
    # Data of five examples have four directions: the fifth is rounding.
    n = min(len(ours.components), shape[0] - 1)
    for name in ("components", "explained_variance", "explained_variance_ratio"):
        part, other = getattr(ours, f"{name}"), getattr(theirs, f"{name}_")
        np.testing.assert_allclose(part[:n], other[:n], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.transform(x)[:, :n], theirs.transform(x)[:, :n], atol=1e-10)
    back = ours.inverse_transform(ours.transform(x))
    np.testing.assert_allclose(back, theirs.inverse_transform(theirs.transform(x)), atol=1e-10)
    if k is None:
        np.testing.assert_allclose(back, x, atol=1e-10)


def test_pca_of_digits_and_of_constants(x64):
    x = datasets.load_digits().data
    ours, theirs = PCA.fit(x, 10), decomposition.PCA(10, svd_solver="full").fit(x)
    np.testing.assert_allclose(ours.components, theirs.components_, atol=1e-10)
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), atol=1e-10)
    constant = PCA.fit(np.ones((3, 2)))
    assert constant.explained_variance_ratio.tolist() == [0.0, 0.0]
    batch = jax.vmap(PCA.fit)(x[:12, 18:22].reshape(3, 4, 4))
    np.testing.assert_allclose(batch.components[1], PCA.fit(x[4:8, 18:22]).components, atol=1e-10)


def test_signs_of_components_do_not_depend_on_rounding():
    """Of two that are equal in size the first is positive, however they are rounded."""
    for tilt in (1 - 1e-6, 1.0, 1 + 1e-6):
        x = jnp.array([[1.0], [-2.0], [3.0]]) * jnp.array([1.0, -tilt, 0.5])
        assert PCA.fit(x, 1).components[0, 0] > 0


def test_transforms_compose():
    """Columns of the documents' matrices, and the order of products."""
    assert rotation(0.0).tolist() == np.eye(3).tolist()
    assert scaling([2.0, 3.0]).tolist() == np.diag([2.0, 3.0, 1.0]).tolist()
    assert translation([4.0, 5.0])[:2, 2].tolist() == [4.0, 5.0]
    points = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(transform_points(rotation(np.pi / 2), points), [[0, 1], [-2, 0]], atol=1e-6)
    both = translation([1.0, 0.0]) @ rotation(np.pi / 2)
    np.testing.assert_allclose(transform_points(both, points), [[1, 1], [-1, 0]], atol=1e-6)
    perspective = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    np.testing.assert_allclose(transform_points(perspective, points), [[0.5, 0.0], [0.0, 2.0]])
    clouds = transform_points(rotation(jnp.array([0.1, 0.2, 0.3])), points)
    assert clouds.shape == (3, 2, 2)
    np.testing.assert_allclose(clouds[2], transform_points(rotation(0.3), points), rtol=1e-6)


def test_gradients_in_angle_scale_and_translation_three_ways(x64):
    rng = np.random.default_rng(0)
    cloud, target = jnp.asarray(rng.normal(size=(7, 2))), jnp.asarray(rng.normal(size=(7, 2)))
    theta, s, t = jnp.asarray(0.3), jnp.array([1.5, 0.7]), jnp.array([0.2, -0.4])

    def loss(theta, s, t, cloud):
        matrix = dlfn.ops.matmul(translation(t), dlfn.ops.matmul(rotation(theta), scaling(s)))
        return dlfn.ops.mse(transform_points(matrix, cloud), target)

    # By hand: p' = R S p + t, dR/dθ the quarter turn of R.
    turn = jnp.array([[jnp.cos(theta), -jnp.sin(theta)], [jnp.sin(theta), jnp.cos(theta)]])
    moved = cloud * s @ turn.T + t
    delta = 2 * (moved - target) / moved.size
    quarter = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    expected = jnp.sum(delta * (cloud * s @ (quarter @ turn).T)), jnp.sum(delta @ turn * cloud, 0), jnp.sum(delta, 0)
    which = (0, 1, 2)
    ways = jax.grad(loss, which), jax.grad(dlfn.autodiff(loss), which), dlfn.backprop(loss, which)
    for gradient in jax.jit(lambda *point: [way(*point) for way in ways])(theta, s, t, cloud):
        for got, right in zip(gradient, expected, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-12)


def test_mistakes_are_refused(refused):
    x = jnp.ones((4, 3))
    refused(lambda: PCA.fit(x[:1]), ["PCA: x is float32[1, 3]", "two examples"])
    refused(lambda: PCA.fit(jnp.ones((4, 0))), ["float32[4, 0]"])
    refused(lambda: PCA.fit(x, 4), ["components is 4", "from 1 to 3"])
    refused(lambda: PCA.fit(x.astype(int)), ["PCA: x is int32[4, 3]", "floating point"])
    refused(lambda: PCA.fit(x).transform(x[:, :2]), ["x is float32[4, 2]", "(..., 3)"])
    refused(lambda: rotation(1), ["rotation: theta is int32[]"])
    refused(lambda: scaling(jnp.ones(3)), ["scaling: s is float32[3]", "(..., 2)"])
    refused(lambda: translation(1.0), ["translation: t is float32[]"])
    refused(lambda: transform_points(jnp.eye(2), x), ["matrix is float32[2, 2]", "(..., 3, 3)"])
    refused(lambda: transform_points(jnp.eye(3), x), ["points is float32[4, 3]"])
