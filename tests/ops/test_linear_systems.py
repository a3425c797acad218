"""Products of every kind of shape, singular matrices, functions of matrices at equal eigenvalues, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import dlfn
from dlfn import ops
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPES = [
    ((3,), (3,)),
    ((3,), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((4, 3), (5, 1, 3, 2)),
    ((1, 4, 3), (5, 1, 3, 2)),
    ((2, 1, 4, 3), (1, 5, 3, 2)),
    ((2, 0, 3), (3, 2)),
    ((2, 4, 0), (0, 2)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_products_of_every_kind_of_shape(a, b, x64):
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.normal(size=a)), jnp.asarray(rng.normal(size=b))

    def loss(product):
        return lambda a, b: jnp.sum(jnp.sin(product(a, b)))

    ours, plain = (jax.jit(jax.value_and_grad(loss(f), (0, 1)))(a, b) for f in (ops.matmul, jnp.matmul))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13), ours, plain)
    if a.ndim == 1 and b.ndim == 1:
        assert jnp.array_equal(ops.dot(a, b), ops.matmul(a, b))


SINGULAR = {
    "a zero pivot": [[1.0, 2.0], [2.0, 4.0]],
    "rounding hides it": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
    "a tenth": [[0.1, 0.3], [0.2, 0.6]],
    "zero": [[0.0]],
}
REGULAR = {
    "badly scaled": [[1e30, 0.0], [0.0, 1e-30]],
    "rows and columns of very different sizes": [[1e20, 1e10], [1e10, 3.0]],
    "triangular": [[1.0, 1e20], [0.0, 1.0]],
    "no rows": np.zeros((0, 0)),
}


@pytest.mark.parametrize("matrix", SINGULAR.values(), ids=SINGULAR)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_matrices_are_refused_outside_jit(matrix, dtype, refused):
    with jax.enable_x64(True):
        a = jnp.asarray(matrix, dtype)
        refused(lambda: ops.inverse(a), ["inverse: a is singular to the precision of " + dtype, "identity"])
        refused(lambda: ops.solve(a, jnp.ones(a.shape[0], dtype)), ["solve: a is singular"])
        good = 2 * jnp.eye(a.shape[0], dtype=dtype)
        refused(lambda: ops.inverse(jnp.stack([good, good, a, good]).reshape(2, 2, *a.shape)), ["a[1, 0] is singular"])


@pytest.mark.parametrize("matrix", REGULAR.values(), ids=REGULAR)
def test_regular_matrices_are_not_refused(matrix, x64):
    a = jnp.asarray(matrix)
    np.testing.assert_allclose(ops.inverse(a), np.linalg.inv(np.asarray(a)), rtol=1e-12)


def test_singular_matrices_are_refused_inside_grad(refused):
    a = jnp.ones((2, 2))
    refused(lambda: jax.grad(lambda a: ops.inverse(a).sum())(a), ["inverse: a is singular"])
    refused(lambda: jax.jvp(ops.solve, (a, a), (a, a)), ["solve: a is singular"])


def test_half_types_are_singular_to_the_precision_of_the_factors(refused):
    hilbert = jnp.asarray(scipy.linalg.hilbert(3), jnp.bfloat16)
    exact = np.linalg.inv(np.asarray(hilbert, np.float64))
    np.testing.assert_allclose(ops.inverse(hilbert).astype(jnp.float32), exact, rtol=2**-8)
    refused(lambda: ops.inverse(jnp.ones((2, 2), jnp.bfloat16)), ["singular to the precision of float32"])


def test_numbers_that_are_not_finite_go_through():
    assert np.isnan(ops.inverse(jnp.array([[jnp.nan, 1.0], [1.0, 1.0]]))).any()


def test_singular_matrices_inside_jit_are_not_finite():
    """And their neighbours in the batch are right."""
    a = jnp.array([[[1.0, 2.0], [2.0, 4.0]], [[2.0, 0.0], [0.0, 2.0]]])
    y = jax.jit(ops.inverse)(a)
    x = jax.jit(ops.solve)(a, jnp.ones((2, 2, 1)))
    for result in (y, x):
        assert not np.isfinite(result[0]).any()
    assert jnp.array_equal(y[1], jnp.eye(2) / 2)
    assert jnp.array_equal(x[1], jnp.full((2, 1), 0.5))


def rotated(eigenvalues, seed=0):
    q = scipy.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return jnp.asarray(q * np.asarray(eigenvalues) @ q.T)


EQUAL = {
    "all": [1.0, 1.0, 1.0],
    "two of three": [1.0, 1.0, 2.0],
    "two pairs": [-1.0, 2.0, 2.0, -1.0],
    "zeros": [0.0] * 3,
}


def exp(x):
    return jnp.exp(x), jnp.exp(x)


def of_eigenvalues(a):
    """The trace of f(A)."""
    return jnp.sum(jnp.sin(ops.eigh(a)[0]) * ops.eigh(a)[0])


def of_largest_space(a):
    """An entry of the projection to the eigenvectors of the greater eigenvalues."""
    eigenvalues, q = ops.eigh(a)
    return jnp.sum(jnp.cos(jnp.arange(a.size)).reshape(a.shape) * (q * (eigenvalues > 1.5) @ q.T))


def of_function(a):
    y = ops.matrix_function(a, function=exp)
    return jnp.sum(jnp.cos(jnp.arange(y.size)).reshape(y.shape) * y)


@pytest.mark.parametrize("name", ordinarily({"two of three", "zeros"}, EQUAL))
@pytest.mark.parametrize("f", [of_eigenvalues, of_largest_space, of_function])
def test_equal_eigenvalues_against_finite_differences(f, name, x64):
    """The functions do not depend on the basis, and their gradients are right."""
    eigenvalues = EQUAL[name]
    for a in (rotated(eigenvalues), jnp.diag(jnp.asarray(eigenvalues))):
        compiled, step = jax.jit(f), 1e-5
        expected = np.zeros(a.shape)
        for i, j in np.ndindex(*a.shape):
            move = np.zeros(a.shape)
            move[i, j] = step
            expected[i, j] = (compiled(a + move) - compiled(a - move)) / (2 * step)
        for gradient in (jax.grad(f)(a), dlfn.backprop(f)(a)):
            np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("gap", [0.0, 1e-14, 1e-10, 1e-6, 1e-3, 0.1, 1.0, 30.0])
def test_functions_of_matrices_at_every_gap(gap, x64):
    """Daleckii and Krein's divided differences have their digits, from equal eigenvalues to distant ones."""
    cases = (
        (exp, 0.3, np.exp(0.3 + gap / 2) * (np.sinh(gap / 2) / (gap / 2) if gap else 1.0)),
        (lambda x: (jnp.log(x), 1 / x), 3000.0, np.log1p(gap / 3000) / gap if gap else 1 / 3000),
    )
    for f, low, exact in cases:
        a = jnp.diag(jnp.array([low, low + gap]))
        gradient = jax.grad(lambda a, f=f: ops.matrix_function(a, function=f)[0, 1])(a)
        np.testing.assert_allclose(gradient[0, 1] + gradient[1, 0], exact, rtol=1e-11)


def test_matrix_functions_against_scipy(x64):
    a = rotated([0.5, 0.5, 2.0, 3.0])
    for f, oracle in (
        (exp, scipy.linalg.expm),
        (lambda x: (jnp.log(x), 1 / x), scipy.linalg.logm),
        (lambda x: (jnp.sqrt(x), 0.5 / jnp.sqrt(x)), scipy.linalg.sqrtm),
    ):
        np.testing.assert_allclose(ops.matrix_function(a, function=f), oracle(np.asarray(a)), rtol=1e-12, atol=1e-12)
    direction = np.random.default_rng(0).normal(size=a.shape)
    direction = direction + direction.T
    tangent = jax.jvp(lambda a: ops.matrix_function(a, function=exp), (a,), (jnp.asarray(direction),))[1]
    np.testing.assert_allclose(tangent, scipy.linalg.expm_frechet(np.asarray(a), direction)[1], rtol=1e-11)


def test_functions_of_both_eigenvalues_and_eigenvectors_are_finite(x64):
    """Of Q f(Λ) Qᵀ at equal eigenvalues the cotangents know the diagonal alone; matrix_function has the rest."""
    weights = jnp.array([[1.0, 2.0], [2.0, 3.0]])

    def by_eigh(a):
        eigenvalues, q = ops.eigh(a)
        return jnp.sum(weights * (q * jnp.exp(eigenvalues) @ q.T))

    def whole(a):
        return jnp.sum(weights * ops.matrix_function(a, function=exp))

    np.testing.assert_allclose(jax.grad(by_eigh)(jnp.eye(2)), np.e * np.diag([1.0, 3.0]), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(whole)(jnp.eye(2)), np.e * weights, rtol=1e-12)
    apart = rotated([1.0, 2.0])
    np.testing.assert_allclose(jax.grad(by_eigh)(apart), jax.grad(whole)(apart), rtol=1e-10)


def test_a_basis_that_is_anyones_choice_gives_zero(x64):
    """By convention, where no gradient exists; and only the symmetric part of an argument counts."""
    gradient = jax.grad(lambda a: ops.eigh(a)[1][0, 1])(jnp.eye(3))
    assert jnp.array_equal(gradient, jnp.zeros((3, 3)))
    a = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    values, q = ops.eigh(a)
    np.testing.assert_allclose(q * values @ q.T, (a + a.T) / 2, atol=1e-14)
    assert all(np.abs(column).max() == column.max() for column in np.asarray(q).T)


def test_close_eigenvalues_of_a_large_matrix_are_told_apart():
    """Float32's rounding is below a gap of 1e-4, whose term is most of this gradient; between equal ones it is none."""
    n = 256
    q = scipy.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]

    def gradient(eigenvalues, dtype):
        weights = jnp.asarray(np.cos(np.arange(n)), dtype)
        a = jnp.asarray(q * eigenvalues @ q.T, dtype)
        return np.asarray(jax.jit(jax.grad(lambda a: jnp.sum((weights @ ops.eigh(a)[1][:, : n // 2]) ** 2)))(a))

    close = np.linspace(0.0, 1.0, n)
    close[n // 2] = close[n // 2 - 1] + 1e-4
    equal = np.where(np.arange(n) < n // 2, 0.0, 1.0)
    with jax.enable_x64(True):
        for eigenvalues, tolerance in ((close, 0.05), (equal, 1e-4)):
            exact = gradient(eigenvalues, "float64")
            error = np.linalg.norm(gradient(eigenvalues, "float32") - exact) / np.linalg.norm(exact)
            assert error < tolerance, error


def test_mistakes_are_refused(refused):
    a = jnp.ones((2, 3))
    refused(lambda: ops.inverse(a), ["inverse: a is float32[2, 3]", "square"])
    refused(lambda: ops.eigh(jnp.ones(3)), ["eigh: a is float32[3]", "square"])
    refused(lambda: ops.matmul(a, a), ["matmul: a is float32[2, 3]", "columns", "jnp.swapaxes(b, -1, -2)"])
    refused(lambda: ops.matmul(jnp.ones((2, 3, 3)), jnp.ones((4, 3, 3))), ["[2] and [4] do not broadcast"])
    refused(lambda: ops.matmul(jnp.ones(()), a), ["the scalar"])
    refused(lambda: ops.dot(jnp.ones(2), jnp.ones(3)), ["dot", "components of a, 2", "3"])
    refused(lambda: ops.solve(jnp.ones((4, 3, 3)), jnp.ones((4, 3))), ["solve", "pass b[..., None]"])
    refused(lambda: ops.solve(jnp.eye(3), jnp.ones(2)), ["float32[2]", "or (3,)"])
    refused(lambda: ops.matrix_function(jnp.eye(2), function=3), ["function is 3"])
    refused(lambda: ops.matrix_function(jnp.eye(2), function=jnp.exp), ["the pair (f(x), f'(x))", "float32[2]"])
