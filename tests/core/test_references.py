"""backprop through mutable references: each function beside the same without them, which JAX differentiates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ref import addupdate, empty_ref, freeze, get, new_ref, swap

import dlfn

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")


def read_and_written(x):
    ref = new_ref(3 * x)
    ref[0] = jnp.sin(x[1]) * ref[2]
    ref[1] += x[0] * x[2]
    return jnp.sum(ref[...] ** 2)


def read_and_written_plain(x):
    v = (3 * x).at[0].set(jnp.sin(x[1]) * 3 * x[2])
    return jnp.sum(v.at[1].add(x[0] * x[2]) ** 2)


def swapped_and_frozen(x):
    ref = new_ref(x)
    old = swap(ref, slice(0, 2), x[:2] ** 2)
    return jnp.sum(freeze(ref) * x) + old[0] * old[1]


def swapped_and_frozen_plain(x):
    return jnp.sum(x.at[:2].set(x[:2] ** 2) * x) + x[0] * x[1]


def added_twice_to_one_entry(x):
    ref = empty_ref(jax.typeof(x))
    ref[...] = x
    addupdate(ref, (jnp.array([1, 1, 0]),), x**2)
    return jnp.sum(get(ref, ...) ** 3)


def added_twice_to_one_entry_plain(x):
    return jnp.sum(x.at[jnp.array([1, 1, 0])].add(x**2) ** 3)


def indexed(x):
    ref = new_ref(jnp.outer(x, x))
    ref[jnp.array([0, 2])] = jnp.sin(ref[jnp.array([2, 0])])
    ref[::2, 1:3] *= x[0]
    part = ref.at[1]
    part[0] = x[2] * part[1]
    return jnp.sum(ref[:, 0] * ref[1, :])


def indexed_plain(x):
    v = jnp.outer(x, x)
    v = v.at[jnp.array([0, 2])].set(jnp.sin(v[jnp.array([2, 0])]))
    v = v.at[::2, 1:3].multiply(x[0])
    v = v.at[1, 0].set(x[2] * v[1, 1])
    return jnp.sum(v[:, 0] * v[1, :])


def in_a_loop(x):
    ref = new_ref(jnp.outer(x, x))

    def step(i, carry):
        ref[jax.ds(i, 2), i] *= 2 * x[i] + carry
        ref[i] += x
        return carry * x[1]

    carry = lax.fori_loop(0, 2, step, x[0])
    return jnp.sum(ref[...] ** 2) * carry


def in_a_loop_plain(x):
    v, carry = jnp.outer(x, x), x[0]
    for i in range(2):
        v = v.at[i : i + 2, i].multiply(2 * x[i] + carry)
        v, carry = v.at[i].add(x), carry * x[1]
    return jnp.sum(v**2) * carry


def in_calls_branches_and_checkpoints(x):
    ref = new_ref(x)

    @jax.jit
    def double(y):
        ref[...] *= 2 * y
        return y**2

    @jax.checkpoint
    def wave(y):
        inner = new_ref(y)
        inner[...] = y * ref[1]
        ref[2] = jnp.sin(y)
        return inner[...]

    y = double(x[1])
    lax.cond(x[0] > 0, lambda: ref.__setitem__(0, y * x[2]), lambda: None)
    lax.cond(x[0] < 0, lambda: ref.__setitem__(1, y * x[2]), lambda: None)
    return wave(y) * jnp.sum(ref[...])


def in_calls_branches_and_checkpoints_plain(x):
    v, y = x * 2 * x[1], x[1] ** 2
    v = v.at[0].set(y * x[2])
    return y * v[1] * jnp.sum(v.at[2].set(jnp.sin(y)))


def with_a_loop_that_stops(x):
    count = new_ref(0.0)
    limit = new_ref(3.0)

    def step(i):
        count[...] += 1
        return i + 1

    steps = lax.while_loop(lambda i: count[...] < limit[...], step, 0)
    return jnp.sum(x**2) * count[...] * steps


def with_a_loop_that_stops_plain(x):
    return 9 * jnp.sum(x**2)


@jax.custom_vjp
def squared_in_place(x):
    ref = new_ref(x)
    ref[...] *= x
    return freeze(ref)


squared_in_place.defvjp(lambda x: (squared_in_place(x), x), lambda x, dy: (2 * x * dy,))


@jax.custom_jvp
def cubed_in_place(x):
    ref = new_ref(x)
    ref[...] *= x**2
    return ref[...]


@cubed_in_place.defjvp
def _cubed_in_place_jvp(primals, tangents):
    ref = new_ref(3 * primals[0])
    ref[...] *= primals[0]
    return cubed_in_place(primals[0]), ref[...] * tangents[0]


def in_custom_rules(x):
    return jnp.sum(squared_in_place(x) * cubed_in_place(jnp.sin(x)))


def in_custom_rules_plain(x):
    return jnp.sum(x**2 * jnp.sin(x) ** 3)


def under_vmap(x):
    def one(a):
        ref = new_ref(jnp.zeros(2))
        ref[0] = a * a
        return jnp.sum(ref[...]) * a

    return jnp.sum(jax.vmap(one)(x))


def under_vmap_plain(x):
    return jnp.sum(x**3)


def numbers_made_of_constants(x):
    total, last = new_ref(jnp.zeros(())), new_ref(x[0])
    total[...] += x[1] ** 2
    last[...] = 2.0
    return total[...] * last[...] * x[2]


def numbers_made_of_constants_plain(x):
    return x[1] ** 2 * 2.0 * x[2]


PAIRS = {
    f.__name__: (f, plain)
    for name, plain in dict(globals()).items()
    if name.endswith("_plain") and (f := globals()[name.removesuffix("_plain")])
}
X = np.array([1.2, 0.7, -0.4])


def ordinary(name, custom_rules, eager):
    """Rules to strip are in one of them; what is evaluated op by op, each of which is compiled, is in a few."""
    if custom_rules == "strip":
        return name == "in_custom_rules" and not eager
    return not eager or name in ("read_and_written", "in_a_loop")


@pytest.mark.parametrize(
    ("name", "custom_rules", "eager"),
    [
        pytest.param(*found, marks=[pytest.mark.exhaustive] * (not ordinary(*found)))
        for found in itertools.product(PAIRS, ("use", "strip"), (False, True))
    ],
)
def test_gradient(name, custom_rules, eager):
    f, plain = PAIRS[name]
    gradient = dlfn.backprop_value_and_grad(f, custom_rules=custom_rules)
    expected = jax.jit(jax.value_and_grad(plain))(X)
    for ours, theirs in zip((gradient if eager else jax.jit(gradient))(X), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_deltas_of_what_references_held_have_names():
    def f(x):
        ref = new_ref(x)
        ref[0] = dlfn.ops.tanh(x[1])
        return jnp.sum(ref[...] ** 2)

    _, deltas = dlfn.backprop(f, record=True)(X)
    np.testing.assert_allclose(deltas["tanh"], 2 * jnp.tanh(X[1]), rtol=1e-12)


def test_references_from_outside_are_read_and_written():
    outside, count = new_ref(jnp.ones(3)), new_ref(0)

    def f(x):
        count[...] += 1
        outside[0] = 5 * x[1]
        return jnp.sum(outside[...] * x)

    np.testing.assert_allclose(dlfn.backprop(f)(X), [5 * X[1], 1 + 5 * X[0], 1], rtol=1e-12)
    np.testing.assert_allclose(outside[...], [5 * X[1], 1, 1])
    assert int(count[...]) == 1


def test_where_references_cannot_go_is_an_error_with_the_line(refused):
    @jax.custom_vjp
    def write(ref, x):
        ref[...] = x
        return x

    write.defvjp(lambda ref, x: (write(ref, x), None), lambda _, dy: (None, dy))

    def f(x):
        return jnp.sum(write(new_ref(jnp.zeros(3)), x))

    refused(lambda: dlfn.backprop(f)(X), ["'custom_vjp_call'", "mutable reference", "test_references.py"])
