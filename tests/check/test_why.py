"""dlfn.why names the equation and the line at which a value or a gradient goes wrong."""

import inspect
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import dlfn
import why_cases
from dlfn.registry.all import entries
from helpers import ordinarily
from why_cases import FOUND, ROWS, X, log_of_softmax, masked_row, rule_of_custom_vjp, scan_step, where_sqrt

pytestmark = pytest.mark.usefixtures("quick_compilation")

LINES = Path(why_cases.__file__).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(("f", "args", "kind", "words"), FOUND, ids=[case[0].__name__ for case in FOUND])
def test_names_the_line(f, args, kind, words):
    first = dlfn.why(f)(*args).findings[0]
    assert first.kind == kind
    assert words in first.cause
    line = next(i for i, text in enumerate(LINES, 1) if text.endswith(f"# {f.__name__}"))
    assert f"why_cases.py:{line}:" in first.line


def plain_block(params, x):
    """A transformer block in plain JAX, with a causal mask of −inf."""

    def normalised(x):
        centred = x - jnp.mean(x, -1, keepdims=True)
        return centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)

    h = normalised(x)
    scores = jnp.einsum("qd,kd->qk", h @ params["q"], h @ params["k"] + params["k_bias"])
    weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones(scores.shape, bool)), scores, -jnp.inf), axis=-1)
    x = x + weights @ (h @ params["v"])
    return jnp.mean((x + jax.nn.gelu(normalised(x) @ params["up"]) @ params["down"]) ** 2)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def block_of_layers():
    block = dlfn.nn.TransformerBlock(heads=2)
    x = normal(3, 4)
    params, state = block.init(jax.random.key(0), x)
    return lambda params, x: dlfn.ops.mse(block.apply(params, state, x)[0], jnp.ones(x.shape)), (params, x)


def mlp():
    model, x = dlfn.nn.mlp((4,), 3), normal(5, 2)
    params, state = model.init(jax.random.key(0), x)
    labels = jnp.array([0, 1, 2, 1, 0])
    return lambda params: dlfn.ops.softmax_cross_entropy(model.apply(params, state, x)[0], labels), (params,)


def plain():
    shapes = {"q": (4, 4), "k": (4, 4), "v": (4, 4), "up": (4, 8), "down": (8, 4), "k_bias": (4,)}
    params = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    return plain_block, (params, normal(3, 4, seed=9))


def guarded_twice():
    return lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)), (X,)


def two_pass_variance():
    return lambda x: jnp.mean((x - jnp.mean(x)) ** 2), (3000 + jnp.arange(5.0) / 100,)


def exact_zero_gradient():
    """The mean of what is centred does not depend on x: its gradient is rounding."""
    return lambda x: jnp.sum((x - jnp.mean(x)) * 3.0) + jnp.sum(x[:1]), (normal(7),)


def half_types():
    return lambda x: jnp.sum(jnp.tanh(x.astype(jnp.bfloat16)) * 2).astype(jnp.float32), (normal(4),)


def indexed():
    return lambda table: jnp.sum(table[jnp.array([0, 2, 2])] ** 2), (normal(3, 2),)


SOUND = [block_of_layers, mlp, plain, guarded_twice, two_pass_variance, exact_zero_gradient, half_types, indexed]


# The first is the largest by far.
@pytest.mark.parametrize("sound", ordinarily(SOUND[1:], SOUND), ids=lambda case: case.__name__)
def test_finds_nothing_where_nothing_is_wrong(sound):
    f, args = sound()
    found = dlfn.why(f)(*args)
    assert not found, found
    assert str(found).startswith("nothing found")


ENTRIES = list(entries())


@pytest.mark.exhaustive
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.op.name)
def test_finds_nothing_in_ops(entry):
    case = entry.cases[0]
    found = dlfn.why(lambda *args: entry.op(*args, **case.static), seed=0)(*case.make((2,), "float32"))
    assert not found, found


def test_infinity_that_is_passed_in_is_meant():
    found = dlfn.why(lambda x, bound: jnp.sum(jnp.minimum(x, bound)))(X, jnp.inf)
    assert [finding.kind for finding in found.findings] == ["dead"]  # the gradient of the bound
    assert found.findings[0].reaches == ("dbound",)


def divided(x):
    return jnp.sum(1 / x)


PLACES = {
    "scan": (lambda x: lax.scan(lambda c, d: (c + 1 / d, None), 0.0, x)[0], X[::-1], ("scan step 2",)),
    "scan in jit": (
        jax.jit(lambda x: lax.scan(lambda c, d: (c + 1 / d, d), 0.0, x)[0]),
        X,
        ("scan step 0",),
    ),
    "while": (
        lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] / (c[0] - 1)), (0, x + 1))[1],
        X,
        ("while step 1",),
    ),
    "cond": (lambda x: lax.cond(x[1] > 0, divided, jnp.sum, x), X, ("branch 1 of cond",)),
    "checkpoint": (jax.checkpoint(divided), X, ()),
    "vmap": (lambda x: jnp.sum(jax.vmap(lambda d: 1 / d)(x)), X, ()),
    "an op": (lambda x: dlfn.ops.norm(1 / x), X, ()),
}


@pytest.mark.parametrize("place", PLACES)
def test_names_the_place(place):
    f, x, path = PLACES[place]
    first = dlfn.why(f, lossy=None)(x).findings[0]
    assert (first.kind, first.path) == ("inf", path)
    assert first.cause.endswith("/ 0 is infinite")


def test_inside_a_shard_map_the_line_and_the_device_are_named():
    mesh = jax.make_mesh((2,), ("i",), devices=jax.devices()[:2])
    split = PartitionSpec("i")

    def body(x):
        safe = x + 1
        return lax.psum(jnp.sum(jnp.sqrt(safe - 1)), "i")

    def f(x):
        return jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=PartitionSpec())(x)

    def over(*x):
        return jax.device_put(jnp.array(x), NamedSharding(mesh, split))

    line = inspect.getsourcelines(body)[1] + 2
    (forward,) = dlfn.why(f, backward=False, lossy=None)(over(1.0, 2.0, 3.0, -4.0)).findings
    assert (forward.kind, forward.equation, forward.coordinates) == ("nan", "sqrt", ((1,),))
    assert f"test_why.py:{line}:" in forward.line
    assert forward.path == ("shard_map, device 1",)
    first, *_ = dlfn.why(f, lossy=None)(over(1.0, 0.0, 3.0, 4.0)).findings
    assert (first.phase, first.path) == ("backward", ("shard_map, device 0",))
    assert f"test_why.py:{line}:" in first.line


def test_in_a_rule_the_call_is_named_too():
    first = dlfn.why(rule_of_custom_vjp, lossy=None)(X + 1).findings[0]
    assert (first.phase, first.path) == ("backward", ("backward rule of custom_log",))
    assert [line.split("(")[-1] for line in first.called_from] == ["rule_of_custom_vjp)"]


def test_a_step_of_the_backward_pass_is_named_by_the_forward_one():
    def f(x):
        return lax.scan(lambda c, v: (c + jnp.where(v > 0, jnp.sqrt(v), 0.0), None), 0.0, x)[0]

    (found,) = dlfn.why(f)(jnp.array([4.0, 0.0, 1.0])).findings
    assert (found.kind, found.phase, found.path) == ("nan", "backward", ("scan step 1",))


def test_a_chain_is_told_from_its_start():
    found = dlfn.why(log_of_softmax)(jnp.array([200.0, 0.0])).findings
    assert [(finding.kind, finding.equation) for finding in found[:2]] == [("zero", "exp"), ("inf", "log")]
    assert found[0].reaches == ("the value", "dx")


def test_what_does_not_reach_a_result_is_no_finding():
    assert not dlfn.why(lambda x: jnp.sum(jnp.where(x > 0, x, x / 0)), backward=False)(X + 1)


def test_a_nan_in_an_argument_or_a_constant_is_named():
    found = dlfn.why(lambda x: jnp.sum(x * X))(jnp.array([1.0, jnp.nan, 2.0]))
    assert (found.findings[0].cause, found.findings[0].coordinates) == ("x is nan when it is passed", ((1,),))
    found = dlfn.why(lambda x: jnp.sum(x * jnp.array([1.0, jnp.nan, 2.0])))(X)
    assert found.findings[0].cause == "a constant is nan: 1 × nan"


def test_pytrees_have_names():
    found = dlfn.why(lambda params: {"loss": jnp.log(params["w"])})({"w": 0.0})
    assert found.findings[0].reaches == ("the value['loss']",)
    assert found.findings[-1].reaches == ("dparams['w']",)


def test_a_seed_draws_the_cotangent():
    """Ones are what the gradient of x − mean(x) takes to exactly 0, and a random cotangent is not."""

    def centred(x):
        return x - jnp.mean(x)

    assert np.abs(jax.vjp(centred, X)[1](jnp.ones(3))[0]).max() == 0
    assert not dlfn.why(centred, seed=0)(X)


def test_backward_can_be_left_out():
    assert dlfn.why(where_sqrt)(X)
    assert not dlfn.why(where_sqrt, backward=False)(X)


def test_what_cannot_be_differentiated_is_looked_at_forwards():
    found = dlfn.why(PLACES["while"][0], lossy=None)(X)
    assert found.findings
    assert "backward: not available: ValueError: Reverse-mode differentiation does not work" in found.notes[0]
    assert found.notes[0] in str(found)


def test_json_holds_all_of_it():
    data = json.loads(dlfn.why(scan_step)(jnp.array([2.0, 0.0])).to_json())
    first = data["findings"][0]
    assert (first["kind"], first["path"], first["operands"]) == ("inf", ["scan step 1"], [1.0, 0.0])
    data = json.loads(dlfn.why(masked_row)(ROWS).to_json())
    assert data["findings"][0]["operands"] == ["-inf", "-inf"]


def test_the_report():
    report = str(dlfn.why(where_sqrt)(X))
    assert report.startswith("nan, backward at ")
    assert "mul (derivative of sqrt): 1 of 3 in float32[3], first at [0]; reaches dx" in report


def test_bad_input_is_refused(refused):
    refused(lambda: dlfn.why(divided, lossy=2), ["why: lossy is 2", "between 0 and 1, or None"])
    refused(lambda: dlfn.why(lambda i: i + 1)(jnp.arange(3)), ["why: the function takes and returns no floating-point"])
