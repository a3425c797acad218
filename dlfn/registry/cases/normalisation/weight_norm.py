"""Entries of the ops in :mod:`dlfn.ops.normalisation.weight_norm`."""

import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.cases.normalisation._shared import evenly, size
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register, uniform


def _weight_oracle(torch, v, g, axis=-1):
    if axis is None:
        return g * v / v.norm()
    shape = [1] * v.ndim
    shape[axis] = -1
    return torch._weight_norm(v.movedim(axis, 0).contiguous(), g.reshape(-1, *[1] * (v.ndim - 1)), 0).movedim(0, axis)


def _plain_weight(v, g):
    return v * (g / jnp.linalg.norm(v, axis=0))


register(
    Entry(
        ops.weight_norm,
        ("norm.peers",),
        (
            Case(lambda lead: (evenly(*lead, 5, 3), normal(3)), oracle=_weight_oracle, terms=size),
            Case(lambda lead: (evenly(*lead, 2, 3), normal()), {"axis": None}, "one length", _weight_oracle, size),
            Case(lambda lead: (evenly(*lead, 5, 3), normal(5)), {"axis": -2}, "an inner axis", _weight_oracle, size),
        ),
        (
            Trap("zeros", ([[0.0], [0.0]], [2.0]), {0: [[0.0], [0.0]], 1: [0.0]}, value=[[0.0], [0.0]]),
        ),
        (Bench("(1024, 1024)", (normal(1024, 1024), normal(1024)), {"plain": _plain_weight}, memory=1.05),),
        homogeneous=(0, {}),
    )
)  # fmt: skip


def _positive(*shape):
    return uniform(0.5, 1.5, *shape)


register(
    Entry(
        ops.spectral_quotient,
        ("norm.peers",),
        (
            Case(lambda lead: (_positive(*lead, 3, 4), _positive(4), _positive(*lead, 3)), terms=size,
                 oracle=lambda torch, w, u, v: w / torch.einsum("...i,...io,o->", v, w, u)),
        ),
        (Trap("zeros", ([[0.0]], [1.0], [1.0]), {0: [[0.0]], 1: [0.0], 2: [0.0]}, value=[[0.0]]),),
        (
            Bench("(1024, 1024)", (_positive(1024, 1024), _positive(1024), _positive(1024)),
                  {"plain": lambda w, u, v: w / (v @ w @ u)}, memory=1.05),
        ),
        homogeneous=(0, {}),
    )
)  # fmt: skip
