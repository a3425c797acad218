"""Entries of the ops in :mod:`dlfn.ops.probability.joint_tables`."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.cases.probability._shared_information import joint_table, per_nat
from dlfn.registry.entry import Bench, Case, Entry, Trap, register

INF = np.inf
ENTROPY, MUTUAL = ("information.entropy_kl",), ("information.mutual",)


def _torch_information(torch, joint, base=None):
    product = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    return torch.nn.functional.kl_div(torch.log(product), joint, reduction="none").sum((-2, -1)) * per_nat(base)


def _torch_conditional(torch, joint, base=None):
    return (torch.special.entr(joint).sum((-2, -1)) - torch.special.entr(joint.sum(-2)).sum(-1)) * per_nat(base)


def _plain_information(joint):
    p_x, p_y = joint.sum(-1, keepdims=True), joint.sum(-2, keepdims=True)
    return jnp.sum(jax.scipy.special.rel_entr(joint, p_x * p_y), (-2, -1))


def _plain_conditional(joint):
    return -jnp.sum(jax.scipy.special.rel_entr(joint, joint.sum(-2, keepdims=True)), (-2, -1))


def _tables(rng):
    return rng.dirichlet(np.ones(1024), size=1024).reshape(1024, 32, 32)


for op, oracle, plain, trap in (
    (
        ops.mutual_information,
        _torch_information,
        _plain_information,
        Trap(
            "probabilities of 0",
            ([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]],),
            {0: [[-0.30685282, -INF, -0.30685282], [-INF, -0.30685282, -0.30685282], [-0.30685282, -0.30685282, INF]]},
            value=np.log(2),
            no_bend="p log p has an infinite slope at 0",
        ),
    ),
    (
        ops.conditional_entropy,
        _torch_conditional,
        _plain_conditional,
        Trap(
            "probabilities of 0",
            ([[0.25, 0.5, 0.0], [0.25, 0.0, 0.0]],),
            {0: [[np.log(2), 0.0, 0.0], [np.log(2), INF, 0.0]]},
            value=np.log(2) / 2,
            no_bend="p log p has an infinite slope at 0",
        ),
    ),
):
    cases = tuple(
        Case(joint_table, static, name, oracle, lambda p: 12) for name, static in (("nats", {}), ("bits", {"base": 2}))
    )
    bench = Bench("1024 tables (32, 32)", (_tables,), {"jax": plain})
    register(Entry(op, MUTUAL, cases, (trap,), (bench,)))
