"""An audit names the wrong rule, where it is written and called, the step, the argument and the coordinate."""

import inspect
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import dlfn
from dlfn import ops

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.linspace(-1.0, 1.5, 6).reshape(2, 3)


def rule(f, forward, backward, **options):
    f = jax.custom_vjp(f)
    f.defvjp(forward, backward, **options)
    return f


def sine(x):
    return jnp.sin(x)


right = rule(sine, lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),))
wrong = rule(sine, lambda x: (jnp.sin(x), x), lambda x, dy: (1.001 * dy * jnp.cos(x),))
late = rule(lambda x: x**2, lambda x: (x**2, x), lambda x, dy: (dy * jnp.where(jnp.max(x) > 3, 2.1, 2) * x,))


@jax.custom_jvp
def forward_wrong(x):
    return jnp.sin(x)


@forward_wrong.defjvp
def forward_wrong_rule(primals, tangents):
    return jnp.sin(primals[0]), 1.01 * jnp.cos(primals[0]) * tangents[0]


@dlfn.Op
def wrong_op(x, *, scale=1.0):
    return scale * x * x


wrong_op.def_forward(lambda x, *, scale: (scale * x * x, x))
wrong_op.def_backward(lambda x, dy, *, scale: (2.02 * scale * x * dy,))


def with_two(x, w):
    return x * w


# Told whether w is perturbed, it is wrong where it is not.
told = rule(
    with_two,
    lambda x, w: (x.value * w.value, (x.value, w.value, w.perturbed)),
    lambda r, dy: (dy * r[1] * (1.0 if r[2] else 2.0), dy * r[0]),
    symbolic_zeros=True,
)
named = rule(
    lambda n, p: p["a"] ** n,
    lambda n, p: (p["a"] ** n, p),
    lambda n, p, dy: ({"a": dy * n * p["a"] ** (n - 1) * 1.01},),
)
by_power = jax.custom_vjp(lambda n, p: p["a"] ** n, nondiff_argnums=(0,))
by_power.defvjp(lambda n, p: (p["a"] ** n, p), lambda n, p, dy: ({"a": 1.01 * dy * n * p["a"] ** (n - 1)},))
lost = rule(with_two, lambda x, w: (x * w, w), lambda w, dy: (dy * w, None))
nested = rule(lambda x: 2 * wrong(x), lambda x: (2 * wrong(x), x), lambda x, dy: (2 * dy * jnp.cos(x),))
positive = rule(sine, lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.abs(dy) * jnp.cos(x),))
picked = rule(
    lambda t, i: t[i], lambda t, i: (t[i], (t, i)), lambda r, dy: (jnp.zeros_like(r[0]).at[r[1]].set(dy), None)
)
misshapen = rule(lambda x, b: x * b, lambda x, b: (x * b, (x, b)), lambda r, dy: (dy * r[1], dy * r[0]))
raises = rule(sine, lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.reshape(dy, (7,)),))
value = rule(sine, lambda x: (1.001 * jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),))


def with_steps(x):
    return jnp.sin(x), 3 * x


# It has no cotangent of its second output, as those of solvers have none of what they say of their steps.
solver = rule(with_steps, lambda x: (with_steps(x), x), lambda x, dy: (dy[0] * jnp.cos(x),))


@jax.custom_gradient
def by_custom_gradient(x):
    return jnp.sin(x), lambda dy: 1.01 * dy * jnp.cos(x)


def root(x):
    """One Newton step for ``sin(y) = sin(x)`` from x: the rule in it is never differentiated."""
    step, divide = (lambda f, y: y - f(y) / jnp.cos(y)), (lambda f, y: y / f(jnp.ones_like(y)))
    return lax.custom_root(lambda y: wrong(y) - jnp.sin(x), x, step, divide)


def scanned(f, length=3):
    return lambda x: lax.scan(lambda c, _: (f(c), None), x, length=length)[0]


def loop(x):
    return lax.while_loop(lambda c: c[1] < 3, lambda c: (wrong(c[0]), c[1] + 1), (x, 0))[0]


# Wrong where its argument is around 2.
midway = rule(
    lambda x: 3 * x, lambda x: (3 * x, x), lambda x, dy: (dy * jnp.where(jnp.abs(jnp.max(x) - 2) < 0.1, 3.1, 3.0),)
)


def between(x):
    return lax.while_loop(lambda c: c[1] < 4, lambda c: (0 * midway(0 * c[0] + c[1]) + x, c[1] + 1), (x, 0))[0]


# function, arguments, parts of what is said of the one failure
CASES = {
    "called": (wrong, [X], ["sine: gradient in x [", "1.0e-03", "test_audit.py"]),
    "jit, scan, vmap": (jax.jit(scanned(jax.vmap(wrong))), [X], ["scan step ", " of 3"]),
    "late": (scanned(lambda x: late(x) / 2 + 1, 6), [jnp.full(3, 1.6)], [" of 6", "5.0e-02"]),
    "cond": (lambda x: lax.cond(x[1, 2] > 0, wrong, right, x), [X], ["branch 1 of cond"]),
    "while": (loop, [X], ["while_loop, step "]),
    "while, in between": (between, [X], ["while_loop, step 2 (the worst)"]),
    "checkpoint": (jax.checkpoint(lambda x: 2 * wrong(x)), [X], ["checkpoint"]),
    "custom_jvp": (lambda x: forward_wrong(x), [X], ["forward_wrong: gradient in x", "1.0e-02"]),
    "Op": (lambda x: wrong_op(ops.gelu(x), scale=2.0), [X], ["wrong_op: gradient in x"]),
    "symbolic zeros": (lambda x, w: told(x, w), [X, X], ["where no other argument is perturbed"]),
    "static and a tree": (lambda p: by_power(3, p), [{"a": X}], ["1.0e-02"]),
    "None": (lost, [X, X], ["gradient in w"]),
    "repeated": (lambda t: picked(t, jnp.array([1, 1, 0])), [X], ["gradient in t"]),
    "not linear": (positive, [X], ["sine: "]),
    "value": (value, [X], ["value, output 0", "1.0e-03"]),
    "nested": (nested, [X], ["sine: ", "in the body of <lambda>, whose rule is applied"]),
    "an output that is used": (lambda x: jax.jit(solver)(x)[1], [X], ["with_steps: gradient in x"]),
    "custom_gradient": (lambda x: by_custom_gradient(x), [X], ["by_custom_gradient: gradient in x", "1.0e-02"]),
    "custom_root": (root, [X], ["sine: gradient in x", "whose rule is applied"]),
    "a wrong shape": (misshapen, [X, X[0]], ["must produce an output with the same type"]),
    "raises": (raises, [X], ["reshape"]),
}


@pytest.fixture
def no_reproducer(monkeypatch):
    """Which is found by several more audits."""
    monkeypatch.setattr("dlfn.check.judging._reproducer", lambda *_: "")


@pytest.mark.usefixtures("no_reproducer")
@pytest.mark.parametrize("name", CASES)
def test_the_wrong_rule_is_named(name):
    f, args, parts = CASES[name]
    result = dlfn.audit(lambda *args: right(jnp.sum(jax.tree.leaves(f(*args))[0])))(*args)
    assert not result.ok
    (call,) = result.failures
    text = str(result)
    for part in parts:
        assert part in text
    assert "test_audit.py" in call.line
    assert call.rule.defined_at.startswith("tests/check/test_audit.py:")
    assert json.loads(result.to_json())["ok"] is False


def test_lines():
    """The lines are those of the definition, of the derivative, and of the call."""
    (call,) = dlfn.audit(lambda x: forward_wrong(x))(X).failures
    lines, start = inspect.getsourcelines(forward_wrong.fun)
    assert call.rule.defined_at == f"tests/check/test_audit.py:{start}"
    assert call.rule.derived_at == f"tests/check/test_audit.py:{start + len(lines) + 2}"
    here = inspect.getsourcelines(test_lines)[1]
    assert f"test_audit.py:{here + 2}:" in call.line


def test_right_rules_pass():
    def f(x):
        x = scanned(lambda x: ops.layer_norm(right(x), jnp.ones(3), jnp.zeros(3)))(x)
        return lax.cond(x[0, 0] > 100, wrong, lambda x: jax.nn.relu(x), x)

    result = dlfn.audit(f)(X)
    assert result.ok
    assert [call.rule.name for call in result.calls if not call.reached] == ["sine"]
    assert "not reached: sine" in str(result)
    assert "all 2 calls of hand-written rules are right" in str(result)
    assert "nothing to audit" in str(dlfn.audit(jnp.sin)(X))


def scaled(c):
    """Rules that differ in a constant of an inner function alone."""
    body = jax.jit(lambda x, dy: jnp.asarray([c] * 3) * jnp.cos(x) * dy)
    return rule(lambda x: jnp.sin(x), lambda x: (jnp.sin(x), x), lambda x, dy: (body(x, dy),))


def length(c):
    """Its definition's derivative is nan at 0."""

    def forward(x):
        n = jnp.sqrt(jnp.sum(x * x, -1))
        return n, (x, n)

    def backward(r, dy):
        return ((c * dy / jnp.where(r[1] == 0, 1, r[1]))[:, None] * r[0],)

    return rule(lambda x: jnp.sqrt(jnp.sum(x * x, -1)), forward, backward)


def softmax_in_float32(x):
    return jax.nn.softmax(x.astype(jnp.float32)).astype(x.dtype)


def dropped(key, x):
    return x * jax.random.bernoulli(key, 0.5, x.shape)


def at_random(c):
    def forward(key, x):
        return dropped(key, x), jax.random.bernoulli(key, 0.5, x.shape)

    return rule(dropped, forward, lambda mask, dy: (None, c * dy * mask))


def closing_over(x, mask):
    masked = rule(lambda x: jnp.where(mask, x, 0), lambda x: (x, None), lambda _, dy: (jnp.where(mask, dy, 0),))
    return jnp.sum(masked(x))


relu = rule(lambda x: jnp.maximum(x, 0), lambda x: (jnp.maximum(x, 0), x), lambda x, dy: (jnp.where(x > 0, dy, 0),))
in_float32 = rule(
    softmax_in_float32,
    lambda x: (softmax_in_float32(x),) * 2,
    lambda p, dy: (p * dy - p * jnp.sum(p * dy, -1, keepdims=True),),
)
stable = rule(
    lambda x: jnp.log(jnp.sum(jnp.exp(x), -1)),
    lambda x: (jax.nn.logsumexp(x, -1), jax.nn.softmax(x)),
    lambda p, dy: (dy[:, None] * p,),
)


def sqrt_by_loop(a):
    return lax.while_loop(lambda s: jnp.max(jnp.abs(s * s - a)) > 1e-13, lambda s: (s + a / s) / 2, a)


# Its forward is off by a constant, which no derivative shows.
by_loop = rule(sqrt_by_loop, lambda a: (sqrt_by_loop(a) + 0.1, sqrt_by_loop(a)), lambda s, dy: (dy / (2 * s),))
one_row_of_zeros = X.at[0].set(0)

# function, arguments, whether each call is right, parts of the report
JUDGED = {
    "a constant of an inner function": (lambda x: scaled(1.0)(x) + scaled(1.5)(x), [X], [True, False], []),
    "nan in one row, right": (length(1.0), [one_row_of_zeros], [True], ["finite differences agree with the rule"]),
    "nan in one row, wrong elsewhere": (length(1.5), [one_row_of_zeros], [False], []),
    "a wrong value without a derivative of the definition": (by_loop, [X + 2], [False], ["sqrt_by_loop: value"]),
    "an output that is not used": (lambda x: jax.jit(solver)(x)[0], [X], [True], []),
    "a kink": (relu, [one_row_of_zeros], [True], ["can be called the gradient at a kink"]),
    "float32 within": (in_float32, [X], [True], ["judged to 3.5e-04"]),
    "an overflow of the definition": (stable, [1000 * X], [True], ["the definition is not finite"]),
    "a random key, right": (at_random(1.0), [jax.random.key(0), X], [True], []),
    "a random key, wrong": (at_random(1.1), [jax.random.key(0), X], [False], ["gradient in x"]),
    "a random key in a branch": (
        lambda k, x: lax.cond(x[1, 2] > 0, at_random(1.0), lambda k, x: x, k, x), [jax.random.key(0), X], [True], []
    ),
    "complex": (lambda x: jnp.abs(right(x + 1j * x)), [X], [True], ["not checked: sine", "complex"]),
    "closing over a traced value": (closing_over, [X, X > 0], [True], ["not checked", "it closes over a value"]),
}  # fmt: skip


@pytest.mark.usefixtures("no_reproducer")
@pytest.mark.parametrize("name", JUDGED)
def test_verdicts(name):
    f, args, right, parts = JUDGED[name]
    result = dlfn.audit(f)(*args)
    assert [call.ok for call in result.calls] == right
    for part in parts:
        assert part in str(result)


def test_probes_of_rules():
    largest = rule(
        lambda x: jnp.max(x, -1),
        lambda x: (jnp.max(x, -1), x),
        lambda x, dy: (dy[:, None] * (x == x.max(-1)[:, None]),),
    )
    assert dlfn.audit(largest)(X).ok
    (call,) = dlfn.audit(largest, probe=True)(X).failures
    assert call.worst.startswith("wrong at a probe, ties in x: x [")


def test_what_is_intended_is_left_out():
    rounded = rule(lambda x: jnp.round(x), lambda x: (jnp.round(x), None), lambda _, dy: (dy,))
    result = dlfn.compare(lambda x: wrong(x) + rounded(x), intended=[rounded])(X)
    assert [call.rule.name for call in result.audit.calls] == ["sine"]


@pytest.mark.parametrize(("dtype", "bias"), [("float32", 2e-5), ("bfloat16", 0.05)])
def test_in_narrow_dtypes_what_rounding_may_change_is_measured(dtype, bias):
    """And what would be hidden is said."""
    product = lambda x, w: x @ w  # noqa: E731
    x, w = jnp.sin(jnp.arange(96.0)).reshape(12, 8), jnp.cos(jnp.arange(64.0)).reshape(8, 8)
    for c in (0, bias):
        matmul = rule(product, lambda x, w: (x @ w, (x, w)), lambda r, dy, c=1 + c: (c * (dy @ r[1].T), r[0].T @ dy))
        result = dlfn.audit(matmul, dtype=dtype)(x, w)
        assert result.ok == (c == 0)
        if result.ok:
            assert 0 < result.calls[0].hidden < bias
            assert "an error of a whole gradient is not seen below: <lambda> " in str(result)


def test_a_dtype_that_is_none_is_refused(refused):
    refused(lambda: dlfn.audit(wrong, dtype="int32"), ["audit: dtype is 'int32'", "float32"])


def test_of_two_wrong_rules_each_has_its_share():
    layers = [
        rule(lambda x, w: jnp.tanh(x @ w), lambda x, w: (jnp.tanh(x @ w), (x, w)), _layer(c)) for c in (1, 1.02, 1.04)
    ]

    def f(ws, x):
        for layer, w in zip(layers, ws):
            x = layer(x, w)
        return jnp.mean(x**2)

    ws = [jnp.eye(3) + 0.1 * k for k in range(3)]
    result = dlfn.audit(f)(ws, X)
    assert len(result.failures) == 2
    assert sum(call.share for call in result.failures) == pytest.approx(1, abs=0.02)
    assert result.gradient_error > 0.01


def _layer(c):
    def backward(r, dy):
        x, w = r
        d = dy * (1 - jnp.tanh(x @ w) ** 2)
        return c * d @ w.T, x.T @ d

    return backward


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma):
    """A mean over devices whose rule is right where JAX sums the cotangents of its result, and wrong where not."""
    mesh = jax.make_mesh((2,), ("i",), devices=jax.devices()[:2])
    mean = rule(
        lambda x: lax.pmean(jnp.sum(x**2), "i"),
        lambda x: (lax.pmean(jnp.sum(x**2), "i"), x),
        lambda x, dy: (2 * x * dy,),
    )
    split = PartitionSpec("i")

    def f(x):
        def body(x):
            return mean(right(x))

        return jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=PartitionSpec(), check_vma=check_vma)(x)

    result = dlfn.audit(f)(jax.device_put(X, NamedSharding(mesh, split)))
    assert [call.ok for call in result.calls] == [True, not check_vma]


def test_a_definition_without_derivative_is_judged_by_finite_differences():
    def newton(a):
        return lax.while_loop(lambda s: jnp.max(jnp.abs(s * s - a)) > 1e-13, lambda s: (s + a / s) / 2, a + 0.5)

    for factor in (1, 1.001):
        root = rule(newton, lambda a: (newton(a),) * 2, lambda s, dy, c=factor: (c * dy / (2 * s),))
        result = dlfn.audit(lambda a, root=root: root(a) ** 2)(jnp.arange(1.0, 4.0))
        assert result.ok == (factor == 1)


def test_float32_inside():
    """What cannot run in float64 is audited in its own dtype."""

    def f(x):
        return lax.scan(lambda c, _: (wrong(c).astype(jnp.float32), None), x, length=2)[0]

    result = dlfn.audit(f)(X)
    assert result.dtype.startswith("float32, to ")
    assert any("float64: not available" in note for note in result.notes)


def test_what_cannot_be_traced_is_one_error(refused):
    refused(lambda: dlfn.audit(lambda x: x if x[0, 0] > 0 else -x)(X), ["audit", "cannot be traced", "test_audit.py"])


REPRODUCED = """
import jax, jax.numpy as jnp
def sine(x): return jnp.sin(x)
wrong = jax.custom_vjp(sine)
wrong.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (1.001 * dy * jnp.cos(x),))
layers = [wrong]
"""


def test_the_reproducer_fails_when_it_is_run(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(REPRODUCED)
    monkeypatch.syspath_prepend(tmp_path)
    import planted

    (call,) = dlfn.audit(lambda x: jax.vmap(planted.layers[0])(x))(jnp.ones((40, 30))).failures
    assert len(call.reproducer.splitlines()) <= 12
    assert "from planted import" in call.reproducer
    run = subprocess.run([sys.executable, "-c", call.reproducer], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert "NOT ALL GRADIENTS AGREE" in run.stderr
    assert np.size(eval(call.reproducer.splitlines()[4].partition(" = ")[2], {"np": np})) == 1
    sys.modules.pop("planted")
