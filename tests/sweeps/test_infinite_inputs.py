"""Logits of +inf have the limits of large ones, as softmax's do; and an axis of size 0 gives a value or a clear error.

Every op with an argument of logits is swept: one of a row's logits is +inf, each in turn, then two of them. What is
right is taken from the textbook definition in float64, at logits of 300 and of 600: where the two agree, that is the
limit, and where they do not the value grows without bound.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import ops
from helpers import ENTRIES, TYPICAL, first_case_of, marks_of, over_cases

FAR, FARTHER = 300.0, 600.0

# Arguments under other names that are logits, and what is added to logits: several infinities there share equally, as
# they are alike, while of several large numbers the logits below would still tell which is largest.
ALSO_LOGITS = {("softmax", "x"), ("log_softmax", "x"), ("logsumexp", "x")}
ADDED = {("attention", "bias"), ("linear_cross_entropy", "b")}

# One each of the ways in which a row of logits is normalised; the rest exhaustively.
SOFTMAXES = {"softmax", "softmax_cross_entropy", "attention", "kl_divergence", "binary_cross_entropy"}

quick = pytest.mark.usefixtures("quick_compilation")


def _logits():
    for entry in ENTRIES:
        swept = set()
        for case in entry.cases:
            args = case.make((3,), "float32")
            for i, name in enumerate(entry.op.signature.parameters):
                known = "logits" in name or (entry.op.name, name) in ALSO_LOGITS | ADDED
                if not known or not is_float(*args[i : i + 1]):
                    continue
                ordinary = i not in swept and entry.op.name in SOFTMAXES
                marks = marks_of(entry.op.name, ordinary)
                swept.add(i)
                yield pytest.param(entry, case, i, id=f"{entry.op.name}-{case.name}-{name}", marks=marks)


def is_float(a=None):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


def _added(entry):
    return [i for i, name in enumerate(entry.op.signature.parameters) if (entry.op.name, name) in ADDED]


def _program(entry, case, args, definition):
    """Value and gradients in all floating-point arguments as a function of these."""
    at = [i for i, a in enumerate(args) if is_float(a)]
    op = dlfn.autodiff(entry.op) if definition else entry.op

    def run(point):
        def of(*point):
            full = list(args)
            for i, value in zip(at, point, strict=True):
                full[i] = value
            return op(*full, **case.static)

        y, back = jax.vjp(of, *point)
        return [y, *back(jax.tree.map(jnp.ones_like, y))]

    return jax.jit(run), at


def _limits(run, point, which, places):
    """The limits, entry by entry: inf of its sign where there is none, and nan where that is not known."""
    far, farther = (
        run([_put(p, which == n, places, number) for n, p in enumerate(point)]) for number in (FAR, FARTHER)
    )
    for a, b in zip(far, farther, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        converged = np.isclose(a, b, rtol=1e-9, atol=1e-12)
        yield np.where(converged, b, np.where(np.abs(b) > 1.5 * np.abs(a), np.copysign(np.inf, b), np.nan))


def _put(array, here, places, number):
    for place in places if here else ():
        array = array.at[place].set(number)
    return array


@quick
@pytest.mark.parametrize(("entry", "case", "which"), list(_logits()))
def test_a_logit_of_inf_has_the_limit_of_large_ones(entry, case, which):
    args = case.make((3,), "float32")
    run, at = _program(entry, case, args, definition=False)
    with jax.enable_x64(True):
        exact = [jnp.asarray(np.asarray(args[i]), "float64") for i in at]
        wide = [jnp.asarray(np.asarray(a), "float64") if is_float(a) else a for a in args]
        reference, _ = _program(entry, case, wide, definition=True)
    n = at.index(which)
    first, size = (0,) * (args[which].ndim - 1), args[which].shape[-1]
    pairs = [] if which in _added(entry) else [(0, size - 1)]
    for classes in [*((k,) for k in range(size)), *pairs]:
        places = [(*first, k) for k in classes]
        with jax.enable_x64(True):
            limits = list(_limits(reference, exact, n, places))
        found = run([_put(args[i], i == which, places, jnp.inf) for i in at])
        for what, got, right in zip(["value", *at], found, limits, strict=True):
            known = ~np.isnan(right) & (np.isfinite(right) | (what == "value"))
            if what != "value" and entry.op.name == "ctc_loss" and not np.isfinite(limits[0]).all():
                continue  # by its own convention the gradient of an infinite loss is 0
            np.testing.assert_allclose(
                np.asarray(got)[known], right[known], rtol=2e-5, atol=1e-6, err_msg=f"{classes} {what}"
            )


@quick
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_similarities_that_overflow_have_their_limit(symmetric, order):
    """Of vectors of 1e20, the products are inf in float32. Losses and slopes of more than the range are inf as well."""
    arrays = np.array([[1e20, 0.0], [0.0, 1e20]]), np.array([[1e20, 1e10], [-1e20, 3e20]])[::order], np.array(0.5)

    def run(dtype):
        def losses(*point):
            return ops.info_nce(*point, symmetric=symmetric, reduction="none")

        def both(*point):
            y, back = jax.vjp(losses, *point)
            return [y, *back(jnp.array([1, 0], dtype))]

        return jax.jit(both)(*(jnp.asarray(a, dtype) for a in arrays))

    found = run("float32")
    with jax.enable_x64(True):
        right = run("float64")
    for got, expected in zip(found, right, strict=True):
        limit = np.where(np.abs(expected) > 3.4e38, np.copysign(np.inf, expected), expected)
        np.testing.assert_allclose(np.asarray(got, np.float64), limit, rtol=1e-6)


@over_cases(first_case_of(TYPICAL | {"attention", "max_pool", "layer_norm", "std"}))
def test_an_axis_of_size_0_gives_a_value_or_a_clear_error(entry, case):
    """The last axis of every argument in turn, alone and with all axes of its size."""
    args = case.make((3,), "float32")
    for a in args:
        if not is_float(a) or not a.ndim:
            continue
        for alike in (False, True):
            empty = [_emptied(b, a.shape[-1]) if alike or b is a else b for b in args]
            run, at = _program(entry, case, empty, definition=False)
            try:
                jax.eval_shape(run, [empty[i] for i in at])
            except dlfn.InputError as error:
                assert entry.op.name in str(error)  # noqa: PT017


def _emptied(a, size):
    """With the axes of this size made 0."""
    if not isinstance(a, jax.Array) or jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return a
    return a[tuple(slice(0 if n == size else None) for n in a.shape)]
