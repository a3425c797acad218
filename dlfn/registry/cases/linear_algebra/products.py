"""Entries of the ops in :mod:`dlfn.ops.linear_algebra.products`."""

import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

register(
    Entry(
        ops.matmul,
        ("linalg.products",),
        (
            Case(lambda lead: (normal(*lead, 2, 5), normal(*lead, 5, 3)),
                 oracle=lambda torch, a, b: a @ b, terms=lambda *_: 5),
            Case(lambda lead: (normal(*lead, 2, 5), normal(5, 3)), name="one matrix",
                 oracle=lambda torch, a, b: a @ b, terms=lambda a, _: 2 * a.size),
            Case(lambda lead: (normal(*lead, 1, 2, 5), normal(4, 5, 3)), name="broadcast",
                 oracle=lambda torch, a, b: a @ b, terms=lambda a, _: 4 * a.size),
            Case(lambda lead: (normal(*lead, 2, 5), normal(5)), name="matrix and vector",
                 oracle=lambda torch, a, b: a @ b, terms=lambda a, _: 2 * a.size),
        ),
        (
            Trap("bfloat16 gradient of a matrix that is shared by 4096", ([[[1.0]]] * 4096, [[1.0]]), {1: [[4096.0]]},
                 dtype="bfloat16"),
        ),
        (
            Bench("(16, 256, 256) (16, 256, 256)", (normal(16, 256, 256), normal(16, 256, 256)),
                  {"plain": jnp.matmul}),
            Bench("(64, 16, 128) (128, 128)", (normal(64, 16, 128), normal(128, 128)), {"plain": jnp.matmul}),
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.dot,
        ("linalg.products",),
        (
            Case(lambda lead: (normal(*lead, 5), normal(*lead, 5)), terms=lambda *_: 5,
                 oracle=lambda torch, a, b: (a * b).sum(-1)),
            Case(lambda lead: (normal(*lead, 5), normal(5)), name="one vector", terms=lambda a, _: a.size,
                 oracle=lambda torch, a, b: a @ b),
        ),
        (Trap("bfloat16 sums", ([1.0] * 4096, [1.0] * 4096), {0: [1.0] * 4096}, value=4096.0, dtype="bfloat16"),),
        (Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)), {"plain": jnp.vecdot}),),
    )
)  # fmt: skip
