"""Entries of the ops in :mod:`dlfn.ops.spatial.max_pooling`."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn import ops
from dlfn.registry.cases.spatial._shared_pooling import adaptive, adaptive_bench, case, row, slices_of
from dlfn.registry.entry import Entry, Trap, register

INF, NAN = np.inf, np.nan
FORMULA = ("pool.max_average_global",)


def _tie(name, op_input, gradient, value=None, **static):
    return Trap(name, (op_input,), {0: gradient}, value, static)


register(
    Entry(
        ops.max_pool,
        FORMULA,
        (
            case("3×3/2 padded", "max", (4, 5, 2), {"window": 3, "strides": 2, "padding": 1},
                  {"kernel_size": 3, "stride": 2, "padding": 1}),
            case("2×2/2 with a rest", "max", (5, 4, 2), {"window": 2}, {"kernel_size": 2}),
            case("1-D dilated", "max", (9, 2), {"window": (3,), "strides": 2, "dilation": 3, "padding": 1},
                  {"kernel_size": 3, "stride": 2, "dilation": 3, "padding": 1}),
            case("3-D same", "max", (3, 4, 5, 1), {"window": (2, 2, 3), "strides": (1, 2, 1), "padding": "SAME"},
                  {"kernel_size": (2, 2, 3), "stride": (1, 2, 1)}, (1, 1, 0, 0, 0, 1), -INF),
            case("large", "max", (6, 5, 2), {"window": (5, 4), "strides": (2, 1), "padding": ((1, 2), (0, 1))},
                  {"kernel_size": (5, 4), "stride": (2, 1)}, (0, 1, 1, 2), -INF),
            case("long", "max", (35, 2, 1), {"window": (17, 1)}, {"kernel_size": (17, 1)}),
            case("strides beyond the window", "max", (7, 8, 1), {"window": 2, "strides": 3, "padding": (1, 0)},
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
            row("max", lax.max, -INF, 2, 2, 5, 1 / 5),
            row("max", lax.max, -INF, 3, 2, 4, 1 / 5),
        ),
    )
)  # fmt: skip
register(
    Entry(
        ops.adaptive_max_pool,
        FORMULA,
        adaptive("max"),
        (_tie("a tie goes to the first", [[1.0]] * 5, [[1.0], [1.0], [0.0], [1.0], [0.0]], output_size=(3,)),),
        (adaptive_bench(slices=slices_of(jnp.max)),),
    )
)
