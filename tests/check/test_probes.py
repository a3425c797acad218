"""The probes by themselves: what they change, what they leave, and what they take for a convention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.check.kinks import is_convention
from dlfn.check.probes import cotangent_kinds, subsets, vary
from dlfn.check.shapes import reshaped

pytestmark = pytest.mark.usefixtures("quick_compilation", "unaudited")

X = np.array([[0.3, -0.7, 1.1], [1.2, 0.4, -0.2]])


def named(probes, name):
    return [probe for probe in probes if probe.name == name]


def test_vary_changes_floating_point_numbers_and_never_invents_an_integer():
    ids, sizes, mask = np.array([4, 7, 1]), np.array([1, 0, 1]), np.ones((2, 3), bool)
    for probe in vary([X, ids, sizes, mask, "static"]):
        x, new_ids, new_sizes, new_mask, static = probe.values
        assert probe.changed
        assert (x.shape, x.dtype, static) == (X.shape, X.dtype, "static")
        assert set(new_ids) <= {0, *ids}
        assert np.sum(new_sizes) == np.sum(sizes) == len(X)
        assert new_mask.dtype == bool
        unchanged = [
            same for i, same in enumerate([x is X, new_ids is ids, new_sizes is sizes]) if i not in probe.changed
        ]
        assert all(unchanged)


def test_vary_makes_what_it_says():
    probes = list(vary([X, X[::-1] + 1]))
    first = {probe.name: probe.values[0] for probe in probes if probe.changed == (0,)}
    assert np.sum(first["ties"] == np.max(X, -1, keepdims=True)) == 4
    assert (first["ties in columns"] == np.max(X, 0)).all()
    assert np.isneginf(first["a row of -inf"]).tolist() == [[True] * 3, [False] * 3]
    assert np.signbit(first["a negative zero"][:, 0]).all()
    assert 0 < np.max(first["subnormal"]) < np.finfo(float).tiny
    assert [probe.changed for probe in probes if probe.name == "ones"] == [(0,), (1,), (0, 1)]
    (alike,) = named(probes, "two arguments alike")
    assert (alike.values[1] == X).all()
    assert [probe.values[0].dtype for probe in vary([X.astype(jnp.bfloat16)])] == [jnp.bfloat16] * len(first)


def test_cotangents_are_of_several_kinds():
    kinds = dict(cotangent_kinds([jax.ShapeDtypeStruct((4, 5), "float32"), jax.ShapeDtypeStruct((2,), "int32")]))
    assert all(second is None and first.dtype == np.float32 for first, second in kinds.values())
    assert np.sum(kinds["a one-hot cotangent"][0]) == 1
    assert 0 < np.sum(kinds["a cotangent with zeros"][0] == 0) < 20
    assert np.ptp(np.log10(np.abs(kinds["a cotangent of many sizes"][0]))) > 6
    assert [name for name, *_ in subsets(2, 1)] == [f"differentiated in argument {i} alone" for i in range(2)]


def shapes(f, *values):
    return {probe.name: [np.shape(x) for x in probe.values] for probe in reshaped(f, values)}


def test_shapes_change_together_and_only_where_the_function_takes_them():
    found = shapes(lambda x, w: x @ w, np.ones((2, 4)), np.ones((4, 3)))
    assert found["size 9 for 4"] == [(2, 9), (9, 3)]
    assert found["size 0 for 2"] == [(0, 4), (4, 3)]
    assert found["one more axis in front"] == [(2, 2, 4), (2, 4, 3)]
    assert "one more axis at the end" not in found
    square = shapes(jnp.linalg.det, np.eye(3))
    assert "size 7 for 3 at the end" not in square
    # The rows of groups are as many as their sizes say, and an index stays in its array.
    assert not any(name.startswith("size") for name in shapes(lambda x, n: x[: n.size], np.ones(4), np.array([3, 1])))
    assert "size 1 for 5" not in shapes(lambda x, i: x[i], np.ones(5), np.array([3, 4]))


TIES = np.array([2.0, 2.0, 1.0, 2.0])
CONVENTIONS = {
    "an even split": ([1 / 3, 1 / 3, 0, 1 / 3], True),
    "the first": ([1, 0, 0, 0], True),
    "any split": ([0.5, 0.3, 0, 0.2], True),
    "all to each": ([1, 1, 0, 1], False),
    "an even split, 1 % off": ([0.3367, 0.3367, 0, 0.3367], False),
    "another entry": ([0, 0, 1, 0], False),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_lies_between_the_slopes_on_both_sides(name):
    gradient, accepted = CONVENTIONS[name]

    def largest(point):
        return np.max(point[0])

    assert is_convention(largest, [TIES], [np.array(gradient)]) == accepted
    assert not is_convention(largest, [TIES], [np.array(gradient)], kinks=False)


def test_where_there_is_no_kink_a_convention_is_the_slope():
    def smooth(point):
        return np.sum(np.sin(point[0]))

    assert is_convention(smooth, [X], [np.cos(X)], kinks=False)
    assert not is_convention(smooth, [X], [1.0001 * np.cos(X)])
    assert is_convention(smooth, [1e-16 * X], [np.ones_like(X)])
    # Outside its domain a function has no slopes, and nothing can be said for a rule.
    with np.errstate(invalid="ignore"):
        assert not is_convention(lambda point: np.sum(np.log(point[0])), [np.array([-1.0])], [np.array([-1.0])])


def relu_with(slope):
    rule = jax.custom_vjp(lambda x: jnp.maximum(x, 0))
    rule.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, dy: (dy * jnp.where(x == 0, slope, x > 0),))
    return rule


RELUS = {
    "at the left": (0.0, "any", True),
    "of the definition": (0.0, "definition", False),
    "no slope": (1.5, "any", False),
}


@pytest.mark.parametrize("name", RELUS)
def test_compare_accepts_conventions_at_kinks_or_the_definitions_alone(name):
    slope, at_kinks, accepted = RELUS[name]
    result = dlfn.compare(relu_with(slope), probe=True, at_kinks=at_kinks, coordinates=0)(X[0])
    assert result.ok == accepted, result
    if not accepted:
        assert str(result.failure).startswith("wrong at a probe, zeros in x: x [")


def test_compare_does_not_judge_what_is_intended():
    round_through = jax.custom_vjp(lambda x: jnp.round(x))
    round_through.defvjp(lambda x: (jnp.round(x), None), lambda _, dy: (dy,))

    def f(x):
        return round_through(3 * x) * x

    assert not dlfn.compare(f)(X[0])
    result = dlfn.compare(f, probe=True, intended=[round_through])(X[0])
    assert result, result
    assert result.rows[0].finite_difference is None
    with pytest.raises(dlfn.InputError, match="is to keep its rule, and has none"):
        dlfn.autodiff(f, keep=[jnp.round])


def test_autodiff_keeps_an_op_and_strips_the_others():
    wrong = [dlfn.Op(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, dy: (7.0 * dy,), name=n) for n in "ab"]
    kept = dlfn.autodiff(lambda x: wrong[0](x) + wrong[1](x), keep=wrong[:1])
    assert jax.grad(kept)(0.0) == 8


def test_compare_leaves_probes_out_in_narrow_types_and_refuses_other_conventions(refused):
    result = dlfn.compare(jnp.sin, dtype="float32", probe=True)(X)
    assert result.notes == ("probes: left out, for they need float64",)
    refused(lambda: dlfn.compare(jnp.sin, at_kinks="mine"), ["at_kinks is 'mine'", "'any' or 'definition'"])


def test_probes_change_integers_that_a_function_takes_for_constants():
    """What needs a number while it is traced is compared at the numbers that it got."""
    result = dlfn.compare(lambda x, n: x[: int(n[0])] ** 2, probe=True, coordinates=0)(X[0], np.array([2, 3]))
    assert result, result
    assert "tried, all agree" in result.notes[-1]


def test_another_key_is_drawn_from():
    (probe,) = vary([jax.random.key(0)])
    assert probe.name == "another key"
    assert jax.random.bits(probe.values[0]) != jax.random.bits(jax.random.key(0))
