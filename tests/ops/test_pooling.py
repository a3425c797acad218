"""Pooling where inputs tie, layers, sizes, memory, and what is said about mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlfn
from dlfn import nn, ops
from dlfn.bench.measurement import residual_bytes
from helpers import cotangent, ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

WINDOWS = [
    dict(window=2),
    dict(window=3, strides=2, padding=1),
    dict(window=3, strides=1, dilation=2, padding=1),
    dict(window=(5, 4), strides=(1, 2), padding=(2, 1)),
    dict(window=(1, 3), strides=3),
]


@functools.partial(jax.jit, static_argnums=(0, 2))
def _pull_back(f, x, dy):
    y, back = jax.vjp(f, x)
    return y, back(dy(y))[0]


def _against_torch(f, functional, x):
    """Value and gradient, which at ties tell one convention from another."""
    torch = pytest.importorskip("torch")
    y, dx = _pull_back(f, jnp.asarray(x), cotangent)
    tensor = torch.tensor(x, requires_grad=True)
    expected = functional(torch.nn.functional, tensor.movedim(-1, 1)).movedim(1, -1)
    expected.backward(torch.tensor(np.asarray(cotangent(y))))
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-12, atol=1e-12)


def _tied(*shape):
    """Whole numbers and -inf: most windows have several maxima, and some have nothing but -inf."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, size=shape).astype(float)
    return np.where(rng.random(shape) < 0.4, -np.inf, x)


@pytest.mark.parametrize("static", ordinarily(WINDOWS[1:4], WINDOWS), ids=str)
def test_ties_go_where_pytorch_sends_them(static, x64):
    torch_names = {"window": "kernel_size", "strides": "stride"}
    settings = {torch_names.get(name, name): value for name, value in static.items()}
    _against_torch(
        functools.partial(ops.max_pool, **static),
        lambda functional, x: functional.max_pool2d(x, **settings),
        _tied(3, 9, 10, 2),
    )


@pytest.mark.parametrize("output_size", [(3, 4), (4, 5), (1, 1), (9, 12), (2, 10)], ids=str)
def test_ties_of_adaptive_windows(output_size, x64):
    f = functools.partial(ops.adaptive_max_pool, output_size=output_size)
    _against_torch(f, lambda functional, x: functional.adaptive_max_pool2d(x, output_size), _tied(3, 9, 10, 2))


def test_autodiff_of_the_definition_breaks_ties_alike(x64):
    x = jnp.maximum(jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), 0)  # as after a ReLU
    f = functools.partial(ops.max_pool, window=3, strides=2)
    np.testing.assert_array_equal(_pull_back(f, x, cotangent)[1], _pull_back(dlfn.autodiff(f), x, cotangent)[1])


@pytest.mark.parametrize("n", ordinarily({1, 5, 31}, [1, 2, 3, 5, 7, 31]))
@pytest.mark.parametrize("m", ordinarily({1, 3, 12}, [1, 2, 3, 5, 12]))
def test_adaptive_windows_of_many_sizes(n, m, x64):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, n, 3))
    kinds = {"avg": ops.adaptive_avg_pool, "max": ops.adaptive_max_pool}
    pools = [functools.partial(pool, output_size=(m,)) for pool in kinds.values()]
    found = jax.jit(lambda x: [_pull_back(pool, x, cotangent) for pool in pools])(x)
    for kind, (y, dx) in zip(kinds, found, strict=True):
        tensor = torch.tensor(x, requires_grad=True)
        expected = getattr(torch.nn.functional, f"adaptive_{kind}_pool1d")(tensor.movedim(-1, 1), m).movedim(1, -1)
        expected.backward(torch.tensor(np.asarray(cotangent(y))))
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("padding", ["VALID", "SAME", 1, (1, 0), ((0, 1), (1, 0))], ids=str)
@pytest.mark.parametrize("dilation", [1, 2])
def test_sizes_and_values_are_those_of_reduce_window(strides, padding, dilation):
    x = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    pads = padding
    if not isinstance(padding, str):
        each = padding if isinstance(padding, tuple) else (padding, padding)
        pads = ((0, 0), *(p if isinstance(p, tuple) else (p, p) for p in each), (0, 0))
    steps, spread = (1, strides, strides, 1), (1, dilation, dilation, 1)
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 2, 1), steps, pads, window_dilation=spread)
    y = ops.max_pool(x, window=(3, 2), strides=strides, padding=padding, dilation=dilation)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "static", [dict(window=2), dict(window=3, strides=2), dict(window=(20, 1), strides=1)], ids=str
)
def test_max_pooling_keeps_a_byte_per_output(static):
    x = jnp.zeros((2, 40, 40, 8))
    f = functools.partial(ops.max_pool, **static)
    assert residual_bytes(f, (x,)) == f(x).size
    assert residual_bytes(functools.partial(ops.avg_pool, **static), (x,)) == 0


def test_half_types_sum_overlapping_windows_in_float32():
    x = jnp.zeros((700, 1), jnp.bfloat16).at[350].set(1)
    dx = jax.grad(lambda x: ops.max_pool(x, window=(300,), strides=1).sum(dtype=jnp.float32))(x)
    assert float(dx[350, 0]) == 300
    y = ops.avg_pool(jnp.ones((700, 1), jnp.bfloat16), window=(600,), strides=1)
    np.testing.assert_array_equal(np.asarray(y, np.float32), 1)


LAYERS = {
    nn.MaxPool(3, strides=2, padding=1): (2, 4, 5, 3),
    nn.MaxPool((2,)): (2, 8, 4, 3),
    nn.AvgPool(2): (2, 4, 4, 3),
    nn.AvgPool(3, strides=2, padding="SAME", count_padding=False): (2, 4, 5, 3),
    nn.GlobalAvgPool(): (2, 3),
    nn.GlobalMaxPool(): (2, 3),
    nn.AdaptiveAvgPool((3, 2)): (2, 3, 2, 3),
    nn.AdaptiveMaxPool(4): (2, 4, 4, 3),
}


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layers(layer):
    x = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    params, state = layer.init(jax.random.key(1), x)
    y, new_state = layer.apply(params, state, x, train=True)
    assert params == state == new_state == ()
    assert y.shape == LAYERS[layer]
    assert layer.flops(x, y) >= y.size


IMAGE = jnp.zeros((2, 8, 8, 3))


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: ops.max_pool(IMAGE, window=0), ["window is 0", "at least 1"]),
        (lambda: ops.max_pool(IMAGE, window=()), ["window is ()", "each spatial axis"]),
        (lambda: ops.max_pool(IMAGE, window=2.0), ["window is 2.0"]),
        (lambda: ops.max_pool(IMAGE, window=2, strides=(1, 2, 1)), ["strides is (1, 2, 1)", "2 of them"]),
        (lambda: ops.max_pool(IMAGE, window=2, padding="valid"), ["padding is 'valid'", "'VALID', 'SAME'"]),
        (lambda: ops.max_pool(IMAGE, window=2, padding=-1), ["padding is -1", "at least 0"]),
        (lambda: ops.max_pool(IMAGE, window=2, padding=((1, 1),)), ["padding is ((1, 1),)", "2 ints"]),
        (lambda: ops.max_pool(IMAGE, window=2, padding=2), ["nothing but padding", "the 2 entries"]),
        (lambda: ops.max_pool(IMAGE, window=9), ["window of 9", "spatial axis of 8", "smaller window"]),
        (lambda: ops.max_pool(IMAGE, window=5, dilation=2), ["spans 9"]),
        (lambda: ops.max_pool(jnp.zeros((8, 8)), window=2), ["float32[8, 8]", "2 spatial axes", "x[..., None]"]),
        (lambda: ops.avg_pool(IMAGE, window=2, count_padding=1), ["count_padding is 1", "True or False"]),
        (lambda: ops.global_avg_pool(IMAGE, spatial=0), ["spatial is 0"]),
        (lambda: ops.global_avg_pool(jnp.zeros((2, 0, 3, 1))), ["0/0"]),
        (lambda: ops.adaptive_avg_pool(IMAGE, output_size=(0, 1)), ["output_size is (0, 1)"]),
        (lambda: ops.adaptive_max_pool(jnp.zeros((2, 0, 3, 1)), output_size=1), ["no entries"]),
    ],
)
def test_mistakes_name_the_argument_and_the_fix(mistake, parts, refused):
    refused(mistake, parts)
