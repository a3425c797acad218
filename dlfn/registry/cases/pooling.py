"""Maximum and average pooling: overlaps, padding, ties; lax.reduce_window and Flax are timed."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

INF, NAN = np.inf, np.nan
FORMULA = ("pool.max_average_global",)


def _pooled(kind, given, pad=(), fill=0.0):
    """PyTorch's function of that kind, channels last, with the configuration ``given``. What it cannot pad, ends that
    differ, is padded apart, the last axis first."""

    def oracle(torch, x, **_):
        functional = torch.nn.functional
        x = functional.pad(x.movedim(-1, 1), pad, value=fill) if pad else x.movedim(-1, 1)
        return getattr(functional, f"{kind}_pool{x.ndim - 2}d")(x, **given).movedim(1, -1)

    return oracle


def _case(name, kind, shape, static, given, pad=(), fill=0.0):
    return Case(
        lambda lead: (normal(*lead, *shape),),
        static,
        name,
        _pooled(kind, given, pad, fill),
        # An input is in no more windows than this, and no window has more entries.
        terms=lambda x: int(np.prod(x.shape[-1 - len(shape) : -1])),
    )


def _adaptive(kind):
    return tuple(
        _case(name, f"adaptive_{kind}", (*sizes, 2), {"output_size": outputs}, {"output_size": outputs})
        for name, sizes, outputs in (
            ("uneven", (4, 5), (3, 2)),
            ("even", (4, 6), 2),
            ("to more outputs", (5,), (7,)),
            ("uneven and even, 3-D", (3, 4, 2), (2, 2, 3)),
            ("to one", (18, 2), (1, 1)),
        )
    )


def _tie(name, op_input, gradient, value=None, **static):
    return Trap(name, (op_input,), {0: gradient}, value, static)


def _windows(operation, initial):
    """``lax.reduce_window``, which Flax's pooling is, and its autodiff."""

    def pool(x, *, window, strides):
        sizes, steps = (1, window, window, 1), (1, strides, strides, 1)
        y = lax.reduce_window(x, initial, operation, sizes, steps, "VALID")
        return y / window**2 if operation is lax.add else y

    return pool


def _flax(kind, window, strides):
    def make():
        import flax.linen  # pyright: ignore[reportMissingImports]

        pool = getattr(flax.linen, f"{kind}_pool")
        return lambda x: pool(x, (window, window), (strides, strides))

    return make


def _bench(kind, operation, initial, window, strides, floor, memory):
    return Bench(
        f"{window}×{window}/{strides} (64, 56, 56, 64)",
        (normal(64, 56, 56, 64),),
        {"lax.reduce_window": _windows(operation, initial)},
        static={"window": window, "strides": strides},
        floor=floor,
        memory=memory,
        peers={"flax": _flax(kind, window, strides)},
    )


def _slices(reduction):
    """Adaptive pooling the plain way, a reduced slice per window."""

    def pool(x, *, output_size):
        for axis in (-2, -3):
            n, m = x.shape[axis], output_size
            slices = [lax.slice_in_dim(x, i * n // m, -(-(i + 1) * n // m), axis=axis) for i in range(m)]
            x = jnp.stack([reduction(s, axis=axis) for s in slices], axis=axis)
        return x

    return pool


def _matrices(x, *, output_size):
    n, m = x.shape[-2], output_size
    i, j = np.arange(m)[:, None], np.arange(n)
    hit = (i * n // m <= j) & (j < -(-(i + 1) * n // m))
    matrix = jnp.asarray(hit / hit.sum(axis=1, keepdims=True), x.dtype)
    return jnp.einsum("nhwc,ih,jw->nijc", x, matrix, matrix)


def _adaptive_bench(**baselines):
    arguments = (normal(32, 13, 13, 256),)
    return Bench("(32, 13, 13, 256) → 6×6", arguments, baselines, static={"output_size": 6}, memory=1.05)


register(
    Entry(
        ops.max_pool,
        FORMULA,
        (
            _case("3×3/2 padded", "max", (4, 5, 2), {"window": 3, "strides": 2, "padding": 1},
                  {"kernel_size": 3, "stride": 2, "padding": 1}),
            _case("2×2/2 with a rest", "max", (5, 4, 2), {"window": 2}, {"kernel_size": 2}),
            _case("1-D dilated", "max", (9, 2), {"window": (3,), "strides": 2, "dilation": 3, "padding": 1},
                  {"kernel_size": 3, "stride": 2, "dilation": 3, "padding": 1}),
            _case("3-D same", "max", (3, 4, 5, 1), {"window": (2, 2, 3), "strides": (1, 2, 1), "padding": "SAME"},
                  {"kernel_size": (2, 2, 3), "stride": (1, 2, 1)}, (1, 1, 0, 0, 0, 1), -INF),
            _case("large", "max", (6, 5, 2), {"window": (5, 4), "strides": (2, 1), "padding": ((1, 2), (0, 1))},
                  {"kernel_size": (5, 4), "stride": (2, 1)}, (0, 1, 1, 2), -INF),
            _case("long", "max", (35, 2, 1), {"window": (17, 1)}, {"kernel_size": (17, 1)}),
            _case("strides beyond the window", "max", (7, 8, 1), {"window": 2, "strides": 3, "padding": (1, 0)},
                  {"kernel_size": 2, "stride": 3, "padding": (1, 0)}),
        ),
        (
            _tie("a tie goes to the first", [[1.0], [1.0], [0.0], [1.0]], [[1.0], [0.0], [0.0], [1.0]], window=(2,)),
            _tie("ties of overlapping windows", [[[0.0]] * 3] * 3,
                 [[[1.0], [1.0], [0.0]], [[1.0], [1.0], [0.0]], [[0.0]] * 3], window=2, strides=1),
            _tie("ties in a window taken axis by axis", [[[0.0]] * 5] * 5,
                 [[[1.0], [0.0], [0.0], [0.0], [0.0]]] + [[[0.0]] * 5] * 4, window=5),
            _tie("padding is not better than -inf", [[-INF], [-INF], [-INF]], [[1.0], [1.0], [0.0]],
                 [[-INF], [-INF]], window=(3,), strides=2, padding=1),
            _tie("the first nan wins", [[1.0], [NAN], [NAN], [2.0]], [[0.0], [1.0], [1.0], [0.0]],
                 [[NAN], [NAN]], window=(2,)),
        ),
        (
            _bench("max", lax.max, -INF, 2, 2, 5, 1 / 5),
            _bench("max", lax.max, -INF, 3, 2, 4, 1 / 5),
        ),
    )
)  # fmt: skip
register(
    Entry(
        ops.avg_pool,
        FORMULA,
        (
            _case("3×3/2 padded", "avg", (4, 5, 2), {"window": 3, "strides": 2, "padding": 1},
                  {"kernel_size": 3, "stride": 2, "padding": 1}),
            _case("padding not counted", "avg", (5, 4, 2),
                  {"window": (3, 2), "strides": (1, 2), "padding": 1, "count_padding": False},
                  {"kernel_size": (3, 2), "stride": (1, 2), "padding": 1, "count_include_pad": False}),
            _case("2×2/2 with a rest", "avg", (5, 4, 2), {"window": 2}, {"kernel_size": 2}),
            _case("1-D", "avg", (7, 2), {"window": (4,), "strides": 3}, {"kernel_size": 4, "stride": 3}),
            _case("3-D same", "avg", (3, 4, 5, 1), {"window": (2, 2, 3), "strides": (1, 2, 1), "padding": "SAME"},
                  {"kernel_size": (2, 2, 3), "stride": (1, 2, 1)}, (1, 1, 0, 0, 0, 1)),
            _case("large", "avg", (6, 5, 2), {"window": (5, 4), "strides": (2, 1), "padding": ((1, 2), (0, 1))},
                  {"kernel_size": (5, 4), "stride": (2, 1)}, (0, 1, 1, 2)),
            _case("long", "avg", (35, 2, 1), {"window": (17, 1)}, {"kernel_size": (17, 1)}),
            _case("strides beyond the window", "avg", (7, 8, 1), {"window": 2, "strides": 3},
                  {"kernel_size": 2, "stride": 3}),
        ),
        (
            Trap("bfloat16 mean over 16384 ones", ([[1.0]] * 16384,), {0: [[2.0**-14]] * 16384}, [[1.0]],
                 {"window": (16384,)}, dtype="bfloat16"),
        ),
        (
            _bench("avg", lax.add, 0.0, 2, 2, 0.97, 1.05),
            # Over its memory by a border of zeros around the outputs, in a third of the time.
            _bench("avg", lax.add, 0.0, 3, 2, 0.97, 1.05),
        ),
    )
)  # fmt: skip
register(
    Entry(
        ops.global_avg_pool,
        FORMULA,
        tuple(
            Case(
                lambda lead, sizes=sizes: (normal(*lead, *sizes, 2),),
                {"spatial": len(sizes)},
                f"{len(sizes)}-D",
                lambda torch, x, spatial: x.mean(tuple(range(-1 - spatial, -1))),
                terms=lambda x: x.size,
            )
            for sizes in ((3, 4), (5,), (2, 3, 2))
        ),
        benches=(
            Bench(
                "(64, 56, 56, 64)",
                (normal(64, 56, 56, 64),),
                {"plain": lambda x: jnp.mean(x, axis=(-3, -2))},
                memory=1.05,
            ),
        ),
    )
)
register(
    Entry(
        ops.adaptive_avg_pool,
        FORMULA,
        _adaptive("avg"),
        benches=(_adaptive_bench(**{"matrix products": _matrices, "slices": _slices(jnp.mean)}),),
    )
)
register(
    Entry(
        ops.adaptive_max_pool,
        FORMULA,
        _adaptive("max"),
        (_tie("a tie goes to the first", [[1.0]] * 5, [[1.0], [1.0], [0.0], [1.0], [0.0]], output_size=(3,)),),
        (_adaptive_bench(slices=_slices(jnp.max)),),
    )
)
