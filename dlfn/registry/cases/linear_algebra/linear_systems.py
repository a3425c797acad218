"""Entries of the ops in :mod:`dlfn.ops.linear_algebra.linear_systems`."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register


def _regular(*shape):
    """Well-conditioned square matrices."""
    return lambda rng: rng.normal(size=shape) + 4 * np.eye(shape[-1])


register(
    Entry(
        ops.inverse,
        ("linalg.products",),
        (
            Case(lambda lead: (_regular(*lead, 3, 3),), terms=lambda *_: 9,
                 oracle=lambda torch, a: torch.linalg.inv(a)),
        ),
        (Trap("badly scaled", ([[1e20, 0.0], [0.0, 1e-10]],), {0: [[-1e-40, -1e-10], [-1e-10, -1e20]]},
              value=[[1e-20, 0.0], [0.0, 1e10]]),),
        (Bench("(64, 32, 32)", (_regular(64, 32, 32),), {"plain": jnp.linalg.inv}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.solve,
        ("linalg.products",),
        (
            Case(lambda lead: (_regular(*lead, 3, 3), normal(*lead, 3, 2)), terms=lambda *_: 9,
                 oracle=lambda torch, a, b: torch.linalg.solve(a, b)),
            Case(lambda lead: (_regular(*lead, 3, 3), normal(3)), name="one vector", terms=lambda a, _: a.size,
                 oracle=lambda torch, a, b: torch.linalg.solve(a, b[:, None])[..., 0]),
            Case(lambda lead: (_regular(3, 3), normal(*lead, 3, 2)), name="one matrix", terms=lambda a, b: 2 * b.size,
                 oracle=lambda torch, a, b: torch.linalg.solve(a, b)),
        ),
        (Trap("badly scaled", ([[1e20, 0.0], [0.0, 1e-10]], [1e20, 1.0]), {1: [1e-20, 1e10]}, value=[1.0, 1e10]),),
        (Bench("(64, 32, 32) (64, 32, 8)", (_regular(64, 32, 32), normal(64, 32, 8)), {"plain": jnp.linalg.solve}),),
    )
)  # fmt: skip
