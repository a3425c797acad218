"""Every op and layer under the settings by which JAX looks for mistakes in the user's code.

Swept over a few ops of different making; ``pytest -m exhaustive`` sweeps the rest.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops, optimizers
from dlfn.registry.entry import as_argument
from dlfn.train import data, step
from dlfn.train.tasks import Classification
from every_layer import ANYWHERE, BY_KIND, ENDS, SHAPES
from helpers import ENTRIES, TYPICAL, first_case_of, marks_of, over_cases
from rule_cases import BEYOND_JAX, CASES

quick = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def no_promotion():
    """Of ranks and of dtypes."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


# The values of its arguments are checked.
FEW = TYPICAL | {"bernoulli_log_prob"}
few_ops = over_cases(first_case_of(FEW))


def is_float(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.floating)


class Sweep:
    """An op as a function of the arguments ``point``: all that it takes of floating point, or those at ``moving``."""

    def __init__(self, op, args, static, moving=None):
        self.args, self.call = args, lambda *args: op(*args, **static)
        self.moving = [i for i, a in enumerate(args) if is_float(a)] if moving is None else moving
        self.point = [args[i] for i in self.moving]
        # All numbers come from the host before the setting applies.
        self.ones = [jnp.ones_like(x) for x in self.point]
        self.dy = jax.tree.map(lambda y: jnp.ones(y.shape, y.dtype), jax.eval_shape(self.of_moving, *self.point))

    def of_moving(self, *moving):
        args = list(self.args)
        for i, value in zip(self.moving, moving, strict=True):
            args[i] = value
        return self.call(*args)

    def gradient(self, dy, *point):
        return jax.vjp(self.of_moving, *point)[1](dy)

    def backprop(self, dy, *point):
        return dlfn.backprop_vjp(self.of_moving, *point)[1](dy)

    def jvp(self, point, tangents):
        return jax.jvp(self.of_moving, point, tangents)

    def second_derivative(self, tangents, *point):
        """In forward mode over reverse mode, and in reverse mode twice."""

        def gradient(*point):
            return self.gradient(self.dy, *point)

        return jax.jvp(gradient, point, tuple(tangents)), jax.vjp(gradient, *point)[1](tuple(tangents))

    def paths(self, run=lambda f, *args: f(*args)):
        yield run(self.of_moving, *self.point)
        yield run(self.gradient, self.dy, *self.point)
        yield run(self.backprop, self.dy, *self.point)
        yield run(self.jvp, self.point, self.ones)


MORE = first_case_of(FEW | {"batch_norm", "conv", "hypot"})


@over_cases(lambda entry, case: MORE(entry, case) or case.name == "integer exponents")
def test_ops_promote_nothing(entry, case, no_promotion):
    sweep = Sweep(entry.op, case.make((2, 3), "float32"), case.static)
    list(sweep.paths(jax.eval_shape))
    jax.eval_shape(sweep.second_derivative, sweep.ones, *sweep.point)
    jax.eval_shape(dlfn.autodiff(sweep.of_moving), *sweep.point)


@quick
@few_ops
def test_ops_leak_no_tracers(entry, case):
    sweep = Sweep(entry.op, case.make((5,), "float32"), case.static)  # a shape that nothing has traced yet
    with jax.checking_leaks():
        list(sweep.paths(jax.eval_shape))


@quick
@few_ops
def test_ops_transfer_nothing_and_make_no_nan(entry, case):
    """Eagerly, as compiled programs hold their constants and show their results alone."""
    sweep = Sweep(entry.op, case.make((3,), "float32"), case.static)
    with jax.transfer_guard("disallow"), jax.debug_nans(True):
        jax.block_until_ready(list(sweep.paths()))


def is_finite(trap):
    """Whether its right results are, and no argument holds a nan."""
    results = [*trap.gradients.values(), *([] if trap.value is None else [trap.value])]
    return all(np.isfinite(np.asarray(y, float)).all() for y in results) and not any(
        np.isnan(np.asarray(a, float)).any() for a in trap.args if a is not None
    )


TRAPS = [
    pytest.param(
        e, trap, id=f"{e.op.name}-{trap.name}", marks=marks_of(e.op.name, e.op.name in FEW and trap is e.traps[0])
    )
    for e in ENTRIES
    for trap in e.traps
    if is_finite(trap)
]


@quick
@pytest.mark.parametrize(("entry", "trap"), TRAPS)
def test_traps_make_no_nan(entry, trap):
    args = [None if a is None else as_argument(np.asarray(a), trap.dtype) for a in trap.args]
    with jax.debug_nans(True):
        jax.block_until_ready(list(Sweep(entry.op, args, trap.static, list(trap.gradients)).paths()))


IDS = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]], np.int32)
LAYERS = {
    **{
        f"{kind}: {name}": (make(), np.zeros(SHAPES[kind], np.float32))
        for kind in SHAPES
        for name, make in {**(ANYWHERE if kind == "row" else {}), **BY_KIND[kind], **ENDS[kind]}.items()
    },
    "LearnedPositions with a cache": (nn.LearnedPositions(8, decoding=True), np.zeros((2, 5, 4), np.float32)),
    "SinusoidalPositions with a cache": (nn.SinusoidalPositions(8, decoding=True), np.zeros((2, 5, 4), np.float32)),
    "language model": (
        nn.Serial(
            nn.Embedding(7, 4),
            nn.Repeat(nn.TransformerBlock(2, causal=True, positions="rope", activation="swiglu"), 2, checkpoint=True),
            nn.Parallel(nn.Linear(3), nn.Residual(nn.Linear(4))),
        ),
        IDS,
    ),
    "decoder": (nn.Serial(nn.Embedding(7, 4), nn.TransformerBlock(2, causal=True, cache=8, positions="alibi")), IDS),
    **{
        f"{name} of padded sequences": (layer, nn.Sequence(np.zeros((2, 5, 4), np.float32), np.array([3, 5], np.int32)))
        for name, layer in {
            "RNN": nn.RNN(3), "LSTM": nn.LSTM(3, output="last"), "GRU": nn.Bidirectional(nn.GRU(2)),
            "attention": nn.MultiHeadAttention(2),
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_promote_nothing(name, no_promotion):
    """Of inputs in bfloat16, beside which whatever is in float32 would show."""
    model, x = LAYERS[name]
    x = jax.tree.map(lambda a: jnp.asarray(a, "bfloat16" if a.dtype.kind == "f" else None), x)
    key = jax.random.key(0)

    def step(params, state, x, key):
        def loss(params):
            y, new = model.apply(params, state, x, key=key, train=True)
            return sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(y)), new

        gradients = [make(loss, has_aux=True)(params) for make in (jax.grad, dlfn.backprop)] if params else []
        return gradients, model.apply(params, state, x)[0]

    params, state = jax.eval_shape(model.init, key, x)
    jax.eval_shape(step, params, state, x, key)


@pytest.mark.parametrize("name", sorted({*CASES, *BEYOND_JAX}))
def test_rules_promote_nothing(name, x64):
    """The function is traced as it likes, its rules are not."""
    for f, *args in (*CASES.get(name, ()), *BEYOND_JAX.get(name, ())):

        def gradient(dy, *args, f=f):
            _, back = dlfn.backprop_vjp(f, *args)
            with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
                return back(dy)

        jax.eval_shape(gradient, jax.eval_shape(f, *args), *args)


def test_functions_beside_the_ops_promote_nothing(no_promotion):
    w, u = jnp.ones((4, 3)), jnp.ones(3)
    jax.eval_shape(lambda: ops.alibi_bias(2, 3, 4))
    jax.eval_shape(lambda: ops.sinusoidal_positions(5, 4))
    jax.eval_shape(ops.softmax_jacobian, w)
    jax.eval_shape(ops.spectral_norm, w, u)


@pytest.mark.parametrize("gradient", step.GRADIENTS)
def test_training_promotes_nothing(gradient, no_promotion):
    """Steps of ``dlfn train``, of a model with running statistics and dropout, in bfloat16."""
    model = nn.Serial(nn.Linear(4), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.8), nn.Linear(3))
    x, labels, key = jnp.zeros((8, 2), "bfloat16"), jnp.zeros(8, int), jax.random.key(0)
    params, state = jax.eval_shape(model.init, key, x)
    source = data.arrays(np.zeros((8, 2)), np.zeros(8, int)).train
    for name in set(optimizers.__all__) - {"State"}:
        learner = step.Learner(model, Classification(), getattr(optimizers, name)(0.1), gradient)
        carry = jax.eval_shape(learner.start, params, state)
        dispatch = step.make_dispatch(learner, source)
        jax.eval_shape(dispatch, carry, (x, labels), key, jnp.int32(0), jnp.zeros((2, 4), int))


def test_ops_of_users_are_their_code():
    @dlfn.Op
    def scaled(x, w):
        return x * w

    @scaled.def_forward
    def _(x, w):
        return x * w, (x, w)

    x, w = jnp.ones((2, 3)), jnp.ones(3)
    with jax.numpy_rank_promotion("raise"), pytest.raises(ValueError, match="rank"):
        scaled(x, w)
    with jax.numpy_rank_promotion("raise"), pytest.raises(ValueError, match="rank"):
        jax.eval_shape(lambda: ops.sigmoid(x) + w)


def test_backprop_transfers_nothing():
    x, y = jnp.ones((2, 3)), jnp.ones((2, 3))

    def loss(x):
        return jnp.sum(jnp.where(x > 0, jnp.maximum(2 * x, y) ** 2, x / 3)[0, 1:])

    with jax.transfer_guard("disallow"):
        value, gradient = dlfn.backprop_value_and_grad(loss)(x)
    assert float(value) == 8
    np.testing.assert_array_equal(gradient, [[0, 8, 8], [0, 0, 0]])
