"""Derivatives of second and higher order, in all four orders of forward and reverse mode.

Most of it takes its time to compile, and is swept in full by ``pytest -m exhaustive``.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dlfn
from dlfn import ops
from dlfn.registry.all import entries
from dlfn.registry.entry import as_argument

# Not the quicker compilation in float32: it rounds as no program does that is in use.
quick = pytest.mark.usefixtures("quick_compilation")
pytestmark = pytest.mark.usefixtures("older_emitters")

ORDERS = list(itertools.product([jax.jacfwd, jax.jacrev], repeat=2))
ENTRIES = list(entries())

# What is swept in every run: a kind of failure each.
QUICK = {
    "kl_divergence-−∞ in the target", "norm-an infinite entry", "power-a base below 0", "std",
    "gelu-erf", "elu-default",
}  # fmt: skip


def sweep(found):
    """Parameters (entry, ...), of which those in QUICK are for every run."""
    named = [("-".join([entry.op.name, *[part.name for part in parts]]), (entry, *parts)) for entry, *parts in found]
    return [pytest.param(*p, id=name, marks=() if name in QUICK else pytest.mark.exhaustive) for name, p in named]


def weighted(y):
    """A scalar that no symmetry of the outputs makes constant."""
    floats = [leaf.reshape(-1) for leaf in jax.tree.leaves(y) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    y = jnp.concatenate(floats)
    return jnp.sum(y * jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, y.shape), y.dtype))


def bends_of(entry, trap, dtype, orders):
    """Second derivatives in the arguments whose gradients are known: Hessians, or if large their products with a
    vector."""
    args = [None if a is None else as_argument(np.asarray(a), dtype) for a in trap.args]
    at = tuple(trap.gradients)
    point, unravel = ravel_pytree([args[i] for i in at])

    def f(point):
        full = list(args)
        for i, value in zip(at, unravel(point), strict=True):
            full[i] = value
        return weighted(entry.op(*full, **trap.static))

    def along(outer, inner):
        v = jnp.asarray(np.random.default_rng(1).normal(size=point.shape), dtype)
        if inner is jax.jacrev:
            slope = jax.grad(f)
            if outer is jax.jacfwd:
                return lambda x: jax.jvp(slope, [x], [v])[1]
            return jax.grad(lambda x: jnp.vdot(slope(x), v))
        slope = lambda x: jax.jvp(f, [x], [v])[1]  # noqa: E731
        return jax.grad(slope) if outer is jax.jacrev else lambda x: jax.jvp(slope, [x], [v])[1]

    bend = along if point.size > 64 else lambda outer, inner: outer(inner(f))
    found = jax.jit(lambda x: [bend(*order)(x) for order in orders])(point)
    return [np.asarray(h, np.float64) for h in found]


@pytest.mark.parametrize(("entry", "trap"), sweep([(e, t) for e in ENTRIES for t in e.traps]))
def test_second_derivatives_at_traps(entry, trap):
    """Finite and alike in all orders, and as in float64, unless the trap says why there are none."""
    if trap.no_bend:
        pytest.skip(trap.no_bend)
    tiny, eps = (float(getattr(jnp.finfo(trap.dtype), name)) for name in ("tiny", "eps"))
    found = bends_of(entry, trap, trap.dtype, ORDERS)
    with jax.enable_x64(True):
        (exact,) = bends_of(entry, trap, "float64", [(jax.jacfwd, jax.jacrev)])
    # Of the terms of a derivative that is 0 they leave what they round; and below 100 tiny some are out of range.
    size = max(np.abs(g[np.isfinite(g)]).max(initial=0) for g in map(np.asarray, trap.gradients.values()))
    rounding = 4 * np.finfo(float).eps * size
    largest = np.abs(exact).max()
    bound = max(1e-4, 4 * eps) * largest + (4 * eps * size if largest <= rounding else rounding) + 100 * tiny
    for bend in found:
        if bend.shape == exact.shape:  # of a product with a vector, forward mode twice is a number
            assert np.abs(bend - exact).max() <= bound  # and so finite
        else:
            assert np.isfinite(bend).all()


@pytest.mark.parametrize("entry", sweep([(e,) for e in ENTRIES if e.homogeneous]))
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.exhaustive)])
def test_second_derivatives_of_homogeneous_functions_at_all_scales(entry, dtype):
    """f(c x) = c^d f(x) gives H(c x) = c^(d - 2) H(x), where that is in range."""
    degree, static = entry.homogeneous
    x, *others = entry.cases[0].make((2,), dtype)

    def f(x, op):
        others_now = [None if a is None else a.astype(x.dtype) for a in others]
        return weighted(op(x, *others_now, **{**entry.cases[0].static, **static}))

    with jax.enable_x64(True):
        exact = jax.jit(jax.hessian(lambda x: f(x, dlfn.autodiff(entry.op))))(x.astype("float64"))
        exact = np.asarray(exact)
    scales = [2.0**k for k in (-50, -40, -20, 0, 20, 40, 50) if abs(k * (degree - 2)) < 120]
    bends = jax.jit(lambda x: [outer(inner(functools.partial(f, op=entry.op)))(x) for outer, inner in ORDERS])
    for c in scales:
        for bend in bends(x * c):
            got = np.asarray(bend, np.float64) * c ** (2 - degree)
            tolerance = 3e-6 if dtype == "float32" else 0.03
            np.testing.assert_allclose(got, exact, rtol=0, atol=tolerance * np.abs(exact).max(), err_msg=f"at {c}")


ELEMENTWISE = [(e, c) for e in ENTRIES if e.elementwise for c in e.cases]


@quick
@pytest.mark.parametrize(("entry", "case"), sweep(ELEMENTWISE))
def test_elementwise_derivatives_of_order_2_to_4(entry, case, x64):
    """Against the definition in float64, which near 0 and in tails loses some of its digits."""
    x = jnp.array([-30.0, -8.0, -3.3, -1.0625, -0.4, -1e-3, 1e-3, 0.3, 0.9375, 2.2, 3.7, 9.0, 30.0])
    ours = functools.partial(entry.op, **case.static)
    theirs = dlfn.autodiff(ours)
    ours, theirs = jax.grad(ours), jax.grad(theirs)
    pairs = [(ours := jax.grad(ours), theirs := jax.grad(theirs)) for _ in range(3)]
    for got, expected in jax.jit(jax.vmap(lambda x: [(f(x), g(x)) for f, g in pairs]))(x):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * float(jnp.abs(expected).max()))


SMOOTH_OF_TWO = {
    "hypot": (ops.hypot, lambda x, y: jnp.sqrt(x * x + y * y)),
    "atan2": (ops.atan2, jnp.arctan2),
    "xlogy": (ops.xlogy, lambda x, y: x * jnp.log(y)),
    "power": (ops.power, lambda x, n: jnp.exp(n * jnp.log(x))),
}


@quick
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "hypot" else pytest.mark.exhaustive) for n in SMOOTH_OF_TWO]
)
def test_derivatives_of_functions_of_two_numbers_up_to_order_4(name, x64):
    point = jnp.array([[1.3, 0.7], [0.5, 2.0], [1.0, 1.0], [3.0, 0.25]])
    ours, theirs = ((lambda p, f=f: f(p[0], p[1])) for f in SMOOTH_OF_TWO[name])
    ours, theirs = jax.jacrev(ours), jax.jacfwd(theirs)
    pairs = [(ours := mode(ours), theirs := jax.jacfwd(theirs)) for mode in (jax.jacfwd, jax.jacrev, jax.jacfwd)]
    for got, expected in jax.jit(jax.vmap(lambda p: [(f(p), g(p)) for f, g in pairs]))(point):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


POWERS = [
    pytest.param(base, n, marks=() if (base, n) in ((0.0, 2),) else pytest.mark.exhaustive)
    for base in (0.0, 3.0, -2.0)
    for n in (0, 1, 2, 3, -1, 0.5)
]


@pytest.mark.parametrize(("base", "n"), POWERS)
def test_power_bends_alike_whatever_its_exponent_is(base, n):
    """As a literal, a traced number, an array and, if it is whole, an integer."""
    if base == 0 and n < 1 and n != 0:
        expected = np.inf if n < 0 else -np.inf
    elif base < 0 and n == 0.5:
        expected = np.nan
    else:
        expected = n * (n - 1) * base ** (n - 2) if n * (n - 1) else 0.0
    exponents = [float(n), jnp.float32(n), jnp.array([n, n], jnp.float32)]
    exponents += [n, jnp.int32(n)] if isinstance(n, int) else []

    @jax.jit
    def bends(x, traced):
        return [
            outer(inner(lambda x, exponent=exponent: jnp.mean(ops.power(x, exponent))))(x)
            for outer, inner in ORDERS
            for exponent in (*exponents, traced)
        ]

    np.testing.assert_allclose(bends(base, float(n)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "n", [0.0, 0.5, *[pytest.param(n, marks=pytest.mark.exhaustive) for n in (1.0, 2.0, 3.0, -1.0)]]
)
def test_hessians_of_power_are_those_of_mathematics(n):
    """By both ways to the mixed derivative."""
    x = 3.0
    y, log = x**n, np.log(x)
    expected = [[n * (n - 1) * y / x**2, y / x * (1 + n * log)], [y / x * (1 + n * log), y * log**2]]
    hessians = jax.jit(lambda x, n: [outer(inner(ops.power, (0, 1)), (0, 1))(x, n) for outer, inner in ORDERS])
    for found in hessians(x, n):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_mixed_derivative_of_power_at_an_exponent_of_0():
    mixed = jax.jit(lambda x, n: [outer(inner(ops.power, i), 1 - i)(x, n) for outer, inner in ORDERS for i in (0, 1)])
    for base in (23.0, 0.5, -2.0):
        np.testing.assert_allclose(mixed(base, 0.0), 1 / base, rtol=1e-6)


def test_power_has_higher_derivatives_at_0():
    f = lambda x: jnp.exp(-ops.power(x, 2))  # noqa: E731
    third = jax.grad(jax.grad(jax.grad(f)))
    assert jax.jit(lambda x: (third(x), jax.grad(third)(x), jax.jacfwd(third)(x)))(0.0) == (0, 12, 12)


def test_the_mixed_derivative_of_power_at_base_0_is_finite_by_convention():
    """0^0 log 0 counts as 0: -∞, the limit, would make the others nan."""
    (xx, xn), (nx, nn) = jax.hessian(ops.power, (0, 1))(0.0, 1.0)
    assert (xx, xn, nx, nn) == (0, 1, 1, 0)


@pytest.mark.parametrize("n", [-128, -127, 0, 127])
def test_powers_with_narrow_integers_do_not_wrap(n):
    def f(x):
        return ops.power(x, jnp.int8(n))

    np.testing.assert_allclose(jax.grad(f)(1.1), n * 1.1 ** (n - 1), rtol=1e-5)
    np.testing.assert_allclose(jax.hessian(f)(1.1), n * (n - 1) * 1.1 ** (n - 2), rtol=1e-5)
