"""What must not matter does not, whatever it holds: rows of an ignored label, masked keys, steps past a length.

The registry's cases declare what their arguments leave out (``Case.ignored``). It is filled with nan, with infinities
and with huge numbers, and values and gradients must be those of zeros there, to the bit, and the gradients in it 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import ops
from dlfn.check.registry import Case, Entry, absent, entries, normal

FLOATS = (np.nan, np.inf, -np.inf, 1e38)
INTEGERS = (-1, 10**6, 2**31 - 1, -(2**31))

# What an op is told to leave out by.
SAYS_WHAT_COUNTS = ("mask", "lengths", "ignore")

quick = pytest.mark.usefixtures("quick_compilation")


def _pairs():
    for entry in entries():
        cases = [case for case in entry.cases if case.ignored]
        for case in cases:
            marks = () if case is cases[0] else pytest.mark.exhaustive
            yield pytest.param(entry, case, id=f"{entry.op.name}-{case.name}", marks=marks)


every_op = pytest.mark.parametrize(("entry", "case"), list(_pairs()))


def is_float(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


def filled(args, masks, number):
    """The arguments with the n-th of the fills where they are masked; with zeros for n = -1."""

    def one(a, mask):
        if mask is None:
            return a
        value = 0 if number < 0 else FLOATS[number] if is_float(a) else INTEGERS[number]
        return jnp.where(mask, jnp.asarray(value, a.dtype), a)

    return [one(a, mask) for a, mask in zip(args, masks, strict=True)]


class Sweep:
    """An op as a function of its floating-point arguments ``point``, for a case."""

    def __init__(self, entry, case, dtype):
        self.op, self.static = entry.op, case.static
        self.args = case.make((3,), dtype)
        self.masks, self.out_masks = case.ignored(*self.args, **case.static)
        self.moving = [i for i, a in enumerate(self.args) if is_float(a)]

    def of(self, *args):
        y = self.op(*args, **self.static)
        return y if isinstance(y, tuple) else (y,)

    def cotangents(self, seed=0, number=-1):
        """Random; where the outputs are ignored, the n-th of the fills."""
        rng = np.random.default_rng(seed)
        ys = jax.eval_shape(self.of, *self.args)
        return tuple(filled([jnp.asarray(rng.normal(size=y.shape), y.dtype) for y in ys], self.out_masks, number))

    def split(self, args):
        """The op as a function of the point, and the point."""

        def of_point(*point):
            full = list(args)
            for i, value in zip(self.moving, point, strict=True):
                full[i] = value
            return self.of(*full)

        return of_point, [args[i] for i in self.moving]

    def first_order(self, args, cotangents):
        f, point = self.split(args)
        y, back = jax.vjp(f, *point)
        return y, back(cotangents), dlfn.backprop_vjp(f, *point)[1](cotangents)

    def second_order(self, args, cotangents, tangents):
        """Hessian-vector products of the projected op, forward over reverse and reverse over reverse."""
        f, point = self.split(args)

        def gradient(*point):
            return jax.vjp(f, *point)[1](cotangents)

        _, forward = jax.jvp(gradient, tuple(point), tuple(tangents))
        return forward, jax.vjp(gradient, *point)[1](tuple(tangents))

    def require_same(self, found, expected):
        for got, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(got, right)
            assert np.isfinite(np.asarray(right, np.float64)).all()

    def require_zeros(self, gradients):
        for i, gradient in zip(self.moving, gradients, strict=True):
            if self.masks[i] is not None:
                assert not np.asarray(jnp.where(self.masks[i], gradient, 0)).any()


def test_every_op_that_is_told_what_counts_declares_it():
    for entry in entries():
        told = [name for name in entry.op.signature.parameters if any(word in name for word in SAYS_WHAT_COUNTS)]
        declared = [case for case in entry.cases if case.ignored]
        assert bool(declared) >= bool(told), f"{entry.op.name} has {told}, and no case says what they leave out"
        for case in declared:
            args = case.make((3,), "float32")
            assert any(mask is not None and mask.any() for mask in case.ignored(*args, **case.static)[0])


@quick
@every_op
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_ignored_does_not_matter(entry, case, dtype):
    """In values and gradients, by hand rule and by backprop; nor do cotangents of what is ignored of the outputs."""
    sweep = Sweep(entry, case, dtype)
    run = jax.jit(sweep.first_order)
    expected = run(filled(sweep.args, sweep.masks, -1), sweep.cotangents())
    for number in range(len(FLOATS)):
        found = run(filled(sweep.args, sweep.masks, number), sweep.cotangents(number=number))
        sweep.require_same(found, expected)
        for gradients in found[1:]:
            sweep.require_zeros(gradients)


@quick
@every_op
def test_what_is_ignored_does_not_matter_to_second_derivatives(entry, case):
    sweep = Sweep(entry, case, "float32")
    rng = np.random.default_rng(1)
    tangents = [jnp.asarray(rng.normal(size=sweep.args[i].shape), jnp.float32) for i in sweep.moving]
    run = jax.jit(sweep.second_order)
    expected = run(filled(sweep.args, sweep.masks, -1), sweep.cotangents(), tangents)
    for number in range(len(FLOATS)):
        found = run(filled(sweep.args, sweep.masks, number), sweep.cotangents(number=number), tangents)
        sweep.require_same(found, expected)
        for products in found:
            sweep.require_zeros(products)
