"""Every rule of the sheet against JAX's own derivative, primitive by primitive, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.core.rules import RULES
from helpers import cotangent
from rule_cases import CASES, IMAGE, KERNEL, X, Y, conv

pytestmark = pytest.mark.usefixtures("quick_compilation")

# No case of their own: what they do shows in others, they concern meshes (tests/sweeps/test_transformations.py and
# tests/core/test_collectives.py), or not every jax has a rule for them (tests/core/test_primitives.py).
COVERED_ELSEWHERE = {
    "add_any", "copy_p", "name", "expand_dims", "scatter_add", "scatter-sub", "scatter_sub", "sharding_constraint",
    "reshard", "layout_constraint", "pvary", "psum_invariant", "nextafter", "psum", "all_gather",
    "all_gather_invariant", "reduce_scatter", "all_to_all", "ppermute",
}  # fmt: skip


@pytest.mark.parametrize(("name", "index"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_rule_agrees_with_jax(name, index, x64):
    f, *args = CASES[name][index]

    def loss(*args):
        y = f(*args)
        return jnp.sum(y * cotangent(y))

    argnums = tuple(range(len(args)))
    ours, theirs = jax.jit(lambda *args: [way(loss, argnums)(*args) for way in (dlfn.backprop, jax.grad)])(*args)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12 * max(1, np.abs(b).max()))


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
    assert differentiable - set(CASES) - COVERED_ELSEWHERE == set()
