"""Functions with a form for each platform: which form a program gets, and that every transformation works on them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.core.platforms import ByPlatform

pytestmark = pytest.mark.usefixtures("quick_compilation")

S = jax.ShapeDtypeStruct


def plain(x, w, *, scale):
    return {"y": jnp.sin(x) @ w * scale, "n": jnp.sum(x)}


def cubed(x, w, *, scale):  # recognisable in a program, with outputs of the same types
    return {"y": (x * x * x) @ w * scale, "n": jnp.sum(x)}


def only_long(x, w, *, scale):
    return {"y": jnp.cos(x) @ w * scale, "n": jnp.sum(x)} if x.shape[-1] > 4 else NotImplemented


FORMS = ByPlatform(plain, accelerator=cubed, cuda=only_long)


@dlfn.Op
def op(x, w, *, scale=2.0):
    return jnp.sin(x) @ w * scale


@op.def_forward
def _(x, w, *, scale):
    return FORMS(x, w, scale=scale)["y"], (x, w)


BACKWARD = ByPlatform(
    lambda x, w, dy, *, scale: (scale * jnp.cos(x) * (dy @ w.T), scale * jnp.sin(x).T @ dy),
    accelerator=lambda x, w, dy, *, scale: (scale * jnp.tanh(x) * (dy @ w.T), scale * jnp.sin(x).T @ dy),
)


@op.def_backward
def _(residuals, dy, *, scale):
    return BACKWARD(*residuals, dy, scale=scale)


def lowered(f, platforms, *args):
    return jax.jit(f).trace(*args).lower(lowering_platforms=platforms).as_text()


def inputs(n=3):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, n))), jnp.asarray(rng.normal(size=(n, 4)))


@pytest.mark.parametrize(
    ("platform", "width", "found"),
    [("cpu", 8, "sine"), ("tpu", 8, "cube"), ("rocm", 8, "cube"), ("cuda", 8, "cosine"), ("cuda", 3, "cube")],
)
def test_the_form_is_that_of_the_platform_a_program_is_lowered_for(platform, width, found):
    text = lowered(lambda x, w: FORMS(x, w, scale=1.0)["y"], (platform,), *inputs(width))
    assert (set(re.findall(r"stablehlo\.(sine|cosine)", text)) or {"cube"}) == {found}


def test_one_artefact_has_the_form_of_each_platform(x64):
    exported = jax.export.export(jax.jit(jax.grad(lambda x, w: op(x, w).sum())), platforms=["cpu", "cuda", "tpu"])
    x, w = inputs()
    again = jax.export.deserialize(exported(x, w).serialize())
    np.testing.assert_allclose(again.call(x, w), jax.grad(lambda x, w: op.definition(x, w).sum())(x, w), rtol=1e-12)
    assert {"cosine", "tanh", "case"} <= set(re.findall(r"stablehlo\.(\w+)", again.mlir_module()))


def total(f):
    return lambda *args: jnp.sum(f(*args))


def squared_slopes(f, w):
    return lambda x: jnp.sum(jax.grad(total(f))(x, w) ** 2)


def in_a_loop(f, w):
    step = jax.checkpoint(lambda c, _: (f(c, w @ w.T) / 9, None))
    return lambda x: jnp.sum(jax.lax.scan(step, x, length=3)[0])


def in_a_branch(f, w):
    return lambda x: jnp.sum(jax.lax.cond(x[0, 0] > 9, lambda x: x @ w, lambda x: f(x, w), x))


TRANSFORMED = {
    "grad": lambda f, x, w: jax.grad(total(f), (0, 1))(x, w),
    "jit of grad": lambda f, x, w: jax.jit(jax.grad(total(f), (0, 1)))(x, w),
    "jvp": lambda f, x, w: jax.jvp(f, (x, w), (x, w)),
    "jacfwd": lambda f, x, w: jax.jacfwd(f)(x, w),
    "hessian": lambda f, x, w: jax.hessian(total(f))(x, w),
    "reverse over reverse": lambda f, x, w: jax.grad(squared_slopes(f, w))(x),
    "vmap of grad": lambda f, x, w: jax.vmap(jax.grad(total(f), (0, 1)), (None, 0))(x, jnp.stack([w, -w])),
    "nested vmap": lambda f, x, w: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(jnp.stack([x, -x]), jnp.stack([w, -w])),
    "vmap along the last axis": lambda f, x, w: jax.vmap(f, (2, None))(jnp.stack([x, -x], 2), w),
    "scan and checkpoint": lambda f, x, w: jax.grad(in_a_loop(f, w))(x),
    "cond": lambda f, x, w: jax.grad(in_a_branch(f, w))(x),
    "backprop": lambda f, x, w: dlfn.backprop(total(f))(x, w),
    "backprop of a gradient": lambda f, x, w: dlfn.backprop(squared_slopes(f, w))(x),
    "autodiff": lambda f, x, w: jax.grad(total(dlfn.autodiff(f)))(x, w),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_every_transformation_is_that_of_the_definition(x64, name):
    x, w = inputs()
    found, expected = (jax.tree.leaves(TRANSFORMED[name](f, x, w)) for f in (op, op.definition))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_alone_it_is_a_function_like_any_other(x64):
    x, w = inputs()
    found = jax.value_and_grad(lambda x: jnp.sum(FORMS(x, w, scale=3.0)["y"]))(x)
    expected = jax.value_and_grad(lambda x: jnp.sum(plain(x, w, scale=3.0)["y"]))(x)
    jax.tree.map(np.testing.assert_allclose, found, expected)


def test_settings_that_compare_equal_are_told_apart():
    sign = ByPlatform(lambda x, *, zero: jnp.copysign(x, zero))
    assert float(sign(1.0, zero=0.0)) == 1
    assert float(sign(1.0, zero=-0.0)) == -1


def test_a_form_of_another_type_is_refused():
    wrong = ByPlatform(lambda x: x + 1, accelerator=lambda x: (x + 1).astype(jnp.bfloat16))
    with pytest.raises(TypeError, match=r"for tpu returns .*bfloat16.*default form .*float32"):
        lowered(wrong, ("tpu",), S((3,), jnp.float32))
