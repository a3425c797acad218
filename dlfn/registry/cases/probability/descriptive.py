"""Mean, variance, deviation and covariance: means far from 0, ends of the range."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

STATISTICS = ("statistics.descriptive",)
_SQUARE = normal(1024, 1024)
# The way around an overflow, which is not taken here, has room for a few numbers per row.
_ROWS = {"static": {"axis": -1}, "memory": None}


def _rows(lead):
    return (normal(*lead, 5),)


def _pair(lead):
    return normal(*lead, 5), normal(*lead, 5)


def _size(x, *_):
    return x.size


def _row(x, *_):
    return x.shape[-1]


def _torch(name):
    def oracle(torch, x, axis=None, ddof=0, keepdims=False):
        correction = {} if name == "mean" else {"correction": ddof}
        return getattr(torch, name)(x, dim=axis, keepdim=keepdims, **correction)

    return oracle


register(
    Entry(
        ops.mean,
        STATISTICS,
        (
            Case(_rows, {"axis": -1}, "rows", _torch("mean"), _row),
            Case(_rows, {"keepdims": True}, "all axes", _torch("mean"), _size, empty=False),
        ),
        (
            Trap("the sum overflows", ([3e38, 3e38],), {0: [0.5, 0.5]}, value=3e38),
            Trap("bfloat16 sums", ([1.0] * 4096,), {0: [2.0**-12] * 4096}, value=1.0, dtype="bfloat16"),
        ),
        (Bench("rows of (1024, 1024)", (_SQUARE,), {"jnp": jnp.mean}, **_ROWS),),
    )
)

for op, name, trap in (
    (ops.variance, "var", Trap("large data", ([1e18, -1e18] * 8,), {0: [1.25e17, -1.25e17] * 8}, value=1e36)),
    (ops.std, "std", Trap("large data", ([3e38, -3e38],), {0: [0.5, -0.5]}, value=3e38)),
):
    register(
        Entry(
            op,
            (*STATISTICS, "numeric.safe_elementary") if op is ops.std else STATISTICS,
            (
                Case(_rows, {"axis": -1, "ddof": 1}, "rows, ddof=1", _torch(name), _row),
                Case(_rows, {"keepdims": True}, "all axes", _torch(name), _size, empty=False),
            ),
            (
                Trap("4: constant data", ([2.0] * 4,), {0: [0.0] * 4}, value=0.0),
                Trap("constant data, large", ([3e38] * 7,), {0: [0.0] * 7}, value=0.0),
                Trap("mean 1e4", ([1e4 + 1, 1e4 + 3],), {0: [-1.0, 1.0] if op is ops.variance else [-0.5, 0.5]},
                     value=1.0),
                trap,
            ),
            (Bench("rows of (1024, 1024)", (_SQUARE,), {"jnp": getattr(jnp, name)}, **_ROWS),),
            homogeneous=(2 if op is ops.variance else 1, {}),
        )
    )  # fmt: skip


def _torch_covariance(torch, x, y, axis=None, ddof=0, keepdims=False):
    axes = tuple(range(x.ndim)) if axis is None else (axis,)
    products = (x - x.mean(axes, keepdim=True)) * (y - y.mean(axes, keepdim=True))
    n = np.prod([x.shape[a] for a in axes])
    return products.sum(axes, keepdim=keepdims) / (n - ddof)


def _plain_covariance(x, y, *, axis):
    return jnp.mean((x - jnp.mean(x, axis, keepdims=True)) * (y - jnp.mean(y, axis, keepdims=True)), axis)


register(
    Entry(
        ops.covariance,
        STATISTICS,
        (
            Case(_pair, {"axis": -1, "ddof": 1}, "rows, ddof=1", _torch_covariance, _row),
            Case(_pair, {"keepdims": True}, "all axes", _torch_covariance, _size, empty=False),
        ),
        (
            Trap("4: constant data", ([0.1] * 4, [3e38] * 4), {0: [0.0] * 4, 1: [0.0] * 4}, value=0.0),
            Trap("large and small", ([1e25, -1e25], [1e-30, -1e-30]), {0: [5e-31, -5e-31], 1: [5e24, -5e24]},
                 value=1e-5),
            Trap("constant data, both large", ([1e25] * 3, [1e25] * 3), {0: [0.0] * 3, 1: [0.0] * 3}, value=0.0),
            Trap("at both ends of the range", ([3e38, -3e38], [2e-38, -2e-38]), {0: [1e-38, -1e-38]}, value=6.0),
        ),
        (Bench("rows of (1024, 1024)", (_SQUARE, _SQUARE), {"plain": _plain_covariance}, **_ROWS),),
        homogeneous=(1, {}),
    )
)  # fmt: skip
