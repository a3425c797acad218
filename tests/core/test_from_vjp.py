"""Functions of jax.custom_vjp under the transformations that JAX refuses them, beside plain JAX."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.sharding import AxisType, PartitionSpec

import dlfn

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")

X = np.array([0.3, 0.7, 1.2])


def with_rule(f, fwd, bwd, nondiff_argnums=(), **options):
    rule = jax.custom_vjp(f, nondiff_argnums)
    rule.defvjp(fwd, bwd, **options)
    return rule


def calls_itself():
    sine = with_rule(lambda x: jnp.sin(x), lambda x: (sine(x), x), lambda x, dy: (dy * jnp.cos(x),))
    return sine


SINE = calls_itself()


def scaled(g, x, n, scale):
    return {"y": g(x["a"]) * x["b"] * scale, "i": jnp.argmax(x["a"]) + n}


def scaled_backward(g, scale, x, dy):
    slope = jax.jvp(g, (x["a"],), (jnp.ones_like(x["a"]),))[1]
    assert dy["i"].dtype == jax.dtypes.float0  # as JAX gives it
    return {"a": slope * x["b"] * scale * dy["y"], "b": g(x["a"]) * scale * dy["y"]}, None


SCALED = with_rule(scaled, lambda g, x, n, scale: (scaled(g, x, n, scale), x), scaled_backward, (0, 3))


def told_what_moves(x, y):
    assert x.perturbed
    assert y.perturbed
    return (x.value * y.value, x.value + y.value), (x.value, y.value)


def from_both(residuals, dy):
    assert not any(isinstance(d, SymbolicZero) for d in dy)
    (x, y), (product, total) = residuals, dy
    return product * y + total, product * x + total


SYMBOLIC = with_rule(lambda x, y: (x * y, x + y), told_what_moves, from_both, symbolic_zeros=True)
REMAT = with_rule(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),), optimize_remat=True)


@jax.custom_gradient
def sine_with_gradient(x):
    return jnp.sin(x), lambda dy: dy * jnp.cos(x)


def naive_attention(q, k, v):
    return jax.nn.softmax(q @ k.T / math.sqrt(q.shape[-1])) @ v


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def blockwise_attention(q, k, v, block):
    """Softmax in one pass over blocks of keys: no score matrix is kept, nor made again at once."""
    return _attention_forward(q, k, v, block)[0]


def _blocks(block, *arrays):
    return tuple(x.reshape(-1, block, x.shape[-1]) for x in arrays)


def _attention_forward(q, k, v, block):
    def step(carry, kv):
        high, total, y = carry
        s = q @ kv[0].T / math.sqrt(q.shape[-1])
        new = jnp.maximum(high, s.max(-1))
        p, shrink = jnp.exp(s - new[:, None]), jnp.exp(high - new)
        return (new, total * shrink + p.sum(-1), y * shrink[:, None] + p @ kv[1]), None

    start = (jnp.full(len(q), -jnp.inf), jnp.zeros(len(q)), jnp.zeros((len(q), v.shape[-1])))
    (high, total, y), _ = lax.scan(step, start, _blocks(block, k, v))
    y = y / total[:, None]
    return y, (q, k, v, y, high + jnp.log(total))


def _attention_backward(block, residuals, dy):
    q, k, v, y, logsumexp = residuals
    scale = 1 / math.sqrt(q.shape[-1])
    delta = jnp.sum(y * dy, -1)

    def step(dq, kv):
        p = jnp.exp(q @ kv[0].T * scale - logsumexp[:, None])
        ds = p * (dy @ kv[1].T - delta[:, None]) * scale
        return dq + ds @ kv[0], (ds.T @ q, p.T @ dy)

    dq, (dk, dv) = lax.scan(step, jnp.zeros_like(q), _blocks(block, k, v))
    return dq, dk.reshape(k.shape), dv.reshape(v.shape)


blockwise_attention.defvjp(_attention_forward, _attention_backward)


def attended(attention):
    return lambda x: attention(x[:, :2], x[:, 1:3], x[:, 2:])


# The function as it becomes, plain JAX, and what both are differentiated in.
CASES = {
    "a fwd that calls the function": (dlfn.from_vjp(SINE), jnp.sin, X),
    "trees, an integer, static arguments, None": (
        lambda x: dlfn.from_vjp(SCALED)(jnp.sin, {"a": x, "b": x**2}, 2, 0.5)["y"],
        lambda x: scaled(jnp.sin, {"a": x, "b": x**2}, 2, 0.5)["y"],
        X,
    ),
    "symbolic zeros": (lambda x: dlfn.from_vjp(SYMBOLIC)(x[:2], x[1:])[0], lambda x: x[:2] * x[1:], X),
    "remat": (dlfn.from_vjp(REMAT), jnp.sin, X),
    "custom_gradient": (dlfn.from_vjp(sine_with_gradient), jnp.sin, X),
    "in a loop, under jit": (
        dlfn.from_vjp(jax.jit(lambda x: lax.scan(lambda c, _: (SINE(c), None), x, None, length=2)[0])),
        lambda x: jnp.sin(jnp.sin(x)),
        X,
    ),
    "attention in blocks": (
        attended(functools.partial(dlfn.from_vjp(blockwise_attention), block=2)),
        attended(naive_attention),
        np.sin(np.arange(16.0)).reshape(4, 4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_both_modes_and_both_orders(name):
    f, plain, x = CASES[name]

    def derivatives(f):
        def weighted(x):
            y = f(x)
            return jnp.vdot(jnp.cos(jnp.arange(y.size)), y.ravel()), y

        def jacobians(x):
            return f(x), jax.jacfwd(f)(x), jax.jacrev(f)(x), jax.hessian(lambda x: weighted(x)[0])(x)

        return jax.jit(jacobians)(x)

    for ours, theirs in zip(derivatives(f), derivatives(plain)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


TRANSFORMED = {
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (x,))[1],
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](x),
    "vmap of hessian": lambda f: jax.vmap(jax.hessian(f)),
    "hessian of vmap": lambda f: jax.hessian(lambda x: jnp.sum(jax.vmap(f)(x))),
    "three times": lambda f: lambda x: jax.grad(jax.grad(jax.grad(f)))(x[0]),
    "forward in forward": lambda f: lambda x: jax.jacfwd(jax.jacfwd(f))(x[0]),
    "checkpoint": lambda f: jax.jacfwd(jax.grad(lambda x: jnp.sum(jax.checkpoint(f)(x)))),
    "cond": lambda f: jax.jacfwd(lambda x: lax.cond(x[0] > 0, f, jnp.cos, x)),
    "while": lambda f: jax.jacfwd(lambda x: lax.fori_loop(0, x.astype(int)[2] + 1, lambda _, x: f(x), x)),
    "backprop": lambda f: dlfn.backprop(lambda x: jnp.sum(f(x))),
    "autodiff": lambda f: jax.jacfwd(dlfn.autodiff(f)),
    "shard_map": lambda f: jax.jacfwd(
        jax.shard_map(
            f,
            mesh=jax.make_mesh((3,), ("i",), axis_types=(AxisType.Auto,), devices=jax.devices()[:3]),
            in_specs=PartitionSpec("i"),
            out_specs=PartitionSpec("i"),
        )
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name):
    ours, theirs = (jax.jit(TRANSFORMED[name](f))(X) for f in (dlfn.from_vjp(SINE), jnp.sin))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_rule_is_what_is_differentiated_and_the_body_what_it_is_compared_with():
    wrong = with_rule(lambda x: jnp.sin(x), lambda x: (jnp.sin(x), x), lambda x, dy: (1.001 * dy * jnp.cos(x),))
    f = dlfn.from_vjp(wrong)
    for slope in (jax.jacfwd(f), jax.grad(f), dlfn.backprop(f)):
        np.testing.assert_allclose(slope(0.3), 1.001 * np.cos(0.3), rtol=1e-12)
    (call,) = dlfn.audit(f)(0.3).failures
    assert "test_from_vjp.py:" in call.rule.defined_at
    assert "test_from_vjp.py:" in call.rule.derived_at


def test_without_a_derivative_the_body_runs_and_no_residuals_are_made():
    ran = []

    def body(x):
        ran.append("body")
        return jnp.sin(x)

    def fwd(x):
        ran.append("fwd")
        return jnp.sin(x), x

    f = dlfn.from_vjp(with_rule(body, fwd, lambda x, dy: (dy * jnp.cos(x),)))
    f(0.1)
    assert set(ran) == {"body"}
    jax.grad(f)(0.2)
    assert "fwd" in ran
    traced = len(ran)
    for x in (0.3, 0.4):
        f(x)
        jax.grad(f)(x)
    assert len(ran) == traced  # and nothing is traced twice


def test_functions_of_other_libraries():
    halved = dlfn.from_vjp(lambda x: optax.scale_gradient(x, 0.5))
    np.testing.assert_allclose(jax.jvp(halved, (X,), (X,))[1], 0.5 * X)
    fp8 = pytest.importorskip("flax.linen.fp8_ops")
    f = functools.partial(dlfn.from_vjp(fp8.in_qdq), jnp.float32, jnp.float8_e4m3fn)
    x = X.astype("float32")
    scale, history = np.ones(1, "float32"), np.ones(4, "float32")
    moved = jax.jvp(lambda x: f(x, scale, history), (x,), (x,))[1]
    np.testing.assert_allclose(moved, x)  # its rule passes the cotangent on


def closes_over(w, x):
    f = with_rule(lambda x: w * x, lambda x: (w * x, None), lambda _, dy: (w * dy,))
    return dlfn.from_vjp(f)(x)


def test_a_rule_may_close_over_constants():
    assert jax.jit(jax.grad(functools.partial(closes_over, jnp.array(2.0))))(3.0) == 2.0


@pytest.mark.parametrize("derivative", [jax.grad(closes_over), jax.jit(jax.grad(closes_over, 1))], ids=["grad", "jit"])
def test_a_rule_may_not_close_over_what_is_traced(derivative, refused):
    message = ["from_vjp", "closes over a float64[] that is traced", "pass it as an argument"]
    refused(lambda: derivative(2.0, 3.0), message)


REFUSED = {
    "no function": (lambda: dlfn.from_vjp(3), ["from_vjp: f is 3", "a function"]),
    "no rule": (lambda: dlfn.from_vjp(jnp.sin)(1.0), ["from_vjp: sin calls no function of jax.custom_vjp"]),
    "a static array": (
        lambda: dlfn.from_vjp(SCALED)(jnp.sin, {"a": X, "b": X}, 2, jnp.ones(2)),
        ["from_vjp: scaled takes Array", "as a static argument ([3])", "must be hashable"],
    ),
    "complex": (lambda: dlfn.from_vjp(SINE)(X + 1j), ["complex128[3]", "ops are real"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name, refused):
    refused(*REFUSED[name])


def test_python_numbers_stay_weak():
    """They take the type of the array beside them, in the function and in its rule."""
    product = with_rule(lambda x, s: x * s, lambda x, s: (x * s, (x, s)), lambda rest, dy: (dy * rest[1], None))
    ours, x = dlfn.from_vjp(product), jnp.ones(2, jnp.bfloat16)
    y, pull = jax.vjp(lambda x: ours(x, 2.0), x)
    assert y.dtype == pull(y)[0].dtype == jax.jvp(lambda x: ours(x, 2.0), (x,), (x,))[1].dtype == x.dtype
    assert (ours(2.0, 3.0) * x).dtype == (product(2.0, 3.0) * x).dtype == x.dtype
