"""Entries of the ops in :mod:`dlfn.ops.spatial.conv`."""

from jax import lax

from dlfn import ops
from dlfn.registry.cases.spatial._shared_conv import channels_first, channels_last, pairs, terms
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register


def _conv_oracle(torch, x, kernel, bias=None, *, padding="VALID", strides=1, **settings):
    rank = kernel.ndim - 2
    pads = pairs(padding, x.shape[-rank - 1 : -1], kernel, strides)
    images = torch.nn.functional.pad(channels_first(x, rank), [n for pair in reversed(pads) for n in pair])
    function = getattr(torch.nn.functional, f"conv{rank}d")
    weight = kernel.movedim((-1, -2), (0, 1))
    return channels_last(function(images, weight, bias, stride=strides, **settings), x, rank)


def _case(name, image, kernel, bias=True, **static):
    arguments = lambda lead: (normal(*lead, *image), normal(*kernel), normal(kernel[-1]) if bias else absent)  # noqa: E731
    return Case(arguments, static, name, _conv_oracle, terms)


_LAYOUTS = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def _lax_conv(x, kernel, bias, *, strides=1, padding="VALID", groups=1):
    y = lax.conv_general_dilated(
        x, kernel, (strides,) * (kernel.ndim - 2), padding, dimension_numbers=_LAYOUTS[kernel.ndim],
        feature_group_count=groups,
    )  # fmt: skip
    return y + bias


def _flax_conv(strides=1, padding="VALID", groups=1):
    def make():
        from flax import linen  # pyright: ignore[reportMissingImports]

        def conv(x, kernel, bias):
            layer = linen.Conv(
                kernel.shape[-1], kernel.shape[:-2], strides, padding, feature_group_count=groups
            )  # fmt: skip
            return layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)

        return conv

    return make


def _bench(name, image, kernel, floor=0.97, memory=1.05, **static):
    arguments = normal(*image), normal(*kernel), normal(kernel[-1])
    peers = {"flax": _flax_conv(**static)}
    return Bench(name, arguments, {"lax": _lax_conv}, static=static, floor=floor, memory=memory, peers=peers)


register(
    Entry(
        ops.conv,
        ("conv.conv2d", "conv.stride_padding", "conv.conv1d"),
        (
            _case("strides and padding", (5, 4, 2), (3, 2, 2, 3), strides=(2, 1), padding=1),
            _case("strides larger than the window, no bias", (5, 3, 2), (2, 1, 2, 2), bias=False, strides=3),
            _case("same, even window", (4, 3, 2), (2, 4, 2, 2), padding="SAME", strides=(2, 1)),
            _case("dilation, groups, padding at one end", (4, 4, 4), (2, 3, 2, 4), groups=2, dilation=(3, 2),
                  padding=((0, 1), (2, 0))),
            _case("depthwise, two outputs each", (4, 5, 2), (3, 2, 1, 4), groups=2, strides=(2, 1), padding=1,
                  dilation=(1, 2)),
            _case("1×1", (3, 2, 3), (1, 1, 3, 4)),
            _case("1-D depthwise, causal", (6, 3), (4, 1, 3), groups=3, padding=((3, 0),)),
            _case("1-D", (5, 2), (3, 2, 3), padding=1),
            _case("3-D", (3, 2, 3, 2), (2, 2, 2, 2, 2), strides=(1, 2, 1), padding=1),
        ),
        (
            Trap("bfloat16 bias gradient over 16384 positions",
                 ([[0.0]] * 16384, [[[1.0, 1.0]]], [0.0, 0.0]), {2: [16384.0, 16384.0]}, dtype="bfloat16"),
            Trap("bfloat16 kernel gradient over 16384 positions",
                 ([[1.0]] * 16386, [[[1.0]]] * 3, [0.0]), {1: [[[16384.0]]] * 3}, dtype="bfloat16"),
            Trap("bfloat16 depthwise kernel gradient over 16384 positions",
                 ([[1.0, 2.0]] * 16385, [[[1.0, 1.0]]] * 2, [0.0, 0.0]), {1: [[[16384.0, 32768.0]]] * 2},
                 static={"groups": 2}, dtype="bfloat16"),
        ),
        (
            _bench("3×3, 64 → 64, (16,28,28)", (16, 28, 28, 64), (3, 3, 64, 64), padding="SAME"),
            _bench("3×3/2, 64 → 128, (16,28,28)", (16, 28, 28, 64), (3, 3, 64, 128), padding="SAME", strides=2),
            _bench("3×3, 3 → 32, (32,32,32)", (32, 32, 32, 3), (3, 3, 3, 32), padding="SAME"),
            _bench("1×1, 64 → 128, (16,28,28)", (16, 28, 28, 64), (1, 1, 64, 128)),
            _bench("depthwise 3×3, (16,56,56,64)", (16, 56, 56, 64), (3, 3, 1, 64), 2, padding="SAME", groups=64),
            _bench("depthwise 3×3/2, (16,56,56,64)", (16, 56, 56, 64), (3, 3, 1, 64), 2, padding="SAME", groups=64,
                   strides=2),
            _bench("groups=4 3×3, (16,28,28,64)", (16, 28, 28, 64), (3, 3, 16, 64), padding="SAME", groups=4),
            _bench("1-D 5, 64 → 64, (16,512)", (16, 512, 64), (5, 64, 64), padding="SAME"),
            _bench("1-D depthwise 4, (16,512,64)", (16, 512, 64), (4, 1, 64), 1.5, padding="SAME", groups=64),
            _bench("3-D 3×3×3, 16 → 16, (2,16,16,16)", (2, 16, 16, 16, 16), (3, 3, 3, 16, 16), padding="SAME"),
        ),
    )
)  # fmt: skip
