"""Visiting equations inside calls, loops, branches and shard_map: outputs stay what they are, and everything that
arrives at the equations is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from dlfn.core import jaxprs
from dlfn.core.entering import Visitor, kept_steps

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.arange(1.0, 5.0)


@jax.custom_vjp
def square(x):
    return x**2


square.defvjp(lambda x: (x**2, x), lambda x, dy: (2 * x * dy,))


@jax.custom_batching.custom_vmap
def batched_by_hand(x):
    return square(x)


batched_by_hand.def_vmap(lambda axis_size, batched, x: (square(x), True))


def visited(f, *args, budget=float("inf")):
    jaxpr, inputs, _, tree = jaxprs.trace(f, args, {})

    def visit(place, values):
        return None, values

    visitor = Visitor(lambda eqn: eqn.primitive.name == "custom_vjp_call", visit, budget)
    outs, found = jax.jit(lambda *inputs: visitor.run(jaxpr, inputs))(*inputs)
    jax.tree.map(np.testing.assert_allclose, tree.unflatten(outs), f(*args))
    return [(np.asarray(one.value[0]), np.asarray(one.reached).tolist()) for one in found]


def scan(f, length=3):
    return lambda x: lax.scan(lambda c, _: (f(c) / 4, None), x, length=length)[0]


def branch(taken):
    return lambda x: lax.cond((x[0] > 0) == taken, square, lambda x: square(x + 1), x)


def loop(f, end):
    return lambda x: lax.while_loop(lambda c: jnp.max(c) < end, f, x)


def solved(x):
    """The solution of ``(x² + 1) y = 2 x² + 2``, where the squares are hidden from the solver."""
    product, solve = lambda y: (square(x) + 1) * y, lambda _, b: b / (x**2 + 1)
    return lax.custom_linear_solve(product, 2 * x**2 + 2, solve, symmetric=True)


CASES = {
    "linear solve": (solved, [X], [True]),
    "call": (jax.jit(square), [X], [True]),
    "checkpoint": (jax.checkpoint(square), [X], [True]),
    "custom_vmap": (batched_by_hand, [X], [True]),
    "scan": (scan(square), [np.array([X, X**2 / 4, X**4 / 64])], [[True] * 3]),
    "cond": (branch(True), [np.zeros(4), X], [False, True]),
    "the other branch": (branch(False), [X + 1, np.zeros(4)], [True, False]),
    "cond in scan": (scan(branch(True), 2), [np.zeros((2, 4)), np.array([X, X**2 / 4])], [[False] * 2, [True] * 2]),
    "while": (loop(square, 1e3), [np.array([X, X**4])], [[True, True]]),
    "while, not run": (loop(square, 1), [np.zeros((2, 4))], [[False, False]]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_arrives_at_an_equation_is_found(name):
    f, values, reached = CASES[name]
    found = visited(f, X)
    assert [reach for _, reach in found] == reached
    for (got, _), expected in zip(found, values, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_of_a_long_scan_some_steps_are_kept():
    (all_steps, _), *_ = visited(scan(square, 9), X / 5)
    (some, reached), *_ = visited(scan(square, 9), X / 5, budget=4 * 17.0)
    at = kept_steps(9, 17, 4 * 17)
    assert at.tolist() == [0, 3, 5, 8]
    np.testing.assert_array_equal(some, all_steps[at])
    assert reached == [True] * 4


@pytest.mark.parametrize("length", [None, 9])
def test_of_a_loop_the_step_of_the_highest_rank_is_kept_too(length):
    """In a ``while_loop``, and in a scan of which not all steps are kept."""
    step = lambda c: square(c) / 4 + 1  # noqa: E731

    def f(x):
        if length:
            return lax.scan(lambda c, _: (step(c), None), x, length=length)[0]
        return lax.fori_loop(0, 9 + 0 * x[0].astype(int), lambda _, c: step(c), x)

    rank = lambda place, values: -jnp.abs(values[0][0] - 1.5).astype(jnp.float32)  # noqa: E731
    jaxpr, inputs, _, _ = jaxprs.trace(f, (X,), {})
    visitor = Visitor(lambda eqn: eqn.primitive.name == "custom_vjp_call", lambda _, x: (None, x), 2 * 17.0, rank=rank)
    _, (found,) = jax.jit(lambda *inputs: visitor.run(jaxpr, inputs))(*inputs)
    carries = [X]
    for _ in range(8):
        carries.append(step(carries[-1]))
    worst = int(np.argmin([abs(c[0] - 1.5) for c in carries]))
    assert 0 < worst < 8
    assert found.steps[0].tolist() == [0, worst, 8]
    np.testing.assert_allclose(found.value[0], np.array(carries)[[0, worst, 8]], rtol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma):
    """A branch is taken on one device and not on the other; an argument that does not vary is found once."""
    mesh = jax.make_mesh((2,), ("i",), devices=jax.devices()[:2])
    split = PartitionSpec("i")

    def body(x, w):
        return lax.cond(x[0] > 2, square, lambda x: x, x), square(w)

    def f(x, w):
        specs = (split, PartitionSpec())
        return jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=check_vma)(x, w)

    x = jax.device_put(X, NamedSharding(mesh, split))
    w = jax.device_put(X[:3], NamedSharding(mesh, PartitionSpec()))
    (value, reached), (other, _) = visited(f, x, w)
    assert reached == [False, True]
    np.testing.assert_array_equal(value[1], X[2:])
    assert other.shape == ((1, 3) if check_vma else (2, 3))


def test_the_same_function_at_two_places():
    """JAX traces it once; the places differ."""
    inner = jax.jit(square)
    jaxpr, inputs, _, _ = jaxprs.trace(lambda x: lax.cond(x[0] > 0, inner, inner, inner(x)), (X,), {})
    visitor = Visitor(lambda eqn: eqn.primitive.name == "custom_vjp_call", lambda place, values: (None, values))
    places = [one.place for one in visitor.run(jaxpr, inputs)[1]]
    assert len(set(places)) == len(places) == 3
    assert all("test_entering.py" in place.line for place in places)
