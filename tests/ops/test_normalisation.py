"""What no sweep covers of normalisation: rows far from 0, residuals, and the layers against PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops
from dlfn.bench.measurement import residual_bytes
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def _by(mean_and_variance, over, groups, x, scale, bias):
    z = x if groups is None else x.reshape(*x.shape[:-1], groups, -1)
    mean, variance = mean_and_variance(z, over)
    return ((z - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape) * scale + bias


def _two_pass(x, over):
    return jnp.mean(x, over, keepdims=True), jnp.var(x, over, keepdims=True)


def _one_pass(x, over):
    mean = jnp.mean(x, over, keepdims=True)
    return mean, jnp.mean(x * x, over, keepdims=True) - mean * mean


NORMS = {
    "layer": (ops.layer_norm, (512, 768), (-1,), None),
    "instance": (ops.instance_norm, (8, 16, 16, 32), (1, 2), None),
    "group": (functools.partial(ops.group_norm, groups=8), (8, 16, 16, 32), (1, 2, 4), 8),
    "batch": (lambda *args: ops.batch_norm(*args)[0], (4096, 32), (0,), None),
}


def _errors(forms, x, rng):
    """Of every form, the largest relative error of y and of the gradients, against two passes in float64."""
    params = [1 + rng.uniform(size=x.shape[-1]), rng.normal(size=x.shape[-1])]
    cotangent = rng.normal(size=x.shape)

    def run(f, dtype):
        args = [jnp.asarray(a, dtype) for a in (x.astype("float32"), *params)]
        return jax.jit(lambda args, dy: (f(*args), jax.vjp(f, *args)[1](dy)))(args, jnp.asarray(cotangent, dtype))

    def error(got, expected):
        return np.max(np.abs(np.asarray(got, float) - expected)) / np.max(np.abs(expected))

    with jax.enable_x64(True):
        expected = jax.tree.leaves(run(forms["two-pass"], "float64"))
        return {
            name: [error(*pair) for pair in zip(jax.tree.leaves(run(f, "float32")), expected, strict=True)]
            for name, f in forms.items()
        }


def _forms(name):
    op, _, over, groups = NORMS[name]
    two, one = (functools.partial(_by, form, over, groups) for form in (_two_pass, _one_pass))
    return {"ours": op, "two-pass": two, "one-pass": one}


@pytest.mark.parametrize("name", ordinarily({"layer", "batch"}, NORMS))
def test_rows_far_from_zero_keep_their_digits(name, optimised):
    """Trap 30, N(3000, 1) in float32: y, dx, dscale, dbias beside autodiff of the two-pass and one-pass formulas."""
    rng = np.random.default_rng(0)
    errors = _errors(_forms(name), 3000 + rng.normal(size=NORMS[name][1]), rng)
    print(f"\n{name:10}" + "".join(f"{column:>10}" for column in ("y", "dx", "dscale", "dbias")))
    for form, row in errors.items():
        print(f"{form:10}" + "".join(f"{error:10.1e}" for error in row))
    assert max(errors["ours"]) < 5e-7
    assert errors["two-pass"][0] > 1e-5
    assert not errors["one-pass"][1] < 1e-3, "nan or wrong"


@pytest.mark.parametrize("name", ordinarily({"layer", "batch"}, NORMS))
def test_lopsided_cells_cost_no_digits(name, optimised):
    """An eighth of each cell far from the rest."""
    rng = np.random.default_rng(0)
    shape = NORMS[name][1]
    x = rng.normal(size=shape)
    axis = {"layer": 1, "instance": 1, "group": 1, "batch": 0}[name]
    first = [slice(None)] * len(shape)
    first[axis] = slice(0, shape[axis] // 8)
    x[tuple(first)] += 1e4
    errors = _errors(_forms(name), x, rng)
    assert max(errors["ours"]) < 5e-7


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_backward_pass_holds_little_more_than_x(dtype):
    arguments = [jnp.zeros(shape, dtype) for shape in ((64, 8, 8, 128), (128,), (128,))]
    for op in (
        ops.layer_norm,
        lambda x, scale, bias: ops.rms_norm(x, scale) + bias,
        ops.instance_norm,
        functools.partial(ops.group_norm, groups=8),
        lambda *args: ops.batch_norm(*args)[0],
    ):
        assert residual_bytes(op, tuple(arguments)) <= 1.1 * arguments[0].nbytes


def test_weight_norm_is_that_of_pytorch(x64):
    torch = pytest.importorskip("torch")
    x = jax.random.normal(KEY, (6, 5))
    layer = nn.WeightNorm(nn.Linear(3))
    params, state = layer.init(KEY, x)
    plain, _ = nn.Linear(3).init(KEY, x)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], nn.Linear(3).apply(plain, (), x)[0], rtol=1e-12)
    params["g"] = params["g"] * 1.5

    @jax.jit
    def value_and_gradient(params):
        y, back = jax.vjp(lambda params: layer.apply(params, state, x)[0], params)
        return y, back(jnp.cos(y))[0]

    y, grads = value_and_gradient(params)
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 3).double())
    lengths, v = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
    with torch.no_grad():
        lengths.copy_(torch.tensor(np.asarray(params["g"]))[:, None])
        v.copy_(torch.tensor(np.array(params["layer"]["w"].T)))
        theirs.bias.copy_(torch.tensor(np.asarray(params["layer"]["b"])))
    output = theirs(torch.tensor(np.asarray(x)))
    np.testing.assert_allclose(y, output.detach().numpy(), rtol=1e-10, atol=1e-12)
    output.backward(torch.tensor(np.cos(np.asarray(y))))
    np.testing.assert_allclose(grads["g"], lengths.grad[:, 0].numpy(), rtol=1e-10)
    np.testing.assert_allclose(grads["layer"]["w"].T, v.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_spectral_norm_is_that_of_pytorch(iterations, x64):
    """Weight, gradient and u over three steps of training, with u and v as constants in the gradient."""
    torch = pytest.importorskip("torch")
    x = jax.random.normal(KEY, (6, 5))
    layer = nn.SpectralNorm(nn.Linear(3), iterations=iterations)
    params, state = layer.init(KEY, x)
    state["u"] = jnp.array([0.6, 0.0, 0.8])
    theirs = torch.nn.utils.spectral_norm(torch.nn.Linear(5, 3).double(), n_power_iterations=iterations)
    with torch.no_grad():
        theirs.weight_orig.copy_(torch.tensor(np.array(params["w"].T)))
        theirs.bias.copy_(torch.tensor(np.asarray(params["b"])))
        theirs.weight_u.copy_(torch.tensor(np.asarray(state["u"])))
    for _ in range(3):
        y, back, state = jax.vjp(
            lambda params, state=state: layer.apply(params, state, x, train=True), params, has_aux=True
        )
        theirs.zero_grad()
        output = theirs(torch.tensor(np.asarray(x)))
        output.backward(torch.tensor(np.cos(np.asarray(y))))
        np.testing.assert_allclose(y, output.detach().numpy(), rtol=1e-10, atol=1e-12)
        (grads,) = back(jnp.cos(y))
        np.testing.assert_allclose(grads["w"].T, theirs.weight_orig.grad.numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(state["u"], theirs.weight_u.numpy(), rtol=1e-10)


def test_spectral_norm_at_inference_leaves_its_state_and_has_norm_one():
    x = jax.random.normal(KEY, (6, 5))
    layer = nn.SpectralNorm(nn.Linear(3, bias=False))
    params, state = layer.init(KEY, x)
    for _ in range(30):
        _, state = layer.apply(params, state, x, train=True)
    w, after = layer.apply(params, state, jnp.eye(5))
    assert jnp.array_equal(after["u"], state["u"])
    np.testing.assert_allclose(jnp.linalg.norm(w, 2), 1, rtol=1e-5)


def test_running_statistics_of_half_types_are_kept_in_float32():
    x = 600 * jax.random.normal(KEY, (64, 3), jnp.float16)
    layer = nn.BatchNorm(momentum=1.0)
    params, state = layer.init(KEY, x)
    y, state = jax.jit(functools.partial(layer.apply, train=True))(params, state, x)
    assert y.dtype == jnp.float16
    assert {leaf.dtype for leaf in state.values()} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(state["var"], np.var(np.asarray(x, float), axis=0, ddof=1), rtol=1e-5)
    assert layer.apply(params, state, x)[0].dtype == jnp.float16


MODELS = {
    "batch": nn.Serial(nn.Linear(8), nn.BatchNorm(), nn.Tanh(), nn.Linear(2)),
    "others": nn.Serial(nn.LayerNorm(), nn.Linear(8), nn.GroupNorm(2), nn.Tanh(), nn.RMSNorm(), nn.Linear(2)),
    "weights": nn.Serial(a=nn.WeightNorm(nn.Serial(b=nn.Linear(4)), "b/w"), c=nn.WeightNorm(nn.Linear(2), axis=None)),
}


@pytest.mark.parametrize("name", ordinarily({"weights"}, MODELS))
def test_three_gradients_of_models_agree(name):
    x = jax.random.normal(KEY, (6, 4))
    params, state = MODELS[name].init(KEY, x)

    def loss(params, state, x):
        y, new = MODELS[name].apply(params, state, x, train=True)
        return jnp.sum(jnp.sin(y)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(new))

    comparison = dlfn.compare(loss)(params, state, x)
    assert comparison.ok, str(comparison)


def test_gradients_around_a_power_iteration_agree():
    """Finite differences see the power iteration; the gradient holds its directions fixed."""
    x = jax.random.normal(KEY, (6, 4))
    layer = nn.SpectralNorm(nn.Serial(nn.Linear(3)), "0/w")
    params, state = layer.init(KEY, x)
    loss = lambda params: jnp.sum(jnp.sin(layer.apply(params, state, x, train=True)[0]))  # noqa: E731
    expected = jax.grad(dlfn.autodiff(loss))(params)
    for gradient in (jax.grad(loss), dlfn.backprop(loss)):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), gradient(params), expected)


def test_parameters_of_a_layer_around_a_layer_are_counted():
    x = jax.ShapeDtypeStruct((1, 5), jnp.float32)
    for layer, own in ((nn.WeightNorm(nn.Linear(3)), 3), (nn.SpectralNorm(nn.Linear(3)), 0)):
        total = nn.summary(layer, x).splitlines()[-1].split()
        assert total[:2] == ["total", str(own + 5 * 3 + 3)]


X = jnp.ones((2, 4))


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: ops.layer_norm(X, jnp.ones(3)), ["layer_norm: scale is float32[3]", "[4]", "float32[2, 4]"]),
        (lambda: ops.layer_norm(X, axes=3), ["float32[2, 4]", "3 axes"]),
        (lambda: ops.layer_norm(X[:, :0]), ["0/0"]),
        (lambda: ops.layer_norm(X, eps=-1.0), ["eps is -1.0", ">= 0"]),
        (lambda: ops.instance_norm(X), ["instance_norm", "2 axes of space"]),
        (lambda: ops.group_norm(X, groups=3, spatial=0), ["groups is 3", "divides the 4 channels"]),
        (lambda: ops.batch_norm(X[0]), ["batch_norm", "one other axis"]),
        (lambda: ops.batch_norm(X, stats_dtype="int32"), ["stats_dtype is 'int32'"]),
        (lambda: ops.weight_norm(X, X[0], axis=0), ["g is float32[4]", "[2]"]),
        (lambda: ops.spectral_norm(X, X), ["u is float32[2, 4]", "[4]"]),
        (lambda: ops.spectral_norm(X, X[0], iterations=1.5), ["iterations is 1.5"]),
        (lambda: nn.BatchNorm(momentum=2), ["momentum", "[0, 1]"]),
        (lambda: nn.InstanceNorm().apply((), (), X), ["InstanceNorm()", "(N, ..., channels)", "(2, 4)"]),
        (lambda: nn.LayerNorm(bias=False).apply({"scale": jnp.ones(3)}, (), X), ["(3,)", "(2, 4)", "call init"]),
        (lambda: nn.WeightNorm(nn.Linear(2), "kernel").init(KEY, X), ["'kernel'", "among w, b", "such as 'w'"]),
        (lambda: nn.SpectralNorm(nn.Serial(nn.Linear(2)), "0").init(KEY, X), ["'0'", "one array"]),
    ],
)
def test_mistakes_are_named_with_their_fix(mistake, parts, refused):
    refused(mistake, parts)
