"""Convolution: sizes, its relation to strict convolution and to JAX's, and its layers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import dlfn
from dlfn import nn, ops
from dlfn.ops.spatial import _correlation
from dlfn.ops.spatial.conv import _geometry
from helpers import ordinarily

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def random(*shape):
    return jax.random.normal(KEY, shape)


def test_output_sizes_are_those_of_the_op():
    for n, k, s, d, p in itertools.product((5, 8), (1, 2, 3), (1, 2, 3), (1, 2), ("VALID", "SAME", 1, (2, 0))):
        pads = (p,) if isinstance(p, tuple) else p
        x, kernel = jax.ShapeDtypeStruct((n, 1), jnp.float32), jax.ShapeDtypeStruct((k, 1, 1), jnp.float32)
        y = jax.eval_shape(lambda x, k: ops.conv(x, k, strides=s, dilation=d, padding=pads), x, kernel)  # noqa: B023
        assert y.shape[0] == ops.conv_output_size(n, k, stride=s, dilation=d, padding=p)


def test_a_flipped_kernel_makes_it_convolution_in_the_strict_sense():
    x, kernel = random(9), random(4)
    y = ops.conv(x[:, None], ops.flip_kernel(kernel[:, None, None]))[:, 0]
    np.testing.assert_allclose(y, np.convolve(x, kernel, "valid"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("window", "strides"), [(4, 2), (3, 2), (5, 3), (2, 3), (1, 2)])
def test_same_transposed_convolution_is_that_of_jax(window, strides):
    x, kernel = random(2, 5, 6, 3), random(window, window, 3, 4)
    layout = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_transpose(x, ops.flip_kernel(kernel), (strides,) * 2, "SAME", dimension_numbers=layout)
    np.testing.assert_allclose(
        ops.conv_transpose(x, kernel, strides=strides, padding="SAME"), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("groups", [1, 4], ids=["dense", "depthwise"])
def test_shared_and_separate_kernels_under_vmap(groups, x64):
    x, kernel = random(3, 2, 5, 4, 4), random(3, 3, 2, 4 // groups, 4)
    loss = lambda x, k: jnp.sum(ops.conv(x, k, groups=groups, padding=1) ** 3)  # noqa: E731
    for axes, k in (((0, 0), kernel), ((0, None), kernel[0])):
        got = jax.vmap(jax.grad(loss, (0, 1)), axes)(x, k)
        expected = jax.vmap(jax.grad(dlfn.autodiff(loss), (0, 1)), axes)(x, k)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("sizes", "window", "settings"),
    [((9,), (3,), {"strides": 2, "padding": "SAME"}), ((7, 6), (3, 2), {"dilation": 2, "padding": ((1, 2), 0)}),
     ((4, 5, 4), (2, 1, 3), {"padding": 1}), ((5, 5), (5, 5), {"padding": 3, "strides": (1, 3)})],
)  # fmt: skip
def test_the_kernels_gradient_in_blocks_is_that_of_the_convolution(sizes, window, settings, x64, monkeypatch):
    monkeypatch.setattr(_correlation, "_BLOCK_BYTES", 5000)  # several images or one
    settings = {"strides": 1, "padding": "VALID", "dilation": 1, "groups": 1, "precision": None} | settings
    x, kernel = random(6, *sizes, 3), random(*window, 3, 4)
    geometry = _geometry("conv", x, kernel, **settings)
    dy = random(6, *geometry.positions, 4)
    run = jax.jit(lambda function, x, dy: function(x, dy, geometry=geometry), static_argnums=0)
    blocks, whole = (
        run(function, x, dy) for function in (_correlation._blocked_kernel_gradient, _correlation._kernel_gradient)
    )
    np.testing.assert_allclose(blocks, whole, rtol=1e-12, atol=1e-12)


def test_many_large_images_take_the_kernels_gradient_in_blocks():
    x, kernel = random(64, 16, 16, 16), random(3, 3, 16, 256)
    gradient = jax.jit(jax.grad(lambda k, x: jnp.sum(ops.conv(x, k, padding=1) ** 2)))
    for count, blocks in ((64, True), (8, False)):
        assert ("stablehlo.while" in gradient.lower(kernel, x[:count]).as_text()) == blocks
    any_count = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 16, 16, 16"), x.dtype)
    exported = jax.export.export(gradient)(kernel, any_count).call(kernel, x)  # the whole convolution
    largest = float(jnp.abs(exported).max())
    np.testing.assert_allclose(gradient(kernel, x), exported, rtol=0, atol=1e-6 * largest)


LAYERS = {
    "conv": (nn.Conv(6, (3, 3), strides=2, padding="SAME"), (2, 7, 6, 4), (2, 4, 3, 6), 2 * 9 * 4 * 144),
    "grouped": (nn.Conv(6, (3,), groups=2, bias=False), (2, 7, 4), (2, 5, 6), 2 * 3 * 2 * 60),
    "depthwise": (nn.DepthwiseConv((3, 2), multiplier=2), (2, 5, 5, 4), (2, 3, 4, 8), 2 * 6 * 192),
    "transposed": (nn.ConvTranspose(6, (4, 4), strides=2, padding=1), (2, 3, 3, 4), (2, 6, 6, 6), 2 * 16 * 6 * 72),
}


@pytest.mark.parametrize(("layer", "inputs", "outputs", "flops"), LAYERS.values(), ids=LAYERS)
def test_layers(layer, inputs, outputs, flops):
    params, state = layer.init(KEY, jax.ShapeDtypeStruct(inputs, jnp.float32))
    y, new_state = jax.jit(layer.apply)(params, state, jnp.ones(inputs))
    assert (y.shape, new_state, ("bias" in params)) == (outputs, (), layer.bias)
    assert layer.flops(jnp.ones(inputs), y) == flops
    assert isinstance(hash(layer), int)


WINDOWED = {
    "Conv": lambda window, **static: nn.Conv(3, window, **static),
    "DepthwiseConv": nn.DepthwiseConv,
    "ConvTranspose": lambda window, **static: nn.ConvTranspose(3, window, **static),
    "MaxPool": nn.MaxPool,
    "AvgPool": nn.AvgPool,
    "AdaptiveMaxPool": lambda window, **_: nn.AdaptiveMaxPool(window),
    "AdaptiveAvgPool": lambda window, **_: nn.AdaptiveAvgPool(window),
}


@pytest.mark.parametrize("name", ordinarily({"Conv", "ConvTranspose", "MaxPool", "AdaptiveAvgPool"}, WINDOWED))
def test_an_int_window_is_for_two_axes_and_a_tuple_for_as_many_as_it_has(name):
    """In convolutions and pools alike; the other settings are then for those axes."""
    make = WINDOWED[name]

    def output(layer, x):
        return layer.apply(*layer.init(KEY, x), x)[0]

    x = random(2, 7, 8, 3)
    for static in ({}, {"strides": 2, "padding": 1}, {"strides": (2, 1), "padding": ((1, 0), (0, 1))}):
        square, same = make(3, **static), make((3, 3), **static)
        np.testing.assert_array_equal(output(square, x), output(same, x))
        assert square.flops(x, output(square, x)) == same.flops(x, output(same, x))
    for n in (1, 3):
        x = random(2, *(5, 6, 7)[:n], 3)
        assert output(make((3,) * n, strides=(2,) * n, padding=((1, 1),) * n), x).ndim == n + 2


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda: ops.conv(random(5, 5), random(3, 3, 1, 2)), ["spatial axes", "x[..., None]"]),
        (lambda: ops.conv(random(5, 5, 4), random(3, 3, 1, 4)), ["last axis of x", "groups=4"]),
        (lambda: ops.conv(random(5, 5, 4), random(3, 3, 2, 3), groups=2), ["groups=2 must divide its 3"]),
        (lambda: ops.conv(random(2, 2, 4), random(3, 3, 4, 3)), ["does not fit"]),
        (lambda: ops.conv(random(5, 5, 4), random(3, 4)), ["kernel is float32[3, 4]", "(*window, in, out)"]),
        (lambda: ops.conv(random(5, 5, 4), random(3, 3, 4, 2), random(3)), ["bias", "[2]"]),
        (lambda: ops.conv(random(5, 5, 4), random(3, 3, 4, 2), strides=0), ["strides is 0"]),
        (lambda: ops.conv(random(5, 5, 4), random(3, 3, 4, 2), padding="same"), ["'same'", "'SAME'"]),
        (lambda: ops.conv_transpose(random(5, 5, 4), random(3, 3, 2, 4)), ["swapaxes"]),
        (lambda: ops.conv_transpose(random(5, 4), random(3, 4, 2), output_padding=1), ["below the stride"]),
        (lambda: ops.conv_transpose(random(1, 4), random(2, 4, 2), padding=1), ["crops 2"]),
        (lambda: nn.Conv(3, 0), ["window is 0", "at least 1"]),
        (lambda: nn.Conv(3, ()), ["window is ()", "an int is for images"]),
        (lambda: nn.Conv(3, (3, 3.0)), ["window is (3, 3.0)"]),  # pyright: ignore[reportArgumentType]
        (lambda: nn.Conv(3, 3, strides=(2,)), ["strides is (2,)", "2 of them"]),
        (lambda: nn.DepthwiseConv(3, padding=((1, 1),)), ["padding is ((1, 1),)", "2 ints"]),
        (lambda: nn.ConvTranspose(3, (3,), dilation=(1, 2)), ["dilation is (1, 2)", "1 of them"]),
        (lambda: nn.Conv(4, (3, 3)).init(KEY, random(5, 5)), ["2 spatial axes", "(5, 5)"]),
    ],
)
def test_mistakes_are_named_with_their_fix(mistake, parts, refused):
    refused(mistake, parts)
