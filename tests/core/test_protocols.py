"""Rules that functions bring along, by every protocol that JAX has for them: what ``backprop`` tells the rules, and
what it makes of their answers, is what ``jax.grad`` does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero, zero_from_primal
from jax.experimental import hijax

from dlfn import autodiff, backprop

pytestmark = pytest.mark.usefixtures("quick_compilation")

HiPrimitive = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive  # its name from jax 0.12 on, and before
X, W = np.array([0.3, 0.7, 1.1], np.float32), np.array([1.2, -0.4, 0.6], np.float32)


def assert_close(want, got):
    jax.tree.map(lambda want, got: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6), want, got)


def kind(x):
    return "zero" if isinstance(x, SymbolicZero) else "float0" if x.dtype == jax.dtypes.float0 else "array"


def with_jvp(log, symbolic_zeros):
    """x w, sin x and an integer by a rule for tangents that notes what kind of tangents it is given."""

    @jax.custom_jvp
    def f(x, w):
        return x * w, jnp.sin(x), jnp.int32(1)

    def rule(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        log["tangents"] = kind(dx), kind(dw)
        y = f(x, w)
        parts = [d * other for d, other in ((dx, w), (dw, x)) if not isinstance(d, SymbolicZero)]
        sin = zero_from_primal(x, symbolic_zeros=True) if isinstance(dx, SymbolicZero) else jnp.cos(x) * dx
        return y, (sum(parts), sin, zero_from_primal(y[2], symbolic_zeros=symbolic_zeros))

    f.defjvp(rule, symbolic_zeros=symbolic_zeros)
    return f


def with_vjp(log, symbolic_zeros):
    """The same by a rule for cotangents, which notes which arguments move, and what kind of cotangents it is given."""

    @jax.custom_vjp
    def f(x, w):
        return x * w, jnp.sin(x), jnp.int32(1)

    def forward(x, w):
        if symbolic_zeros:
            log["perturbed"] = x.perturbed, w.perturbed
            x, w = x.value, w.value
        return f(x, w), (x, w)

    def backward(saved, bars):
        x, w = saved
        log["cotangents"] = tuple(map(kind, bars))
        product, sine = (0 if isinstance(bar, SymbolicZero) else bar for bar in bars[:2])
        return product * w + sine * jnp.cos(x), zero_from_primal(w) if isinstance(
            bars[0], SymbolicZero
        ) else product * x

    f.defvjp(forward, backward, symbolic_zeros=symbolic_zeros)
    return f


USES = {
    "all": lambda f, x, w: sum(map(jnp.sum, f(x, w))),
    "one argument": lambda f, x, w: f(x, W)[0] + f(x, W)[1],
    "the other argument": lambda f, x, w: f(X, w)[0],
    "one output": lambda f, x, w: f(x, w)[1],
    "a constant through jit": lambda f, x, w: f(*jax.jit(lambda x: (2 * x, jnp.cos(W)))(x))[0],
    "stopped": lambda f, x, w: f(x, lax.stop_gradient(w))[0],
    "a flat function": lambda f, x, w: f(x, jnp.floor(w))[0],
    "an output that does not move": lambda f, x, w: f(x, f(X, w)[1])[0],
    "in jit": lambda f, x, w: jax.jit(lambda x: f(x, W))(x)[0],
    "in checkpoint": lambda f, x, w: jax.checkpoint(lambda x: f(x, W)[1])(x),
    "in vmap": lambda f, x, w: jax.vmap(lambda x: f(x, W[0])[0])(x),
    "in cond": lambda f, x, w: lax.cond(x[0] > 0, lambda x: f(x, W)[0], lambda x: x, x),
    "after cond": lambda f, x, w: f(x, lax.cond(x[0] > 0, lambda x: (x, W), lambda x: (x, 2 * W), x)[1])[0],
    "in scan": lambda f, x, w: lax.scan(lambda x, _: (f(x, W)[1], None), x, None, length=2)[0],
    "a carry that begins to move": lambda f, x, w: lax.scan(
        lambda c, _: ((f(c[0], c[1])[0], c[0]), None), (x, W), None, length=2
    )[0][0],
    "a carry that does not": lambda f, x, w: lax.scan(
        lambda c, _: ((f(c[0], c[1])[0], c[1] + 1), None), (x, W), None, length=2
    )[0][0],
    "what scan stacks": lambda f, x, w: lax.scan(lambda c, y: (c, f(y, W[0])[0]), 0.0, x)[1],
}  # fmt: skip


def assert_same_protocol(use, make, symbolic_zeros):
    logs, gradients = [], []
    for differentiate in (jax.grad, backprop):
        logs.append(log := {})  # of the last time that a rule is traced: JAX may try a loop's body several times
        f = make(log, symbolic_zeros)
        gradients.append(differentiate(lambda x, w, f=f: jnp.sum(use(f, x, w)), (0, 1))(X, W))
    assert logs[0] == logs[1]
    assert_close(*gradients)


# Rules that are not told of zeros are given arrays in every use alike.
PROTOCOLS = [
    pytest.param(
        use, zeros, marks=[pytest.mark.exhaustive] * (not zeros and use not in ("all", "one argument", "in scan"))
    )
    for use in USES
    for zeros in (True, False)
]


@pytest.mark.parametrize("make", [with_jvp, with_vjp])
@pytest.mark.parametrize(("use", "symbolic_zeros"), PROTOCOLS)
def test_symbolic_zeros(use, make, symbolic_zeros):
    assert_same_protocol(USES[use], make, symbolic_zeros)


@pytest.mark.parametrize("vmapped", [False, True])
def test_custom_vmap(vmapped):
    """Of one that is not vmapped ``jax.grad`` takes no gradient, unless it is inside of a rule."""

    def plain(x, w):
        return jnp.sin(x) * w

    f = jax.custom_batching.custom_vmap(plain)
    f.def_vmap(lambda size, batched, x, w: (plain(x, w), True))
    g = jax.vmap(f, (0, None)) if vmapped else f
    want = jax.grad(lambda x, w: jnp.sum(plain(x, w)), (0, 1))(X, np.float32(2))
    for gradient in (backprop, lambda loss, argnums: jax.grad(autodiff(loss), argnums)):
        assert_close(want, gradient(lambda x, w: jnp.sum(g(x, w)), (0, 1))(X, np.float32(2)))


# Primitives of jax.experimental.hijax. Their rules are wrong by a factor, which tells them from the definition.


class Product(HiPrimitive):
    """The product of a pair's entries."""

    def __init__(self, pair):
        self.in_avals, self.out_aval, self.params = (jax.tree.map(jax.typeof, pair),), jax.typeof(pair["a"]), {}
        super().__init__()

    def expand(self, pair):
        return pair["a"] * pair["b"]

    def vjp_fwd(self, moving, pair):
        return self(pair), pair


class Retained(Product):
    """By a rule that returns cotangents."""

    def vjp_bwd_retval(self, pair, bar):
        return ({"a": 3 * bar * pair["b"], "b": 2 * bar * pair["a"]},)


class Accumulated(Product):
    """By a rule that adds cotangents to what is there."""

    def vjp_bwd(self, pair, bar, sums):
        sums["a"].accum(3 * bar * pair["b"])
        sums["b"].accum(2 * bar * pair["a"])


class Forward(Product):
    """By a rule for tangents."""

    def jvp(self, primals, tangents):
        (pair,), (dots,) = primals, tangents
        zeros = jax.tree.map(jnp.zeros_like, pair)
        dots = {name: dots[name] if hasattr(dots[name], "dtype") else zeros[name] for name in dots}
        return self(pair), 3 * dots["a"] * pair["b"] + 2 * dots["b"] * pair["a"]

    vjp_fwd, vjp_bwd_retval = getattr(hijax, "vjp_from_jvp", (None, None))


def product(primitive, a, b):
    pair = {"a": a, "b": b}
    return primitive(pair)(pair)


FORWARD = [Forward] if hasattr(hijax, "vjp_from_jvp") else []  # from jax 0.12 on


@pytest.mark.parametrize("primitive", [Retained, Accumulated, *FORWARD])
@pytest.mark.parametrize(
    "use",
    [
        lambda p, x, w: product(p, x, w),
        lambda p, x, w: product(p, x, W),
        lambda p, x, w: jax.jit(lambda x: lax.scan(lambda c, _: (product(p, c, W), None), x, None, length=2)[0])(x),
    ],
    ids=["all", "one argument", "in jit and scan"],
)
def test_hi_primitives(use, primitive):
    def loss(x, w):
        return jnp.sum(jnp.cos(use(primitive, x, w)))

    def plain(x, w):
        return jnp.sum(jnp.cos(use(lambda pair: lambda pair: pair["a"] * pair["b"], x, w)))

    assert_close(jax.grad(loss, (0, 1))(X, W), backprop(loss, (0, 1))(X, W))
    assert_close(jax.grad(plain, (0, 1))(X, W), backprop(loss, (0, 1), custom_rules="strip")(X, W))


@pytest.fixture
def coming_custom_vjp():
    """The implementation of ``custom_vjp`` by such a primitive."""
    jax.config.update("jax_custom_vjp3", True)
    yield
    jax.config.update("jax_custom_vjp3", False)


@pytest.mark.parametrize("symbolic_zeros", [True, False])
@pytest.mark.parametrize("use", ["all", "one argument", "one output", "in jit"])
def test_custom_vjp_as_a_hi_primitive(use, symbolic_zeros, coming_custom_vjp):
    assert_same_protocol(USES[use], with_vjp, symbolic_zeros)
