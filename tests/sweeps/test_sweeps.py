"""The sweeps over the registry: a new op gets all of them by its entry.

Values and gradients in float64 are swept over every case in which an op does something of its own, traps over all of
them, and types, which show in tracing, over every op's first case; the others, finite differences among them, over a
few ops of different making, as compilation takes its time. ``pytest -m exhaustive`` sweeps the rest, and ``dlfn check``
every path in every dtype.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlfn
from dlfn import ops
from dlfn.registry.entry import Entry, as_argument
from dlfn.registry.gradients import PATHS, check_case
from dlfn.registry.oracles import check_values
from helpers import ENTRIES, TYPICAL, first_case_of, is_first_case, over_cases

TRAPS = [pytest.param(e, i, id=f"{e.op.name}-{t.name}") for e in ENTRIES for i, t in enumerate(e.traps)]
HAND_DERIVED = PATHS[:2]

quick = pytest.mark.usefixtures("quick_compilation")
every_op = over_cases(is_first_case)
# Of convolution and pooling: what goes the way of the first case, with other sizes or numbers of axes.
LAYOUTS = {
    "1-D", "2-D", "3-D", "3-D same", "uneven and even, 3-D", "1-D, padding at one end", "even", "to one", "1×1", "same",
    "strides larger than the window, no bias",
}  # fmt: skip

# Sums and entries are made of every loss by one function, which these try; the mean of ctc_loss is its own.
REDUCED = {"mse", "softmax_cross_entropy", "normal_kl", "ctc_loss"}


def reduces_alike(entry, case):
    """Whether a case differs from the first one in its reduction alone."""
    first, static = entry.cases[0].static, case.static
    alike = static != first and {**static, "reduction": None} == {**first, "reduction": None}
    return alike and entry.op.name not in REDUCED


def goes_its_own_way(entry, case):
    """Whether an op does with a case what it does with no earlier one."""
    return case is entry.cases[0] or not (case.name in LAYOUTS or reduces_alike(entry, case))


few_ops = over_cases(first_case_of({"sigmoid", "softmax_cross_entropy", "linear", "lstm", "max_pool"}))
typical_ops = over_cases(first_case_of(TYPICAL | {"max_pool"}))
# Statistics of half types are summed in float32.
ops_in_half_types = over_cases(first_case_of(TYPICAL | {"layer_norm", "max_pool"}))


def is_float(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


def joined(y):
    """The outputs of an op that has several, as one vector."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in y]) if isinstance(y, tuple) else y


def split(entry, case, args):
    """The op as a function of its floating-point arguments, and those. Its value is one array."""
    at = [i for i, a in enumerate(args) if is_float(a)]

    def of_floats(*moving):
        full = list(args)
        for i, value in zip(at, moving, strict=True):
            full[i] = value
        return joined(entry.op(*full, **case.static))

    return of_floats, [args[i] for i in at]


def test_every_op_has_an_entry():
    exported = {name for name in ops.__all__ if isinstance(getattr(ops, name), dlfn.Op)}
    assert exported == {entry.op.name for entry in ENTRIES}
    assert all(entry.formulas for entry in ENTRIES), "an op must implement a row of the formulas"


@quick
@typical_ops
def test_gradients(entry, case):
    """By backprop and finite differences, of every coordinate; by hand rule, beside the values, below."""
    assert not [result for result in check_case(entry, case, "float64", paths=PATHS[1:]) if not result.ok]


@quick
@over_cases(goes_its_own_way)
def test_values_and_gradients(entry, case):
    """Against the definition and PyTorch, in float64."""
    check_values(entry, case)


def test_pytorch_is_there_to_compare_with():
    pytest.importorskip("torch", reason="values are compared with the definitions alone")


@pytest.mark.usefixtures("older_emitters")
@ops_in_half_types
@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), pytest.param(("float16",), marks=pytest.mark.exhaustive)])
def test_values_and_gradients_in_narrow_dtypes(entry, case, dtypes):
    check_values(entry, case, dtypes)


@quick
@typical_ops
@pytest.mark.parametrize("lead", [pytest.param((), marks=pytest.mark.exhaustive), (2, 1, 3)])
def test_leading_dimensions(entry, case, lead):
    if lead or case.scalar_rows:
        check_values(entry, case, lead=lead, pytorch=False)


@every_op
@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.exhaustive), "bfloat16"])
def test_cotangents_have_the_arguments_types(entry, case, dtype):
    def both(*point):
        y, back = jax.vjp(f, *point)
        return back(jnp.ones_like(y)), dlfn.backprop_vjp(f, *point)[1](jnp.ones_like(y))

    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("strict"):
        f, point = split(entry, case, case.make((2,), dtype))
        grads, walked = jax.eval_shape(both, *point)
    for x, *gs in zip(point, grads, walked, strict=True):
        assert {(g.shape, g.dtype) for g in gs} == {(x.shape, x.dtype)}
        assert not any(g.weak_type for g in gs)


@few_ops
def test_clean_under_debug_nans(entry, case):
    with jax.debug_nans(True):
        f, point = split(entry, case, case.make((3,), "float32"))
        y, back = jax.vjp(f, *point)
        jax.block_until_ready(back(jnp.ones_like(y)))


def mutated(entry, of_cotangents=lambda c: c, of_result=lambda c: c):
    """The entry with an op whose backward treats the cotangents it is given, or those that it returns, otherwise."""

    def wrong(residuals, dy, **static):
        cotangents = entry.op.backward(residuals, jax.tree.map(of_cotangents, dy), **static)
        return tuple(jax.tree.map(of_result, cotangent) for cotangent in cotangents)

    mutant = dlfn.Op(entry.op.definition, entry.op.forward, wrong, name=entry.op.name)
    return Entry(mutant, entry.formulas, entry.cases)


def off_at_one_coordinate(cotangent):
    flat = cotangent.ravel()
    return flat.at[0].add(1e-4 * (1 + jnp.abs(flat).max())).reshape(cotangent.shape)


def verdicts(entry, case):
    """What the check says of every argument, by path."""
    results = list(check_case(entry, case, "float64", paths=HAND_DERIVED))
    return [[result for result in results if result.path == path] for path in HAND_DERIVED]


@quick
@few_ops
def test_a_mutated_backward_is_caught(entry, case):
    """One coordinate of every cotangent off by 1e-4 of the largest: every argument must be reported, by both paths."""
    for results in verdicts(mutated(entry, of_result=off_at_one_coordinate), case):
        assert results
        assert not any(result.ok for result in results)


@quick
@few_ops
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(jnp.ones_like, marks=pytest.mark.exhaustive),
        pytest.param(jnp.square, marks=pytest.mark.exhaustive),
        jnp.abs,
    ],
    ids=["drops", "squares", "takes |dy|"],
)
def test_a_backward_that_is_not_linear_in_its_cotangent_is_caught(entry, case, change):
    """That of a loss too, whose cotangent is one number. An argument with a gradient of 0 does not show it."""
    for results in verdicts(mutated(entry, of_cotangents=change), case):
        assert not all(result.ok for result in results)


def with_gradients(op, trap, walked):
    """The value at a trap and the gradients, by hand rule or by backprop, as a function of the arguments that have
    gradients; and those arguments."""
    args = [None if a is None else as_argument(np.asarray(a), trap.dtype) for a in trap.args]

    def of_moving(*moving):
        full = list(args)
        for i, value in zip(trap.gradients, moving, strict=True):
            full[i] = value
        return joined(op(*full, **trap.static))

    def value_and_gradients(*point):
        y, back = (dlfn.backprop_vjp if walked else jax.vjp)(of_moving, *point)
        return y, back(jnp.ones_like(y))

    return value_and_gradients, [args[i] for i in trap.gradients]


@functools.cache
def at_traps(op, walked):
    """At every trap of the op, in one program, as compilation takes longer than all else."""
    traps = next(entry.traps for entry in ENTRIES if entry.op is op)
    functions, points = zip(*(with_gradients(op, trap, walked) for trap in traps), strict=True)
    return jax.jit(lambda points: [f(*point) for f, point in zip(functions, points, strict=True)])(points)


@pytest.mark.usefixtures("older_emitters")  # with the optimiser: what it makes of a formula counts
@pytest.mark.parametrize(("entry", "number"), TRAPS)
@pytest.mark.parametrize("walked", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["hand", "backprop"])
def test_traps(entry, number, walked):
    """Where autodiff of the textbook formula fails: the value and the gradients, by hand rule and by backprop."""
    trap = entry.traps[number]
    y, gradients = at_traps(entry.op, walked)[number]
    if trap.value is not None:
        np.testing.assert_allclose(np.asarray(y, np.float64), trap.value, rtol=trap.rtol, atol=1e-37)
    for got, expected in zip(gradients, trap.gradients.values(), strict=True):
        np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=trap.rtol, atol=1e-37)


def test_every_numbered_trap_is_closed():
    """The table of autodiff's failures. 30 and 33 take more than one call: test_normalisation.py, test_recurrent.py."""
    numbers = {int(found[1]) for e in ENTRIES for trap in e.traps if (found := re.match(r"(\d+): ", trap.name))}
    assert numbers == set(range(1, 34)) - {30, 33}


def over_random_shapes(examples):
    pairs = [(e, c) for e in ENTRIES for c in e.cases]
    leads = st.lists(st.integers(1, 5), max_size=3).map(tuple)
    drawn = given(pair=st.sampled_from(pairs), lead=leads, seed=st.integers(0, 2**16))
    return lambda test: settings(max_examples=examples, deadline=None, derandomize=True)(drawn(test))


@quick
@over_random_shapes(6)
def test_random_shapes(pair, lead, seed):
    agrees_at(*pair, lead, seed)


@pytest.mark.exhaustive
@quick
@over_random_shapes(30)
def test_many_random_shapes(pair, lead, seed):
    agrees_at(*pair, lead, seed)


def agrees_at(entry, case, lead, seed):
    if not lead and not case.scalar_rows:
        lead = (1,)
    failed = [r for r in check_case(entry, case, "float64", lead, seed, HAND_DERIVED) if not r.ok]
    assert not failed


@typical_ops
def test_zero_sized_arguments_work_or_say_why(entry, case):
    """A batch of no examples has a value and gradients of its shape, or a clear error (a mean over nothing)."""
    f, point = split(entry, case, case.make((0,), "float32"))
    if not case.empty:
        with pytest.raises(dlfn.InputError, match="0/0"):
            f(*point)
        return
    y, back = jax.vjp(f, *point)
    assert [g.shape for g in back(jnp.ones_like(y))] == [x.shape for x in point]
    assert np.isfinite(np.asarray(y)).all()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.op.name)
def test_complex_and_integer_arguments_are_refused(entry):
    case = entry.cases[0]
    args = case.make((2,), "float32")
    for dtype in ("complex64", "int32"):
        bad = [as_argument(np.asarray(a), dtype) if is_float(a) else a for a in args]
        with pytest.raises(dlfn.InputError, match=entry.op.name):
            entry.op(*bad, **case.static)


def test_registry_makes_the_same_arguments_each_time():
    for entry in ENTRIES:
        for case in entry.cases:
            a, b = (jax.tree.leaves(case.make((2,), "float32", seed=3)) for _ in range(2))
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True) if is_float(x))
