"""Every JAX transformation on every op of the registry, against the same transformation of its definition, in float64.

One shape per op. To be quick, the transformations are tried on the typical ops, and on those that a transformation
takes another way in. ``pytest -m exhaustive`` tries the rest. The typical ops are also tried on the newest jax
(scripts/test_newest_jax.sh).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from helpers import ENTRIES, TYPICAL, cotangent, marks_of, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

BY_NAME = {entry.op.name: entry for entry in ENTRIES}

# Whose second derivatives were wrong once in a loop, where XLA makes the operand of a maximum twice.
COMPARING = {"kl_divergence"}

# With loops inside, whose carries must know the mesh axes of what they add up.
LOOPING = {"attention", "lstm", "linear_cross_entropy", "max_pool", "embedding"}


def subjects(names):
    return [pytest.param(name, marks=marks_of(name, name in names)) for name in BY_NAME]


DEVICES = 8


class Subject:
    """An op's first case: the op and its definition as functions of the floating-point arguments."""

    def __init__(self, entry, lead):
        self.case = entry.cases[0]
        self.typical = entry.op.name in TYPICAL
        self.args = self.case.make(lead)
        _, static = entry.op.bind_arguments(*self.args, **self.case.static)
        self.ours = functools.partial(entry.op, **static)
        self.definition = functools.partial(entry.op.definition, **static)
        self.moving = tuple(i for i, a in enumerate(self.args) if _is_float(a))
        # Which arguments have the leading dimensions: those whose shape follows them.
        other = self.case.make((lead[0] + 1, *lead[1:]))
        self.batched = [a is not None and jnp.shape(a) != jnp.shape(b) for a, b in zip(self.args, other, strict=True)]

    def scalar(self, f):
        """f's outputs, multiplied by fixed numbers and summed."""

        def total(y):
            return jnp.sum(y * cotangent(y))

        def loss(*args):
            return functools.reduce(jnp.add, [total(y) for y in jax.tree.leaves(f(*args))])

        return loss

    def check(self, transform):
        """For what depends on how ours is run; the definition is in one program, as that is quicker."""
        self.require_same(transform(self.ours), jax.jit(lambda: transform(self.definition))())

    def check_compiled(self, transform):
        """Both in one program."""
        self.require_same(*jax.jit(lambda: (transform(self.ours), transform(self.definition)))())

    def require_same(self, ours, expected):
        ours, expected = jax.tree.leaves(ours), jax.tree.leaves(expected)
        assert len(ours) == len(expected) > 0
        for a, b in zip(ours, expected, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(b).max(initial=0)))


def _is_float(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


@pytest.fixture(params=subjects(TYPICAL))
def typical(request, x64):
    return lambda lead=(3,): Subject(BY_NAME[request.param], lead)


@pytest.fixture(params=subjects(TYPICAL | COMPARING))
def comparing(request, x64):
    return lambda lead=(3,): Subject(BY_NAME[request.param], lead)


@pytest.fixture(params=subjects({"sigmoid", "rnn", "kl_divergence"}))
def in_a_loop(request, x64):
    return lambda lead=(3,): Subject(BY_NAME[request.param], lead)


@pytest.fixture(params=subjects(TYPICAL | LOOPING))
def looping(request, x64):
    return lambda lead=(3,): Subject(BY_NAME[request.param], lead)


DERIVATIVES = {
    "grad": lambda f, at: jax.grad(f, at),
    "jacfwd": lambda f, at: jax.jacfwd(f, at),
    "jacrev": lambda f, at: jax.jacrev(f, at),
    "hessian": lambda f, at: jax.hessian(f, at),
    "reverse over reverse": lambda f, at: jax.jacrev(jax.jacrev(f, at), at),
    "reverse over forward": lambda f, at: jax.jacrev(jax.jacfwd(f, at), at),
    "forward over forward": lambda f, at: jax.jacfwd(jax.jacfwd(f, at), at),
    "checkpoint": lambda f, at: jax.grad(jax.checkpoint(f), at),
    "hessian of checkpoint": lambda f, at: jax.hessian(jax.checkpoint(f), at),
}


def test_hessian(comparing):
    s = comparing((2,))
    s.check_compiled(lambda f: DERIVATIVES["hessian"](s.scalar(f), s.moving)(*s.args))


# The others are made of these, and differ in what JAX does with the same rules.
MODES = {"grad", "reverse over reverse", "forward over forward", "hessian of checkpoint"}


@pytest.mark.parametrize("name", ordinarily(MODES, [name for name in DERIVATIVES if name != "hessian"]))
def test_derivatives(typical, name):
    s = typical((2,))
    s.check_compiled(lambda f: DERIVATIVES[name](s.scalar(f), s.moving)(*s.args))


def test_eager_derivatives(typical):
    s = typical((2,))
    s.check(lambda f: [DERIVATIVES[name](s.scalar(f), s.moving)(*s.args) for name in ("grad", "jacfwd")])


def test_values_jvp_and_vjp(typical):
    s = typical()

    def transform(f):
        def of_moving(*moving):
            args = list(s.args)
            for i, value in zip(s.moving, moving, strict=True):
                args[i] = value
            return f(*args)

        point = tuple(s.args[i] for i in s.moving)

        @jax.jit
        def compiled(*point):
            y, back = jax.vjp(of_moving, *point)
            tangents = tuple(jnp.cos(x) for x in point)
            return y, back(jax.tree.map(lambda y: jnp.sin(1 + y), y)), jax.jvp(of_moving, point, tangents)

        return of_moving(*point), compiled(*point)

    s.check(transform)


def test_control_flow(in_a_loop):
    s = in_a_loop()
    first = s.moving[0]

    def transform(f):
        def step(carry, scale):
            args = list(s.args)
            args[first] = args[first] * (scale + 0.01 * carry)
            y = s.scalar(f)(*args)
            y = lax.cond(y > 0, lambda v: v * s.scalar(f)(*args), lambda v: v, y)
            return carry + 0.1 * y, y

        def loop(start):
            carry, ys = lax.scan(step, start, jnp.array([0.4, 0.6, 0.8]))  # probabilities stay below 1
            return carry + jnp.sum(ys)

        def forward():
            c = lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] + s.scalar(f)(*s.args)), (0, 0.0))
            return c[1]

        return jax.grad(loop)(0.3), jax.hessian(loop)(0.3), forward()

    s.check_compiled(transform)


def test_nested_vmap(typical):
    s = typical((2, 3, 4))
    axes = [0 if batched else None for batched in s.batched]
    assert 0 in axes

    def batched(f):
        return jax.vmap(jax.vmap(f, axes, axis_name="inner"), axes, axis_name="outer")

    def transform(f):
        of_batch = lambda *args: jnp.sum(jnp.sin(batched(s.scalar(f))(*args)))  # noqa: E731
        functions = (
            batched(f),
            batched(jax.grad(s.scalar(f), s.moving)),
            jax.grad(of_batch, s.moving),
            jax.jacfwd(of_batch, s.moving),
        )
        return [function(*s.args) for function in functions]

    s.check_compiled(transform)


def test_vmap_over_a_later_axis(typical):
    s = typical((2, 3))
    last = [a is not None and batched for a, batched in zip(s.args, s.batched, strict=True)]
    axes = [1 if here else None for here in last]
    squares = lambda f: lambda *args: jnp.sum(jax.vmap(s.scalar(f), axes)(*args) ** 2)  # noqa: E731
    s.check_compiled(lambda f: jax.grad(squares(f), s.moving)(*s.args))


@pytest.mark.parametrize("check_vma", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_shard_map(typical, check_vma):
    s = typical((DEVICES, 2))
    mesh = jax.make_mesh((DEVICES,), ("i",), axis_types=(AxisType.Auto,))
    specs = tuple(P("i") if batched else P() for batched in s.batched)

    def transform(f):
        # jax 0.12 cannot differentiate erf with check_vma: the definition does without it, the numbers are the same.
        check = check_vma and f is s.ours

        @functools.partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check)
        def total(*args):
            return lax.psum(s.scalar(f)(*args), "i")

        return jax.grad(total, s.moving)(*s.args), jax.hessian(total, s.moving[0])(*s.args)

    s.check_compiled(transform)


def test_gradient_inside_shard_map(looping):
    gradient_inside_shard_map(looping((DEVICES, 2)), check_vma=True)


def test_gradient_inside_unchecked_shard_map(typical):
    gradient_inside_shard_map(typical((DEVICES, 2)), check_vma=False)


def gradient_inside_shard_map(s, check_vma):
    mesh = jax.make_mesh((DEVICES,), ("i",), axis_types=(AxisType.Auto,))
    specs = tuple(P("i") if batched else P() for batched in s.batched)
    out_specs = tuple(P("i") if s.batched[i] else P() for i in s.moving)

    def transform(f):
        check = check_vma and f is s.ours

        @functools.partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=check)
        def inside(*args):
            grads = jax.grad(s.scalar(f), s.moving)(*args)
            # Without check_vma nothing sums the cotangents of replicated arguments.
            return tuple(g if s.batched[i] or check else lax.psum(g, "i") for i, g in zip(s.moving, grads, strict=True))

        return inside(*s.args)

    s.check_compiled(transform)


def test_arrays_with_sharding_in_their_types(looping):
    sharded_arrays(looping((4, 2)), AxisType.Explicit)


def test_sharded_arrays(typical):
    sharded_arrays(typical((4, 2)), AxisType.Auto)


def sharded_arrays(s, kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))

    def transform(f, args):
        gradient = jax.grad(s.scalar(f), s.moving)

        def of_moving(*moving):
            full = list(args)
            for i, value in zip(s.moving, moving, strict=True):
                full[i] = value
            return gradient(*full)

        if not s.typical:  # second derivatives are those of test_hessian
            return jax.jit(gradient)(*args)
        point = [args[i] for i in s.moving]
        return jax.jit(functools.partial(jax.jvp, of_moving))(point, [jnp.cos(x) for x in point])

    def on_mesh(f):
        if f is s.definition:
            return transform(f, s.args)
        with jax.set_mesh(mesh):
            return transform(
                f,
                [
                    jax.device_put(a, NamedSharding(mesh, P("data") if batched else P())) if a is not None else a
                    for a, batched in zip(s.args, s.batched, strict=True)
                ],
            )

    s.check(on_mesh)


def test_export_with_a_symbolic_batch(typical):
    pytest.importorskip("flatbuffers")
    s = typical((3,))
    (n,) = jax.export.symbolic_shape("n")
    shapes = [
        jax.ShapeDtypeStruct((n, *a.shape[1:]) if batched else a.shape, a.dtype) if isinstance(a, jax.Array) else a
        for a, batched in zip(s.args, s.batched, strict=True)
    ]

    def transform(f):
        def value(*args):
            return functools.reduce(jnp.add, [jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(*args))])

        function = jax.jit(jax.value_and_grad(value, s.moving))
        if f is s.definition:
            return function(*s.args)
        exported = jax.export.export(function)(*shapes)
        return jax.export.deserialize(exported.serialize()).call(*s.args)

    s.check(transform)


def test_eager_loop_compiles_once(typical):
    s = typical()
    point = tuple(s.args[i] for i in s.moving)

    def of_moving(*moving):
        args = list(s.args)
        for i, value in zip(s.moving, moving, strict=True):
            args[i] = value
        return s.ours(*args)

    jax.block_until_ready(jax.jvp(of_moving, point, point))
    compiled, live = [], len(jax.live_arrays())
    listener = lambda event, _, **__: compiled.append(event) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for _ in range(200):
            jax.jvp(of_moving, point, point)
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert compiled == []
    assert len(jax.live_arrays()) <= live
