"""Every rule of weights, from every dtype to every other: computed in float64 and rounded once, bit for bit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn.weights import To, export_state, import_state, rules

pytestmark = pytest.mark.usefixtures("x64")

# A rule of every type, and the shapes of its arrays in the file.
RULES = [
    (rules.identity, [(40,)]),
    (rules.transpose, [(8, 5)]),
    (rules.transposed_kernel, [(4, 5, 2)]),
    (rules.Flattened((2, 4, 5)), [(3, 40)]),
    (rules.Split(2), [(40,)]),
    (rules.Split(4, then=rules.transpose), [(8, 5)]),
    (rules.Split((1, 5, 2), axis=1, then=rules.Squeezed(0)), [(1, 8, 5)]),
    (rules.Joined(2, then=rules.transpose), [(4, 5), (4, 5)]),
    (rules.Joined((3, 4, 1), axis=-1), [(5, 3), (5, 4), (5, 1)]),
    (rules.Tied(rules.identity, rules.transpose), [(8, 5)]),
    (rules.Squeezed((0, -1)), [(1, 8, 5, 1)]),
    (rules.Unsqueezed((2, 3), then=rules.kernel), [(8, 5)]),
    (rules.Summed(), [(40,), (40,)]),
    (rules.GRUWeight(), [(12, 4)]),
    (rules.GRUBias(), [(42,), (42,)]),
]
DTYPES = [jnp.dtype(name) for name in ("float16", "bfloat16", "float32", "float64")]


def rounded(x, dtype):
    """float64 to the nearest value of a dtype, the even one of two, by its number of digits and least exponent."""
    info = jnp.finfo(dtype)
    exponent = np.maximum(np.frexp(x)[1] - 1, info.minexp) - info.nmant
    return np.ldexp(np.rint(np.ldexp(x, -exponent)), exponent).astype(dtype)


def arrays_of(shapes, dtype):
    """Numbers of every size, the first of which have a sum that rounds otherwise by way of float32 or of the dtype."""
    rng = np.random.default_rng(0)
    found = [rng.normal(size=shape) * 2.0 ** rng.integers(-12, 6, size=shape) for shape in shapes]
    found[0].flat[:4] = 1, 1, 1 + 2**-8 + 2**-40, 1 + 2**-11 + 2**-40
    found[-1].flat[:2] = (2**-8 + 2**-30, 2**-11 + 2**-31) if len(found) > 1 else found[0].flat[:2]
    return [rounded(array, dtype) for array in found]


def names_of(rule):
    names = tuple(f"a{i}" for i in range(rule.arrays))
    return {names if len(names) > 1 else names[0]: To([f"b{i}" for i in range(rule.leaves)], rule)}


def same_bits(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def test_every_rule_has_an_example():
    kinds = {kind for kind in vars(rules).values() if isinstance(kind, type) and issubclass(kind, rules.Rule)}
    assert kinds - {rules.Rule, rules.Equal} == {type(rule) for rule, _ in RULES}  # Equal refuses arrays that differ


@pytest.mark.parametrize("gradients", [False, True], ids=["values", "gradients"])
@pytest.mark.parametrize(("rule", "shapes"), RULES, ids=[str(rule) for rule, _ in RULES])
def test_rules_compute_in_float64_and_round_once(rule, shapes, gradients):
    load, save = (
        (rule.load_gradients, rule.save_gradients) if gradients else (rule.load, rule.save)
    )  # fmt: skip
    for given, wanted in itertools.product(DTYPES, DTYPES):
        arrays = arrays_of(shapes, given)
        exact = load(*(array.astype(np.float64) for array in arrays))
        like = {f"b{i}": jax.ShapeDtypeStruct(leaf.shape, wanted) for i, leaf in enumerate(exact)}
        named = {f"a{i}": array for i, array in enumerate(arrays)}
        params, _ = import_state(named, like, (), names_of(rule), gradients=gradients)
        same_bits(params.values(), [rounded(leaf, wanted) for leaf in exact])

        exported = export_state(params, (), names_of(rule), gradients=gradients)
        exact = save(*(np.asarray(leaf).astype(np.float64) for leaf in params.values()))
        same_bits(exported.values(), [rounded(array, wanted) for array in exact])
        again, _ = import_state(exported, like, (), names_of(rule), gradients=gradients)
        same_bits(again.values(), [np.asarray(leaf) for leaf in params.values()])


@pytest.mark.parametrize(("rule", "shapes"), RULES, ids=[str(rule) for rule, _ in RULES])
def test_gradients_are_those_of_the_arrays(rule, shapes):
    """The gradients of arrays and of leaves give the same change, as load is linear."""
    changes = arrays_of(shapes, np.float64)
    rng = np.random.default_rng(1)
    leaves = rule.load(*changes)
    gradients = [rng.normal(size=leaf.shape) for leaf in leaves]
    of_arrays = rule.save_gradients(*gradients)
    left, right = (
        sum(np.vdot(a, b) for a, b in zip(*pair, strict=True)) for pair in ((of_arrays, changes), (gradients, leaves))
    )
    np.testing.assert_allclose(left, right, rtol=1e-12)


def test_a_sum_may_be_larger_than_the_dtype_of_its_parts():
    arrays = {"a0": np.full(3, 6e4, np.float16), "a1": np.full(3, 6e4, np.float16)}
    params, _ = import_state(arrays, {"b0": jnp.zeros(3)}, (), names_of(rules.Summed()))
    assert params["b0"].tolist() == [120000.0] * 3


def test_leaves_of_several_dtypes_are_exported_in_one_that_holds_both():
    leaves = {"b0": jnp.ones(2, jnp.float16), "b1": jnp.ones(2, jnp.bfloat16)}
    assert export_state(leaves, (), names_of(rules.Split(2)))["a0"].dtype == jnp.float32


def test_integers_are_not_taken_for_biases():
    arrays = {"a0": np.ones(3, np.int32), "a1": np.ones(3, np.int32)}
    with pytest.raises(ValueError, match="of another kind"):
        import_state(arrays, {"b0": jnp.zeros(3)}, (), names_of(rules.Summed()))


class _Scaled(rules.Rule):
    """A rule of somebody else's."""

    def load(self, *arrays):
        return (arrays[0] / 3,)

    def save(self, *leaves):
        return (leaves[0] * 3,)


def test_a_rule_of_ones_own_computes_in_float64():
    array = np.array([1.0, 2.0, 5.0], jnp.bfloat16)
    params, _ = import_state({"a0": array}, {"b0": jnp.zeros(3)}, (), names_of(_Scaled()))
    np.testing.assert_array_equal(params["b0"], np.array([1.0, 2.0, 5.0]) / 3)
    assert export_state({"b0": jnp.asarray(array)}, (), names_of(_Scaled()))["a0"].dtype == jnp.bfloat16


class _Quantised(rules.Rule):
    """int8 in the file, and hundredths here."""

    def load(self, *arrays):
        return (arrays[0] / 100,)

    def save(self, *leaves):
        return (np.rint(leaves[0] * 100).astype(np.int8),)


def test_a_rule_of_ones_own_chooses_the_dtype_in_the_file():
    leaves = {"b0": jnp.array([0.25, -0.5], jnp.float32)}
    arrays = export_state(leaves, (), names_of(_Quantised()))
    assert arrays["a0"].dtype == np.int8
    params, _ = import_state(arrays, leaves, (), names_of(_Quantised()))
    same_bits(params.values(), leaves.values())


def test_what_overflows_in_export_is_named():
    leaves = {"b0": jnp.array([6e4], jnp.float16)}
    with pytest.raises(dlfn.InputError, match="export_state: 1 mismatch\n  a0: has values out of range"):
        export_state(leaves, (), names_of(_Scaled()))
