"""Entries of the ops in :mod:`dlfn.ops.spatial.average_pooling`."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn import ops
from dlfn.registry.cases.spatial._shared_pooling import adaptive, adaptive_bench, case, row, slices_of
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

FORMULA = ("pool.max_average_global",)


def _matrices(x, *, output_size):
    n, m = x.shape[-2], output_size
    i, j = np.arange(m)[:, None], np.arange(n)
    hit = (i * n // m <= j) & (j < -(-(i + 1) * n // m))
    matrix = jnp.asarray(hit / hit.sum(axis=1, keepdims=True), x.dtype)
    return jnp.einsum("nhwc,ih,jw->nijc", x, matrix, matrix)


register(
    Entry(
        ops.avg_pool,
        FORMULA,
        (
            case("3×3/2 padded", "avg", (4, 5, 2), {"window": 3, "strides": 2, "padding": 1},
                  {"kernel_size": 3, "stride": 2, "padding": 1}),
            case("padding not counted", "avg", (5, 4, 2),
                  {"window": (3, 2), "strides": (1, 2), "padding": 1, "count_padding": False},
                  {"kernel_size": (3, 2), "stride": (1, 2), "padding": 1, "count_include_pad": False}),
            case("2×2/2 with a rest", "avg", (5, 4, 2), {"window": 2}, {"kernel_size": 2}),
            case("1-D", "avg", (7, 2), {"window": (4,), "strides": 3}, {"kernel_size": 4, "stride": 3}),
            case("3-D same", "avg", (3, 4, 5, 1), {"window": (2, 2, 3), "strides": (1, 2, 1), "padding": "SAME"},
                  {"kernel_size": (2, 2, 3), "stride": (1, 2, 1)}, (1, 1, 0, 0, 0, 1)),
            case("large", "avg", (6, 5, 2), {"window": (5, 4), "strides": (2, 1), "padding": ((1, 2), (0, 1))},
                  {"kernel_size": (5, 4), "stride": (2, 1)}, (0, 1, 1, 2)),
            case("long", "avg", (35, 2, 1), {"window": (17, 1)}, {"kernel_size": (17, 1)}),
            case("strides beyond the window", "avg", (7, 8, 1), {"window": 2, "strides": 3},
                  {"kernel_size": 2, "stride": 3}),
        ),
        (
            Trap("bfloat16 mean over 16384 ones", ([[1.0]] * 16384,), {0: [[2.0**-14]] * 16384}, [[1.0]],
                 {"window": (16384,)}, dtype="bfloat16"),
        ),
        (
            row("avg", lax.add, 0.0, 2, 2, 0.97, 1.05),
            # Over its memory by a border of zeros around the outputs, in a third of the time.
            row("avg", lax.add, 0.0, 3, 2, 0.97, 1.05),
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
        adaptive("avg"),
        benches=(adaptive_bench(**{"matrix products": _matrices, "slices": slices_of(jnp.mean)}),),
    )
)
