"""Every rule of the sheet against JAX's own derivative, primitive by primitive, in float64; and where JAX has none,
against finite differences, with which ``pytest -m exhaustive`` compares the others too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import sparse
from jax.experimental.xla_metadata import set_xla_metadata

import dlfn
from dlfn.core import jaxprs
from dlfn.core.rules import RULES
from helpers import cotangent
from rule_cases import BEYOND_JAX, CASES
from rule_cases_real import IMAGE, KERNEL, X, Y, conv

pytestmark = pytest.mark.usefixtures("quick_compilation")

# No case of their own: what they do shows in others, they concern meshes (tests/sweeps/test_transformations.py and
# tests/core/test_collectives.py), random numbers (tests/core/test_rule_oracles.py), or not every jax has a rule for
# them (tests/core/test_primitives.py).
COVERED_ELSEWHERE = {
    "add_any", "copy_p", "name", "expand_dims", "scatter_add", "scatter-sub", "scatter_sub", "sharding_constraint",
    "reshard", "layout_constraint", "pvary", "psum_invariant", "nextafter", "xla_metadata_value",
    "with_memory_space_constraint", "random_gamma", "psum", "all_gather", "all_gather_invariant", "reduce_scatter",
    "all_to_all", "ppermute",
}  # fmt: skip


# What rounds has steps.
NOT_BY_DIFFERENCES = {"convert_element_type", "reduce_precision"}


def every_case(table):
    """Of each primitive the first stands for the others in quick runs, and on the newest jax."""
    params = [
        pytest.param(name, i, marks=[pytest.mark.slow] * (i > 0))
        for name, cases in table.items()
        for i in range(len(cases))
    ]
    return pytest.mark.parametrize(("name", "index"), params)


def scalar(f):
    def loss(*args):
        y = f(*args)
        return jnp.sum(y * cotangent(y))

    return loss


def slope(loss, args, step=1e-5):
    """Along a direction, by central differences of fourth order; and the direction."""
    directions = [np.cos(1.0 + np.arange(np.size(x))).reshape(np.shape(x)) for x in args]
    at = lambda t: loss(*(x + t * step * d for x, d in zip(args, directions, strict=True)))  # noqa: E731
    values = lax.map(at, jnp.array([-2.0, -1.0, 1.0, 2.0]))
    return values @ jnp.array([1.0, -8.0, 8.0, -1.0]) / (12 * step), directions


@every_case(CASES)
def test_rule_agrees_with_jax(name, index, x64):
    f, *args = CASES[name][index]
    loss, argnums = scalar(f), tuple(range(len(args)))
    ours, theirs = jax.jit(lambda *args: [way(loss, argnums)(*args) for way in (dlfn.backprop, jax.grad)])(*args)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12 * max(1, np.abs(b).max()))


def agrees_with_differences(f, args):
    loss, argnums = scalar(f), tuple(range(len(args)))
    ours, (difference, directions) = jax.jit(lambda *args: (dlfn.backprop(loss, argnums)(*args), slope(loss, args)))(
        *args
    )
    along = sum(np.vdot(g, d) for g, d in zip(ours, directions, strict=True))
    size = sum(np.linalg.norm(g) * np.linalg.norm(d) for g, d in zip(ours, directions, strict=True))
    np.testing.assert_allclose(along, difference, rtol=1e-7, atol=1e-8 * max(1, size))


@every_case(BEYOND_JAX)
def test_rule_that_jax_does_not_have(name, index, x64):
    f, *args = BEYOND_JAX[name][index]
    agrees_with_differences(f, args)


@pytest.mark.exhaustive
@every_case({name: cases for name, cases in CASES.items() if name not in NOT_BY_DIFFERENCES})
def test_rule_agrees_with_differences(name, index, x64):
    f, *args = CASES[name][index]
    agrees_with_differences(f, args)


def ragged_contraction(a, b):
    numbers = lax.RaggedDotDimensionNumbers((([0], [0]), ([], [])), [0], [])
    return lax.ragged_dot_general(a, b, jnp.array([1, 2]), numbers)


PARTLY = {
    "'polygamma' has no rule for its order": (lambda m: lax.polygamma(m, m), X),
    "'eig' has no rule for the eigenvectors": (lambda a: jnp.linalg.eig(a)[1].real, X[:, :3]),
    "'svd' has no rule for singular vectors unless": (lambda a: jnp.linalg.svd(a)[2], X),
    "'scatter' has no rule with a function": (lambda x: x.at[1].apply(jnp.sin), X),
    "'ragged_dot_general' has no rule where": (ragged_contraction, X, Y),
    "'reduce' has no rule for the value that it starts with": (
        lambda x: lax.reduce(x, x[0, 0], lambda a, b: a + b * b, (0,)), X,
    ),
    "custom_linear_solve cannot be run backwards without": (
        lambda x: lax.custom_linear_solve(lambda y: 2 * y, x, lambda _, b: b / 2), X,
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", PARTLY)
def test_what_a_rule_does_not_know_is_an_error(message, refused):
    f, *args = PARTLY[message]
    refused(lambda: dlfn.backprop(scalar(f), tuple(range(len(args))))(*args), [message, ".py:"])


def test_calls_that_only_name_a_function():
    f = lambda x: jnp.sum(set_xla_metadata(lax.composite(jnp.sin, "sine")(x), color="red"))  # noqa: E731
    np.testing.assert_allclose(dlfn.backprop(f)(X), np.cos(X), rtol=1e-6)


@pytest.mark.parametrize("preferred", [None, jnp.float32])
def test_products_of_half_types(preferred):
    half = [jnp.asarray(a, jnp.bfloat16) for a in (IMAGE[..., :2], KERNEL)]
    for f, args in (
        (conv(window_strides=(1, 1), padding="SAME", preferred_element_type=preferred), half),
        (
            lambda x, y: jnp.dot(x, y.T, preferred_element_type=preferred),
            [jnp.asarray(a, jnp.bfloat16) for a in (X, Y)],
        ),
    ):
        loss = lambda *args, f=f: jnp.sum(f(*args).astype(jnp.float32) ** 2)  # noqa: E731
        for a, b in zip(dlfn.backprop(loss, (0, 1))(*args), jax.grad(loss, (0, 1))(*args), strict=True):
            assert a.dtype == b.dtype == jnp.bfloat16
            np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), rtol=0.02, atol=0.05)


def test_sharding_is_part_of_the_type_of_a_cotangent():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        x = jax.device_put(IMAGE[0, :4, :, 0], jax.P("data", "model"))
        w = jax.device_put(IMAGE[0, 0], jax.P("model", None))
        loss = lambda x, w: jnp.sum(jnp.tanh(jnp.matmul(x, w, out_sharding=jax.P("data", None))))  # noqa: E731
        for a, b in zip(dlfn.backprop(loss, (0, 1))(x, w), jax.grad(loss, (0, 1))(x, w), strict=True):
            assert jax.typeof(a).sharding == jax.typeof(b).sharding
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_every_rule_has_a_case():
    differentiable = {name for name, rule in RULES.items() if rule is not None}
    assert differentiable - set(CASES) - set(BEYOND_JAX) - COVERED_ELSEWHERE == set()


def equations(jaxpr):
    for eqn in jaxprs.parts(jaxpr)[0].eqns:
        yield eqn
        for sub in jaxprs.subjaxprs(eqn):
            yield from equations(sub)


def test_a_sparse_matrix_is_never_made_dense():
    n = 1000
    at = np.array([[0, 1], [500, 3], [999, 999]])
    f = lambda data, x: jnp.sum(jnp.sin(sparse.BCOO((data, at), shape=(n, n)) @ x))  # noqa: E731
    program = jax.make_jaxpr(dlfn.backprop(f, (0, 1)))(jnp.ones(3), jnp.ones((n, 2)))
    assert max(var.aval.size for eqn in equations(program) for var in eqn.outvars) == 2 * n


@pytest.mark.parametrize(
    "gradient", [dlfn.backprop, lambda f: dlfn.backprop(lambda x: jnp.sum(dlfn.backprop(f)(x) ** 2))]
)
def test_extrema_of_windows_are_not_written_out(gradient):
    def program(size):
        f = lambda x: jnp.sum(lax.reduce_window(x, -np.inf, lax.max, (size, size), (1, 1), "VALID") ** 2)  # noqa: E731
        return list(equations(jax.make_jaxpr(gradient(f))(jnp.ones((9, 9)))))

    assert len(program(2)) == len(program(8))
