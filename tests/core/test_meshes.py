"""Every op with its batch sharded on a mesh, and its other arguments placed on that mesh or not at all.

JAX replicates what is on no mesh in every operation on both, inside ``jax.set_mesh`` and under ``jit`` without it. An
op must work wherever its definition does, by every path, with the numbers of one device. Swept over a few ops of
different making; ``pytest -m exhaustive`` sweeps types, which show in tracing, over all cases and numbers over all ops.
"""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dlfn
from dlfn import nn, ops
from helpers import TYPICAL, first_case_of, over_cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

DEVICES = 8
# A matrix product and a loop. A model with attention is a test of its own.
few_ops = over_cases(first_case_of({"linear", "rnn"}), among=lambda entry, case: case is entry.cases[0])
# What makes arrays of its own, which are on no mesh: states of loops, tables, counts.
typical_ops = over_cases(
    first_case_of(TYPICAL | {"attention", "lstm", "gru", "ctc_loss", "embedding", "linear_cross_entropy", "layer_norm"})
)
kinds = pytest.mark.parametrize("kind", [AxisType.Explicit, pytest.param(AxisType.Auto, marks=pytest.mark.exhaustive)])
placements = pytest.mark.parametrize(
    "placed", [pytest.param(True, marks=pytest.mark.exhaustive), False], ids=["all on the mesh", "the batch alone"]
)
contexts = pytest.mark.parametrize("inside", [True, False], ids=["in set_mesh", "without"])


def is_float(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


def batch_axis(a, b):
    """The axis along which two batches differ."""
    return next((i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), None)


class Subject:
    """The paths of a case as functions of the floating-point arguments, which are on a mesh or not."""

    def __init__(self, entry, case, kind, placed):
        self.mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,))
        self.local, self.static = case.make((DEVICES, 2)), case.static
        other = case.make((2 * DEVICES, 2))
        self.moving = [i for i, a in enumerate(self.local) if is_float(a)]
        self.args = [self.put(a, b, placed) for a, b in zip(self.local, other, strict=True)]

    def put(self, a, b, placed):
        axis = batch_axis(a, b) if isinstance(a, jax.Array) else None
        if axis is not None and a.shape[axis] % DEVICES == 0:
            return jax.device_put(a, NamedSharding(self.mesh, P(*[None] * axis, "data")))
        return jax.device_put(a, NamedSharding(self.mesh, P())) if placed and isinstance(a, jax.Array) else a

    def context(self, inside):
        return jax.set_mesh(self.mesh) if inside else contextlib.nullcontext()

    def paths(self, op, local=False):
        args = self.local if local else self.args

        def of_moving(*moving):
            full = list(args)
            for i, value in zip(self.moving, moving, strict=True):
                full[i] = value
            return op(*full, **self.static)

        def loss(*moving):
            leaves = jax.tree.leaves(of_moving(*moving))
            return sum(jnp.sum(jnp.sin(y)) for y in leaves if is_float(y))

        at, point = tuple(range(len(self.moving))), [args[i] for i in self.moving]
        return {
            "value": (of_moving, point),
            "jvp": (lambda *moving: jax.jvp(of_moving, moving, moving), point),
            "gradient": (jax.grad(loss, at), point),
            "backprop": (dlfn.backprop(loss, at), point),
        }


@kinds
@placements
@contexts
@typical_ops
def test_types(entry, case, kind, placed, inside, x64):
    subject = Subject(entry, case, kind, placed)
    for name, (f, point) in subject.paths(entry.op).items():
        try:
            with subject.context(inside):
                jax.eval_shape(f, *point)
        except Exception:
            plain = "gradient" if name == "backprop" else name
            g, point = subject.paths(entry.op.definition)[plain]
            with pytest.raises((TypeError, ValueError)), subject.context(inside):
                jax.eval_shape(g, *point)


def run(f, point, eager):
    return [np.asarray(y) for y in jax.tree.leaves((f if eager else jax.jit(f))(*point))]


@kinds
@placements
@contexts
@few_ops
def test_numbers(entry, case, kind, placed, inside, x64):
    subject = Subject(entry, case, kind, placed)
    paths, local = subject.paths(entry.op), subject.paths(entry.op, local=True)
    for name, eager in itertools.product(paths, (True, False)):
        if eager and not inside and name in ("gradient", "backprop"):
            continue  # JAX cannot place the cotangent of a scalar that is on a mesh of which it knows the type alone
        try:
            with subject.context(inside):
                got = run(*paths[name], eager)
        except (TypeError, ValueError):
            g, point = subject.paths(entry.op.definition)["gradient" if name == "backprop" else name]
            with pytest.raises((TypeError, ValueError)), subject.context(inside):
                run(g, point, eager)
            continue
        for a, b in zip(got, run(*local[name], eager=False), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * max(1, np.abs(b).max(initial=0)))


@contexts
def test_a_cotangent_on_a_mesh_of_an_op_that_is_not(inside, x64):
    """Weights on no mesh, normalised by an op that sees nothing else, and used beside a sharded batch."""
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Explicit,))
    rng = np.random.default_rng(0)
    x, v, g = (jnp.asarray(rng.normal(size=size)) for size in ((DEVICES, 3), (3, 2), (2,)))

    def loss(x, v, g):
        return jnp.sum(jnp.sin(ops.linear(x, ops.weight_norm(v, g))))

    local = jax.grad(loss, (0, 1, 2))(x, v, g)
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    with jax.set_mesh(mesh) if inside else contextlib.nullcontext():
        for make in (jax.grad, dlfn.backprop):
            for a, b in zip(jax.jit(make(loss, (0, 1, 2)))(x, v, g), local, strict=True):
                np.testing.assert_allclose(np.asarray(a), b, rtol=1e-12, atol=1e-12)


def test_a_model_whose_params_are_not_on_the_mesh():
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Explicit,))
    model = nn.Serial(nn.Linear(4), nn.TransformerBlock(2, causal=True), nn.RMSNorm(), nn.Linear(3))
    x = jnp.cos(jnp.arange(DEVICES * 5 * 2.0)).reshape(DEVICES, 5, 2)
    labels = jnp.arange(DEVICES * 5).reshape(DEVICES, 5) % 3
    params, state = model.init(jax.random.key(0), x)

    def loss(params, x, labels):
        return ops.softmax_cross_entropy(model.apply(params, state, x)[0], labels)

    gradient = jax.jit(jax.grad(loss))
    local = gradient(params, x, labels)
    with jax.set_mesh(mesh):
        sharded = gradient(params, jax.device_put(x, P("data")), jax.device_put(labels, P("data")))
    for a, b in zip(jax.tree.leaves(sharded), jax.tree.leaves(local), strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-6)
