"""Entries of the ops in :mod:`dlfn.ops.probability.information`."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.cases.probability._shared_information import joint_table, per_nat
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, probabilities, register

INF = np.inf
ENTROPY, MUTUAL = ("information.entropy_kl",), ("information.mutual",)


def _size(p, *_):
    return p.shape[-1]


def _one(lead):
    return (probabilities(*lead, 5),)


def _two(lead):
    return probabilities(*lead, 5), probabilities(*lead, 5)


def _torch_cross(torch, p, q, base=None):
    return -torch.xlogy(p, q).sum(-1) * per_nat(base)


def _torch_kl(torch, p, q, reduction="sum", base=None):
    terms = torch.nn.functional.kl_div(torch.log(q), p, reduction="none") * per_nat(base)
    return terms.sum(-1) if reduction == "sum" else terms


register(
    Entry(
        ops.entropy,
        ENTROPY,
        (
            Case(_one, oracle=lambda torch, p: torch.special.entr(p).sum(-1), terms=_size),
            Case(joint_table, {"axis": (-2, -1), "base": 2}, "bits of a table",
                 lambda torch, p, axis, base: torch.special.entr(p).sum(axis) / np.log(base), terms=lambda p: 12),
        ),
        (Trap("a probability of 0", ([1.0, 0.0],), {0: [-1.0, INF]}, value=0.0,
              no_bend="p log p has an infinite slope at 0"),),
        (
            Bench("(1024, 1000)", (probabilities(1024, 1000),),
                  {"jax": lambda p: jnp.sum(jax.scipy.special.entr(p), -1)}),
        ),
    )
)  # fmt: skip


def _torch_from_logits(torch, z, base=None):
    return torch.special.entr(torch.softmax(z, -1)).sum(-1) * per_nat(base)


def _plain_from_logits(z):
    log_p = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p, -1)


register(
    Entry(
        ops.entropy_from_logits,
        ENTROPY,
        (
            Case(lambda lead: (normal(*lead, 5),), oracle=_torch_from_logits, terms=_size),
            Case(lambda lead: (normal(*lead, 5),), {"base": 2}, "bits", _torch_from_logits, terms=_size),
        ),
        (
            Trap("12: a logit of −∞", ([1.0, 0.0, -INF],), {0: [-0.19661193, 0.19661193, 0.0]}, value=0.58220308),
            Trap("nearly sure", ([20.0, 0.0],), {0: [-4.1223072e-08, 4.1223072e-08]}, value=4.3284225e-08),
            Trap("a row of −∞", ([-INF, -INF],), {0: [0.0, 0.0]}, value=0.0),
        ),
        (Bench("(1024, 1000)", (normal(1024, 1000),), {"plain": _plain_from_logits}),),
    )
)

register(
    Entry(
        ops.cross_entropy,
        ENTROPY,
        (
            Case(_two, oracle=_torch_cross, terms=_size),
            Case(_two, {"base": 2}, "bits", _torch_cross, terms=_size),
        ),
        (
            Trap("outcomes of probability 0", ([1.0, 0.0], [1.0, 0.0]), {0: [0.0, INF], 1: [-1.0, 0.0]}, value=0.0,
                 no_bend="log q has an infinite slope at 0"),
            Trap("what q excludes", ([0.5, 0.5], [1.0, 0.0]), {0: [0.0, INF], 1: [-0.5, -INF]}, value=INF,
                 no_bend="log q has an infinite slope at 0"),
        ),
        (
            Bench("(1024, 1000)", (probabilities(1024, 1000), probabilities(1024, 1000)),
                  {"jax": lambda p, q: -jnp.sum(jax.scipy.special.xlogy(p, q), -1)}),
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.relative_entropy,
        ENTROPY,
        (
            Case(_two, oracle=_torch_kl, terms=_size),
            Case(_two, {"reduction": "none", "base": 2}, "terms, bits", _torch_kl, terms=_size),
        ),
        (
            Trap("22: terms at 0", ([0.0, 0.5, 0.0], [1.0, 0.0, 0.0]), {0: [-INF, INF, 0.0], 1: [0.0, -INF, 0.0]},
                 value=[0.0, INF, 0.0], static={"reduction": "none"}, no_bend="the slopes are infinite"),
            Trap("22: an outcome of probability 0", ([1.0, 0.0], [0.5, 0.5]), {0: [1.6931472, -INF], 1: [-2.0, 0.0]},
                 value=np.log(2), no_bend="p log p has an infinite slope at 0"),
            Trap("nearly equal", ([0.5 + 2.0**-12, 0.5 - 2.0**-12], [0.5, 0.5]),
                 {0: [1.00048816, 0.99951160], 1: [-1.00048828, -0.99951172]}, value=1.1920930e-07, rtol=1e-4),
        ),
        (
            Bench("(1024, 1000)", (probabilities(1024, 1000), probabilities(1024, 1000)),
                  {"jax": lambda p, q: jnp.sum(jax.scipy.special.rel_entr(p, q), -1)}),
        ),
    )
)  # fmt: skip
