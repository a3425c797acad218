"""What the cases of average_pooling and max_pooling share."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn.registry.entry import Bench, Case, normal

__all__ = ["adaptive", "adaptive_bench", "case", "of_flax", "pooled", "row", "slices_of", "windows"]


def pooled(kind, given, pad=(), fill=0.0):
    """PyTorch's function of that kind, channels last, with the configuration ``given``. What it cannot pad, ends that
    differ, is padded apart, the last axis first."""

    def oracle(torch, x, **_):
        functional = torch.nn.functional
        x = functional.pad(x.movedim(-1, 1), pad, value=fill) if pad else x.movedim(-1, 1)
        return getattr(functional, f"{kind}_pool{x.ndim - 2}d")(x, **given).movedim(1, -1)

    return oracle


def case(name, kind, shape, static, given, pad=(), fill=0.0):
    return Case(
        lambda lead: (normal(*lead, *shape),),
        static,
        name,
        pooled(kind, given, pad, fill),
        # An input is in no more windows than this, and no window has more entries.
        terms=lambda x: int(np.prod(x.shape[-1 - len(shape) : -1])),
    )


def adaptive(kind):
    return tuple(
        case(name, f"adaptive_{kind}", (*sizes, 2), {"output_size": outputs}, {"output_size": outputs})
        for name, sizes, outputs in (
            ("uneven", (4, 5), (3, 2)),
            ("even", (4, 6), 2),
            ("to more outputs", (5,), (7,)),
            ("uneven and even, 3-D", (3, 4, 2), (2, 2, 3)),
            ("to one", (18, 2), (1, 1)),
        )
    )


def windows(operation, initial):
    """``lax.reduce_window``, which Flax's pooling is, and its autodiff."""

    def pool(x, *, window, strides):
        sizes, steps = (1, window, window, 1), (1, strides, strides, 1)
        y = lax.reduce_window(x, initial, operation, sizes, steps, "VALID")
        return y / window**2 if operation is lax.add else y

    return pool


def of_flax(kind, window, strides):
    def make():
        import flax.linen  # pyright: ignore[reportMissingImports]

        pool = getattr(flax.linen, f"{kind}_pool")
        return lambda x: pool(x, (window, window), (strides, strides))

    return make


def row(kind, operation, initial, window, strides, floor, memory):
    return Bench(
        f"{window}×{window}/{strides} (64, 56, 56, 64)",
        (normal(64, 56, 56, 64),),
        {"lax.reduce_window": windows(operation, initial)},
        static={"window": window, "strides": strides},
        floor=floor,
        memory=memory,
        peers={"flax": of_flax(kind, window, strides)},
    )


def slices_of(reduction):
    """Adaptive pooling the plain way, a reduced slice per window."""

    def pool(x, *, output_size):
        for axis in (-2, -3):
            n, m = x.shape[axis], output_size
            slices = [lax.slice_in_dim(x, i * n // m, -(-(i + 1) * n // m), axis=axis) for i in range(m)]
            x = jnp.stack([reduction(s, axis=axis) for s in slices], axis=axis)
        return x

    return pool


def adaptive_bench(**baselines):
    arguments = (normal(32, 13, 13, 256),)
    return Bench("(32, 13, 13, 256) → 6×6", arguments, baselines, static={"output_size": 6}, memory=1.05)
