"""Entries of the ops in :mod:`dlfn.ops.spatial.conv_transpose`."""

from jax import lax

from dlfn import ops
from dlfn.registry.cases.spatial._shared_conv import channels_first, channels_last, pairs, terms
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register


def _transposed_oracle(torch, x, kernel, bias=None, *, strides=1, padding="VALID", output_padding=0, **settings):
    rank = kernel.ndim - 2
    per_axis = strides if isinstance(strides, tuple) else (strides,) * rank
    sizes = [m * s for m, s in zip(x.shape[-rank - 1 : -1], per_axis, strict=True)]
    function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    y = function(
        channels_first(x, rank),
        kernel.movedim((-2, -1), (0, 1)),
        bias,
        stride=strides,
        output_padding=output_padding,
        **settings,
    )
    for axis, (low, high) in enumerate(pairs(padding, sizes, kernel, strides), 2):
        y = y.narrow(axis, low, y.shape[axis] - low - high)
    return channels_last(y, x, rank)


def _transposed_case(name, image, kernel, bias=True, groups=1, **static):
    outputs = normal(kernel[-1] * groups) if bias else absent
    arguments = lambda lead: (normal(*lead, *image), normal(*kernel), outputs)  # noqa: E731
    return Case(arguments, {"groups": groups, **static}, name, _transposed_oracle, terms)


_LAYOUTS = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def _lax_conv_transpose(x, kernel, bias, *, strides, padding):
    strides = (strides,) * (kernel.ndim - 2)
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=_LAYOUTS[kernel.ndim]) + bias


def _flax_conv_transpose(strides, padding):
    def make():
        from flax import linen  # pyright: ignore[reportMissingImports]

        def conv_transpose(x, kernel, bias):
            layer = linen.ConvTranspose(kernel.shape[-1], kernel.shape[:-2], (strides,) * (kernel.ndim - 2), padding)
            return layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)

        return conv_transpose

    return make


def _transposed_bench(name, image, kernel, floor=0.97, memory=None, **static):
    """Kernels of noise: that lax and Flax flip theirs makes no difference."""
    arguments = normal(*image), normal(*kernel), normal(kernel[-1])
    peers = {"flax": _flax_conv_transpose(**static)}
    return Bench(name, arguments, {"lax": _lax_conv_transpose}, static=static, floor=floor, memory=memory, peers=peers)


register(
    Entry(
        ops.conv_transpose,
        ("conv.conv1d",),
        (
            _transposed_case("strides and padding", (3, 2, 2), (3, 2, 2, 3), strides=2, padding=1,
                             output_padding=(1, 1)),
            _transposed_case("valid, no bias", (2, 3, 2), (2, 3, 2, 2), bias=False),
            _transposed_case("same", (3, 2, 2), (4, 3, 2, 2), strides=2, padding="SAME"),
            _transposed_case("dilation, groups", (3, 2, 4), (2, 3, 4, 1), strides=(1, 3), dilation=2, padding=(0, 1),
                             output_padding=(0, 2), groups=2),
            _transposed_case("depthwise", (3, 2, 3), (3, 2, 3, 1), strides=2, groups=3),
            _transposed_case("1-D, padding at one end", (4, 2), (3, 2, 3), strides=2, padding=((2, 0),)),
            _transposed_case("3-D", (2, 3, 2, 2), (2, 2, 2, 2, 2), strides=(1, 2, 1), padding=1),
        ),
        (
            Trap("bfloat16 bias gradient over 16384 positions",
                 ([[0.0]] * 16384, [[[1.0, 1.0]]], [0.0, 0.0]), {2: [16384.0, 16384.0]}, dtype="bfloat16"),
        ),
        (
            _transposed_bench("4×4/2, 64 → 32, (16,28,28)", (16, 28, 28, 64), (4, 4, 64, 32), 5, strides=2,
                              padding="SAME"),
            _transposed_bench("3×3/2, 32 → 32, (16,14,14)", (16, 14, 14, 32), (3, 3, 32, 32), strides=2,
                              padding="SAME"),
            _transposed_bench("1-D 4/2, 64 → 32, (16,256)", (16, 256, 64), (4, 64, 32), strides=2, padding="SAME"),
            _transposed_bench("3-D 2×2×2/2, 32 → 16, (2,8,8,8)", (2, 8, 8, 8, 32), (2, 2, 2, 32, 16), strides=2,
                              padding="SAME"),
        ),
    )
)  # fmt: skip
