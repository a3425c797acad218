"""The Op machinery: what it accepts, what it reports, how it behaves when its rules change."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make(backward=lambda residuals, dy: (dy, None, {"w": dy, "n": None}), **options):
    """y = x · w of a dictionary, beside an integer and a key."""

    def product(x, index, params, key=None, *, power=1):
        return x * params["w"] ** power * (1 + 0 * index)

    return dlfn.Op(product, lambda *args, **static: (product(*args, **static), None), backward, **options)


X, PARAMS = jnp.arange(1.0, 4.0), {"w": jnp.full(3, 2.0), "n": jnp.arange(2)}


def test_pytrees_integers_and_keys_take_no_cotangent():
    def backward(residuals, dy):
        x, w = residuals
        return dy * w, None, {"w": dy * x, "n": None}, None

    op = make(backward)
    op.def_forward(lambda x, index, params, key, *, power: (x * params["w"], (x, params["w"])))
    dx, dp = jax.grad(lambda x, w: jnp.sum(op(x, 1, {"w": w, "n": PARAMS["n"]}, jax.random.key(0))), (0, 1))(
        X, PARAMS["w"]
    )
    np.testing.assert_array_equal(dx, PARAMS["w"])
    np.testing.assert_array_equal(dp, X)
    index_bar = jax.grad(lambda i: jnp.sum(op(X, i, PARAMS)), allow_int=True)(1)
    assert index_bar.dtype == jax.dtypes.float0


WRONG = {
    "must return a tuple of 4 cotangents": lambda r, dy: dy,
    "got a tuple of 1": lambda r, dy: (dy,),
    "cotangent of x is float32[2], but x is float32[3]": lambda r, dy: (dy[:2], None, None, None),
    "cotangent of x is float16[3], but x is float32[3]": lambda r, dy: (dy.astype(jnp.float16), None, None, None),
    "cotangent of params has the structure PyTreeDef({'w': *}), but": lambda r, dy: (dy, None, {"w": dy}, None),
    "cotangent of params['w'] is float32[3,1]": lambda r, dy: (dy, None, {"w": dy[:, None], "n": None}, None),
    "index is int32 and takes no cotangent": lambda r, dy: (dy, dy, None, None),
}


@pytest.mark.parametrize("message", WRONG)
def test_mistakes_in_a_backward_name_op_argument_and_both_sides(message):
    op = make(WRONG[message])
    for derivative in (jax.grad, jax.jacfwd, dlfn.backprop):
        with pytest.raises(dlfn.InputError) as caught:
            derivative(lambda x, w: jnp.sum(op(x, 1, {"w": w, "n": PARAMS["n"]})), (0, 1))(X, PARAMS["w"])
        text = str(caught.value).replace(", ", ",").replace("float32[3,1]", "float32[3,1]")
        assert "'product'" in text
        assert message.replace(", ", ",") in text


BAD_CALLS = {
    "x must be an array, got str": lambda op: op("a", 1, PARAMS),
    "x is complex64[3], and ops are real": lambda op: op(X + 1j, 1, PARAMS),
    "power is static configuration and must be hashable, got list": lambda op: op(X, 1, PARAMS, power=[1]),
    "got an unexpected keyword argument 'pwoer'": lambda op: op(X, 1, PARAMS, pwoer=2),
    "missing a required argument: 'params'": lambda op: op(X, 1),
}


@pytest.mark.parametrize("message", BAD_CALLS)
def test_bad_calls(message):
    with pytest.raises(dlfn.InputError, match=re.escape(message)):
        BAD_CALLS[message](make())


def test_an_op_without_rules_says_so():
    op = dlfn.Op(lambda x: x, name="bare")
    with pytest.raises(dlfn.InputError, match="'bare' has no forward"):
        op(1.0)
    with pytest.raises(dlfn.InputError, match="must return \\(y, residuals\\)"):
        dlfn.Op(lambda x: x, lambda x: x)(1.0)


def test_static_configuration_reaches_all_three():
    seen = {}

    @dlfn.Op
    def scaled(x, *, scale=2.0):
        seen["definition"] = scale
        return scale * x

    @scaled.def_forward
    def _(x, *, scale):
        seen["forward"] = scale
        return scale * x, None

    @scaled.def_backward
    def _(_, dy, *, scale):
        seen["backward"] = scale
        return (scale * dy,)

    assert jax.grad(scaled)(1.0) == jax.grad(dlfn.autodiff(scaled))(1.0) == 2.0
    assert seen == dict.fromkeys(["definition", "forward", "backward"], 2.0)
    assert jax.grad(lambda x: scaled(x, scale=3.0))(1.0) == jax.jvp(lambda x: scaled(x, scale=3.0), (1.0,), (1.0,))[1]


def test_rules_called_by_themselves_have_the_defaults_of_the_op():
    @dlfn.Op
    def line(x, offset=None, *, slope=2.0):
        return slope * x if offset is None else slope * x + offset

    @line.def_forward
    def _(x, offset, *, slope):
        return line.definition(x, offset, slope=slope), None

    @line.def_backward
    def _(_, dy, *, slope):
        return slope * dy, None

    assert line.forward(1.0) == (2.0, None)
    assert line.forward(1.0, offset=1.0, slope=3.0) == (4.0, None)
    assert line.backward(None, 1.0) == (2.0, None)
    assert line.backward(None, 1.0, slope=3.0) == (3.0, None)
    with pytest.raises(dlfn.InputError, match="unexpected keyword argument 'slop'"):
        line.forward(1.0, slop=3.0)


def test_a_replaced_rule_takes_effect_after_compilation():
    op = dlfn.Op(lambda x: x, lambda x: (x, None), lambda _, dy: (dy,))
    assert jax.grad(op)(1.0) == 1.0
    op.def_backward(lambda _, dy: (5 * dy,))
    assert jax.grad(op)(1.0) == 5.0


def test_several_outputs_and_an_integer_one():
    op = dlfn.Op(
        lambda x: {"y": 2 * x, "n": jnp.argmax(x)},
        lambda x: ({"y": 2 * x, "n": jnp.argmax(x)}, None),
        lambda _, dy: (2 * dy["y"] if dy["n"] is None else None,),
    )
    for derivative in (jax.grad, dlfn.backprop, lambda f: jax.grad(dlfn.autodiff(f)), jax.jacfwd):
        np.testing.assert_array_equal(derivative(lambda x: jnp.sum(op(x)["y"] ** 2))(X), 8 * X)


def test_weights_shared_by_a_batch_are_saved_once():
    def back_of(w, x):
        return jax.vjp(jax.vmap(dlfn.ops.linear, (0, None)), x, w)[1]

    x, w = jnp.ones((64, 3, 5)), jnp.ones((5, 4))
    held = sum(leaf.size for leaf in jax.tree.leaves(back_of(w, x)))
    assert held == x.size + w.size


def test_configuration_that_is_equal_but_not_the_same_is_told_apart():
    op = dlfn.Op(lambda x, *, s: x * s, lambda x, *, s: (x * jnp.copysign(1.0, s), s), lambda s, dy: (dy,))
    assert op(1.0, s=0.0) == 1.0
    assert op(1.0, s=-0.0) == -1.0
    kinds = dlfn.Op(lambda x, *, s: s, lambda x, *, s: (jnp.asarray(s), None), lambda _, dy: (dy,))
    assert [kinds(1.0, s=s).dtype for s in (1, 1.0, True)] == [jnp.int32, jnp.float32, jnp.bool_]


def test_integer_outputs_follow_x64():
    op = dlfn.Op(lambda x: jnp.argmax(x), lambda x: (jnp.argmax(x), None), lambda _, dy: (None,), name="argmax")
    x = jnp.arange(3, dtype=jnp.float32)
    assert op(x).dtype == jnp.int32
    with jax.enable_x64(True):
        assert jax.jit(op)(x).dtype == jnp.int64


@functools.partial(jax.jit, static_argnums=0)
def hessians(op, x, args):
    def f(x):
        return jnp.sum(op(x, *args))

    return jax.hessian(f)(x), jax.hessian(dlfn.autodiff(f))(x)


@pytest.mark.parametrize("z", [0.0, -0.0, 1.0, -1.0])
def test_second_order_at_points_of_symmetry(z, x64):
    """Where a forward or a slope is written with |x| or a maximum, its own derivative must not be that of the kink."""
    for op, args in (
        (dlfn.ops.binary_cross_entropy, (jnp.array([0.3]),)),
        (dlfn.ops.sigmoid, ()), (dlfn.ops.tanh, ()), (dlfn.ops.silu, ()), (dlfn.ops.softplus, ()), (dlfn.ops.gelu, ()),
    ):  # fmt: skip
        np.testing.assert_allclose(*hessians(op, jnp.array([z]), args), rtol=1e-10, atol=1e-12)


def test_a_loop_does_not_stack_residuals_that_are_arguments_or_outputs():
    def loss(ws, x):
        def step(x, w):
            return dlfn.ops.sigmoid(dlfn.ops.linear(x, w)), None

        return jnp.sum(jax.lax.scan(step, x, ws)[0])

    ws, x = jnp.ones((7, 3, 3)), jnp.ones((5, 3))
    jaxpr = jax.make_jaxpr(jax.grad(loss))(ws, x)
    forward = next(eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    stacked = [v.aval.shape for v in forward.outvars if v.aval.shape[:1] == (7,)]
    assert stacked, "the activations"
    assert ws.shape not in stacked
