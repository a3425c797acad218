"""Corners of norms, elementary functions and statistics that no sweep has, one of them in code without ops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import dlfn
from dlfn import ops
from dlfn.registry import ulp

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_checker_finds_the_nan_of_a_root_that_where_does_not_use():
    """Trap 7: no op can repair it, but ``ops.sqrt`` in its place does."""

    def length(root):
        return lambda x: jnp.sum(jnp.where(x > 0, root(x), 0))

    x = jnp.array([4.0, 0.0])
    found = dlfn.compare(length(jnp.sqrt))(x)
    assert not found.ok
    assert "nan" in str(found)
    assert "[1]" in str(found)
    safe = jax.grad(length(ops.sqrt))
    assert safe(x).tolist() == [0.25, 0.0]
    assert safe(jnp.array([4.0, -1.0])).tolist() == [0.25, 0.0]
    assert dlfn.backprop(length(ops.sqrt))(x).tolist() == [0.25, 0.0]
    assert jax.hessian(lambda x: (ops.sqrt(x) - 1) ** 2)(1.0) == 0.5  # a cotangent of 0 has a slope of its own


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_slope_of_the_root_in_every_half_number(dtype):
    (x,) = ulp.inputs(dtype, lambda x: (x, x))
    x = x[x >= 0]

    def slope(x):
        positive = np.where(x > 0, x, 1)
        value = np.where(x > 0, 0.5 / np.sqrt(positive), 0)
        return value, value

    assert ulp.ulp_error(ops.sqrt, slope, x).max() <= 1


@pytest.mark.parametrize("f", [ops.norm, ops.std, ops.global_norm], ids=lambda f: f.name)
def test_second_derivatives_of_nothing_are_finite(f):
    assert np.isfinite(jax.hessian(f)(jnp.zeros(3))).all()


def test_squared_norm_by_way_of_the_norm():
    assert jax.grad(lambda x: ops.norm(x) ** 2)(jnp.zeros(2)).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(jax.grad(lambda x: ops.norm(x) ** 2)(jnp.array([3.0, 4.0])), [6.0, 8.0], rtol=1e-6)


def test_rows_of_a_batch_do_not_change_each_other():
    """One row out of range has all of the batch take the way of two passes, under vmap every row takes both."""
    x = jnp.array([[1e-30, 2e-30], [3.0, 4.0], [0.0, 0.0], [3e30, 0.0]])
    for op in (ops.norm, ops.std):
        together = jax.grad(lambda x, op=op: jnp.sum(op(x, axis=-1)))(x)
        alone = jnp.stack([jax.grad(op)(row) for row in x])
        mapped = jax.vmap(jax.grad(op))(x)
        np.testing.assert_allclose(together, alone, rtol=3e-7)
        np.testing.assert_allclose(mapped, alone, rtol=3e-7)


@pytest.mark.parametrize(
    ("axis", "keepdims"), [(0, False), (-1, True), ((0, 2), False), ((-1, -3), True), (None, False), (None, True)]
)
def test_axes_are_those_of_numpy(axis, keepdims, x64):
    x, y = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    static = {"axis": axis, "keepdims": keepdims}
    products = (x - x.mean(axis, keepdims=True)) * (y - y.mean(axis, keepdims=True))
    pairs = [
        (lambda x, y: ops.mean(x, **static), np.mean(x, **static)),
        (lambda x, y: ops.std(x, **static), np.std(x, **static)),
        (lambda x, y: ops.variance(x, **static), np.var(x, **static)),
        (lambda x, y: ops.norm(x, **static), np.sqrt(np.sum(x**2, **static))),
        (lambda x, y: ops.covariance(x, y, **static), products.mean(**static)),
    ]
    if axis is not None and not keepdims:
        plain = np.sum(x * y, axis) / np.sqrt(np.sum(x**2, axis) * np.sum(y**2, axis))
        pairs.append((lambda x, y: ops.cosine_similarity(x, y, axis=axis), plain))
    found = jax.jit(lambda x, y: [ours(x, y) for ours, _ in pairs])(x, y)
    for got, (_, expected) in zip(found, pairs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("n", [7, 100_003])
def test_constant_data_do_not_deviate_at_all(n):
    """Though their mean is rounded."""
    x = jnp.full(n, 0.1)
    assert ops.std(x) == 0
    assert not jax.grad(ops.std)(x).any()


def test_statistics_against_scipy_and_numpy(x64):
    x, y = np.random.default_rng(1).normal(size=(2, 50))
    np.testing.assert_allclose(ops.std(x, ddof=1) / np.sqrt(50), scipy.stats.sem(x), rtol=1e-12)
    np.testing.assert_allclose(ops.covariance(x, y, ddof=1), np.cov(x, y)[0, 1], rtol=1e-12)
    correlation = ops.covariance(x, y) / (ops.std(x) * ops.std(y))
    np.testing.assert_allclose(correlation, scipy.stats.pearsonr(x, y).statistic, rtol=1e-12)


def test_deviation_and_its_gradient_far_from_0():
    """Rows N(3000, 1): the digits that the mean's rounding costs are recovered."""
    x = np.random.default_rng(2).normal(3000, 1, (4, 1000)).astype(np.float32)
    exact = x.astype(np.float64)
    center = exact - exact.mean(-1, keepdims=True)
    np.testing.assert_allclose(ops.std(x, axis=-1), exact.std(-1), rtol=3e-7)
    gradient = jax.grad(lambda x: jnp.sum(ops.std(x, axis=-1)))(jnp.asarray(x))
    expected = center / (1000 * exact.std(-1, keepdims=True))
    assert np.abs(gradient - expected).max() <= 3e-7 * np.abs(expected).max()


def test_arguments_broadcast_and_numbers_are_weak():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert ops.power(x, 2.0).dtype == jnp.bfloat16
    assert ops.power(x, 2).dtype == jnp.bfloat16
    assert ops.hypot(x, jnp.ones(3)).shape == (2, 3)
    dx, dy = jax.grad(lambda x, y: jnp.sum(ops.hypot(x, y)), (0, 1))(jnp.ones((2, 1)), jnp.ones(3))
    assert (dx.shape, dy.shape) == ((2, 1), (3,))
    np.testing.assert_allclose(dy, np.full(3, 2**0.5), rtol=1e-6)


def test_second_derivatives_at_numbers():
    """Under vmap a number beside arrays, and numbers in a program, are as good as arrays."""
    np.testing.assert_allclose(
        jax.vmap(jax.grad(ops.hypot), (None, 0))(3.0, jnp.array([0.0, 4.0])), [1.0, 0.6], rtol=1e-6
    )
    assert jax.grad(jax.grad(ops.power, 0), 1)(1.0, 3.0) == 1.0


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [
        (1e20, 0.3, -2.1e-35),
        (1e-20, 0.3, -2.1e33),
        (0.0, 0.0, 0.0),
        (1e-30, 0.0, 0.0),
        (0.0, 0.3, -np.inf),
        (0.0, 2.0, 2.0),
    ],
)
def test_power_bends_as_it_should_where_its_slope_is_a_quotient(base, exponent, expected):
    bend = jax.grad(jax.grad(ops.power))(jnp.float32(base), jnp.float32(exponent))
    np.testing.assert_allclose(bend, expected, rtol=1e-5)


def test_power_of_a_base_below_0_bends_in_forward_mode_too():
    bend = jax.hessian(lambda x: ops.power(x, jnp.float32(3)))
    assert bend(jnp.float32(-2)) == -12
    assert jax.grad(jax.grad(ops.power), 1)(jnp.float32(0), jnp.float32(0)) == 0


def test_power_has_a_mixed_derivative_where_its_value_overflows():
    mixed = jax.grad(jax.grad(ops.power), 1)(jnp.float32(4.4487e22), jnp.float32(2.58515))
    np.testing.assert_allclose(mixed, 1.0809e38, rtol=1e-3)


def test_cosine_of_nothing_has_no_gradient_however_steep_what_follows():
    steep = jax.grad(lambda x: jnp.sqrt(ops.cosine_similarity(x, jnp.array([1.0, 2.0]))))
    assert steep(jnp.zeros(2)).tolist() == [0.0, 0.0]


MISTAKES = [
    (lambda: ops.hypot(jnp.ones(3), jnp.ones(2)), ["hypot: x is float32[3] and y is float32[2]", "broadcast"]),
    (lambda: ops.power(jnp.arange(3), 2.0), ["power: base is int32[3]"]),
    (lambda: ops.norm(jnp.ones(3), axis=1), ["norm: axis is 1", "from -1 to 0"]),
    (lambda: ops.norm(jnp.ones((2, 3)), axis=(0, -2)), ["norm: axis is (0, -2)", "twice"]),
    (lambda: ops.cosine_similarity(jnp.ones(3), jnp.ones(2)), ["cosine_similarity: x is float32[3]", "same shape"]),
    (lambda: ops.cosine_similarity(jnp.ones(3), jnp.ones(3), axis=None), ["cosine_similarity: axis is None"]),
    (lambda: ops.global_norm({}), ["global_norm: tree has no arrays"]),
    (lambda: ops.global_norm({"steps": jnp.arange(3)}), ["global_norm: tree['steps'] is int32[3]"]),
    (lambda: ops.mean(jnp.ones((2, 0)), axis=-1), ["mean: x is float32[2, 0]", "0/0"]),
    (lambda: ops.std(jnp.ones(1), ddof=1), ["std of 1 entries with ddof=1 is 0/0"]),
    (lambda: ops.variance(jnp.ones(2), ddof="1"), ["variance: ddof is '1'"]),
    (lambda: ops.covariance(jnp.ones(2), jnp.ones(3)), ["covariance: x is float32[2] and y is float32[3]"]),
]


@pytest.mark.parametrize(("mistake", "parts"), MISTAKES)
def test_mistakes_are_explained(mistake, parts, refused):
    refused(mistake, parts)
