"""``backprop`` through ``shard_map`` and what devices exchange in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, PartitionSpec

from dlfn import backprop

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

X = np.sin(np.arange(16.0)).reshape(4, 4)
SPLIT, WHOLE = PartitionSpec("i"), PartitionSpec()


def sharded(body, check_vma, in_specs=SPLIT, out_specs=SPLIT):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check_vma)


def assert_close(want, got):
    jax.tree.map(lambda want, got: np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14), want, got)


COLLECTIVES = {
    "psum": lambda x: lax.psum(jnp.sin(x), "i") * x,
    "psum of a group": lambda x: lax.psum(jnp.sin(x), "i", axis_index_groups=[[0], [1]]) * x,
    "pmean": lambda x: lax.pmean(jnp.sin(x), "i") * x,
    "pmax of what does not move": lambda x: lax.pmax(lax.stop_gradient(x), "i") * x,
    "all_gather": lambda x: jnp.sin(lax.all_gather(x, "i")).sum(0) * x,
    "all_gather tiled": lambda x: jnp.sin(lax.all_gather(x, "i", axis=1, tiled=True))[:, ::2],
    "all_gather in common": lambda x: jnp.sin(lax.all_gather(x, "i", axis=1, tiled=True, to="invarying")).sum() * x,
    "all_gather in common, untiled": lambda x: jnp.sin(lax.all_gather(x, "i", to="invarying")).sum(0) * x,
    "psum_scatter": lambda x: lax.psum_scatter(jnp.sin(x), "i") * x,
    "psum_scatter tiled": lambda x: lax.psum_scatter(jnp.sin(x), "i", scatter_dimension=1, tiled=True).sum() * x,
    "all_to_all tiled": lambda x: jnp.sin(lax.all_to_all(x, "i", 1, 0, tiled=True)).sum(0)[:, None] * x.T[:2].T.sum(),
    "ppermute": lambda x: lax.ppermute(jnp.sin(x), "i", [(0, 1)]) * x,
    "axis_index": lambda x: jnp.sin(x) * lax.axis_index("i"),
    "pcast": lambda x: lax.psum(jnp.sin(x), "i") * lax.pcast(jnp.ones(()), "i", to="varying"),
}


# JAX has no types for what groups have in common, and without types no gathering that says so.
ONLY = {"psum of a group": False, "all_gather in common": True, "all_gather in common, untiled": True}


@pytest.mark.parametrize(
    ("name", "check_vma"), [(name, c) for name in COLLECTIVES for c in (True, False) if ONLY.get(name, c) == c]
)
def test_collectives(name, check_vma):
    f = sharded(COLLECTIVES[name], check_vma)

    def loss(x):
        return jnp.sum(jnp.cos(f(x)))

    assert_close(jax.jit(jax.grad(loss))(X), jax.jit(backprop(loss))(X))


@pytest.mark.parametrize("check_vma", [True, False])
def test_untiled_all_to_all(check_vma):
    """Backwards JAX 0.12 still fails on it, forwards it does not."""
    f = sharded(lambda x: lax.all_to_all(jnp.sin(x).reshape(2, 2, 2), "i", 1, 0), check_vma)

    def loss(x):
        return jnp.sum(jnp.cos(f(x) * X.reshape(4, 2, 2)))

    slope = jax.jit(lambda x, dx: jax.jvp(loss, (x,), (dx,))[1])(X, X.T)
    assert_close(slope, np.vdot(jax.jit(backprop(loss))(X), X.T))


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("argnums", [0, (0, 1)])
def test_values_in_common(argnums, check_vma):
    """A replicated argument collects the cotangents of all devices; one of a replicated output counts once."""
    f = sharded(lambda w, x: (lax.psum(jnp.sin(w * x).sum(0), "i"), x * w), check_vma, (WHOLE, SPLIT), (WHOLE, SPLIT))

    def loss(w, x):
        total, parts = f(w, x)
        return jnp.sum(total**2) + jnp.sum(parts[0])

    assert_close(jax.jit(jax.grad(loss, argnums))(X[0], X), jax.jit(backprop(loss, argnums))(X[0], X))


def test_uncompiled():
    f = sharded(lambda x: lax.pmean(jnp.sin(x), "i"), True, out_specs=WHOLE)
    assert_close(np.cos(X) / 2, backprop(lambda x: jnp.sum(f(x)))(X))


@pytest.mark.parametrize("check_vma", [True, False])
def test_some_axes_of_a_mesh(check_vma):
    mesh = jax.make_mesh((2, 2), ("i", "j"), axis_types=(AxisType.Auto,) * 2)
    f = jax.shard_map(
        lambda x: lax.psum(jnp.sin(x) * x, "i"), mesh=mesh, in_specs=SPLIT, out_specs=WHOLE, axis_names={"i"},
        check_vma=check_vma,
    )  # fmt: skip

    def loss(x):
        return jnp.sum(jnp.cos(f(x)))

    assert_close(jax.jit(jax.grad(loss))(X), jax.jit(backprop(loss))(X))


def test_explicit_mesh():
    with jax.set_mesh(jax.make_mesh((2,), ("i",))):
        x = jax.device_put(X, SPLIT)
        f = jax.shard_map(lambda x: lax.psum(jnp.sin(x), "i"), in_specs=SPLIT, out_specs=WHOLE)
        got = jax.jit(backprop(lambda x: jnp.sum(jnp.cos(f(x)))))(x)
        assert_close(jax.jit(jax.grad(lambda x: jnp.sum(jnp.cos(f(x)))))(x), got)
    assert jax.typeof(got).sharding.spec[0] == "i"


@pytest.mark.parametrize("check_vma", [True, False])
def test_deltas_of_devices_are_stacked(check_vma):
    f = sharded(lambda x: lax.psum(checkpoint_name(jnp.sin(x), "sine"), "i"), check_vma, out_specs=WHOLE)
    _, deltas = jax.jit(backprop(lambda x: jnp.sum(f(x) ** 2), record=True))(X)
    total = np.sin(X[:2]) + np.sin(X[2:])
    assert_close({"sine": np.stack([2 * total] * 2)}, deltas)


@pytest.mark.parametrize("symbolic_zeros", [True, False])
def test_rules_inside(symbolic_zeros):
    @jax.custom_vjp
    def f(x, w):
        return x * w, x

    def forward(x, w):
        moving = (x.perturbed, w.perturbed) if symbolic_zeros else (None, None)
        return f(*((x.value, w.value) if symbolic_zeros else (x, w))), moving

    def backward(moving, bars):
        assert moving == ((True, False) if symbolic_zeros else (None, None))
        return 3 * bars[0], None

    f.defvjp(forward, backward, symbolic_zeros=symbolic_zeros)
    inside = sharded(lambda x: lax.psum(f(x, lax.stop_gradient(x))[0], "i"), True, out_specs=WHOLE)
    assert_close(np.full((4, 4), 3.0), jax.jit(backprop(lambda x: jnp.sum(inside(x))))(X))
