"""Entries of the ops in :mod:`dlfn.ops.linear_algebra.norms`."""

import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

SAFE = ("numeric.safe_elementary",)
INF, NAN = np.inf, np.nan
_SQUARE = normal(1024, 1024)
_ROOT_HALF = 0.70710678


# In the benchmarks of norms memory has no bound: the way around an overflow, which is not taken there, has room for a
# few numbers per row, and for one of several arrays.


def _pair(lead):
    return normal(*lead, 5), normal(*lead, 5)


def _torch_norm(torch, x, axis=None, keepdims=False):
    return torch.linalg.vector_norm(x, dim=axis, keepdim=keepdims)


def _rows(lead):
    return (normal(*lead, 5),)


register(
    Entry(
        ops.norm,
        SAFE,
        (
            Case(_rows, {"axis": -1}, "rows", _torch_norm, terms=lambda x: x.shape[-1]),
            Case(_rows, {"keepdims": True}, "all axes", _torch_norm, terms=lambda x: x.size),
        ),
        (
            Trap("1: zeros", ([0.0, 0.0],), {0: [0.0, 0.0]}, value=0.0),
            Trap("2: large", ([1e20, 1e20],), {0: [_ROOT_HALF] * 2}, value=1.41421356e20),
            Trap("3: small", ([1e-25, 1e-25],), {0: [_ROOT_HALF] * 2}, value=1.41421356e-25),
            Trap("rows of all sizes", ([[3e38, 4e37], [3e-38, 4e-38], [0.0, 0.0], [3.0, -4.0]],),
                 {0: [[0.99122790, 0.13216372], [0.6, 0.8], [0.0, 0.0], [0.6, -0.8]]},
                 value=[3.0265492e38, 5e-38, 0.0, 5.0], static={"axis": -1}),
            Trap("an infinite entry", ([INF, -3.0],), {0: [1.0, 0.0]}, value=INF),
            Trap("bfloat16 sums", ([1.0] * 4096,), {0: [2.0**-6] * 4096}, value=64.0, dtype="bfloat16"),
        ),
        (
            Bench("rows of (1024, 1024)", (_SQUARE,), {"jnp": lambda x, *, axis: jnp.linalg.norm(x, axis=axis)},
                  static={"axis": -1}),
            Bench("all of (1024, 1024)", (_SQUARE,), {"jnp": jnp.linalg.norm}),
        ),
        homogeneous=(1, {}),
    )
)  # fmt: skip


def _tree(*shapes):
    return lambda rng: [rng.normal(size=shape) for shape in shapes]


register(
    Entry(
        ops.global_norm,
        SAFE,
        (Case(lambda lead: (normal(*lead, 5),), oracle=_torch_norm, terms=lambda x: x.size),),
        (
            Trap("1: zeros", ([0.0, 0.0],), {0: [0.0, 0.0]}, value=0.0),
            Trap("large", ([1e20, 1e20],), {0: [_ROOT_HALF] * 2}, value=1.41421356e20),
        ),
        (
            Bench("two of (512, 1024)", (_tree((512, 1024), (512, 1024), (1024,)),), {"optax": optax.global_norm}),
        ),
        homogeneous=(1, {}),
    )
)  # fmt: skip


def _plain_cosine(x, y):
    return jnp.sum(x * y, -1) / (jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1))


def _torch_cosine(torch, x, y, axis=-1):
    return torch.nn.functional.cosine_similarity(x, y, dim=axis)


register(
    Entry(
        ops.cosine_similarity,
        SAFE,
        (Case(_pair, oracle=_torch_cosine, terms=lambda x, _: x.shape[-1]),),
        (
            Trap("23: a vector of zeros", ([0.0, 0.0], [1.0, 2.0]), {0: [0.0, 0.0], 1: [0.0, 0.0]}, value=0.0),
            Trap("23: both", ([0.0, 0.0], [0.0, 0.0]), {0: [0.0, 0.0], 1: [0.0, 0.0]}, value=0.0),
            Trap("large and small", ([3e25, 4e25], [2e-25, 0.0]), {0: [1.28e-26, -9.6e-27]},
                 value=0.6),
            Trap("nearly at right angles to a vector whose inverse length is subnormal", ([1.0, -0.75], [1e38, 1e38]),
                 {0: [0.47517576, 0.63356768]}, value=0.14142136),
        ),
        (
            Bench("(1024, 1024)", (_SQUARE, _SQUARE), {"plain": _plain_cosine, "optax": optax.cosine_similarity}),
        ),
        homogeneous=(0, {}),
    )
)  # fmt: skip
