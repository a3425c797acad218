"""Entries of the ops in :mod:`dlfn.ops.linear_algebra.embedding`."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, integers, normal, register

NAN = np.nan


register(
    Entry(
        ops.embedding,
        ("transformer.embedding",),
        (
            Case(lambda lead: (integers(0, 7, *lead), normal(7, 5)),
                 oracle=lambda torch, ids, table: torch.nn.functional.embedding(ids.long(), table),
                 terms=lambda ids, _: ids.size),
        ),
        (
            Trap("31: bfloat16 row hit 8192 times", ([0] * 8192, [[1.0], [2.0]]), {1: [[8192.0], [0.0]]},
                 dtype="bfloat16"),
            Trap("ids out of range", ([0, -1, 2], [[1.0], [2.0]]), {1: [[1.0], [0.0]]}, value=[[1.0], [NAN], [NAN]]),
        ),
        (
            Bench("(8, 1024) of (50257, 256)", (integers(0, 50257, 8, 1024), normal(50257, 256)),
                  {"plain": lambda ids, table: table[ids], "take": lambda ids, table: jnp.take(table, ids, axis=0)}),
        ),
    )
)  # fmt: skip
