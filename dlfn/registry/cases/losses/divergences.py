"""Kullback-Leibler divergence between tables of probabilities, against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

INF = np.inf


def _pair(lead):
    return normal(*lead, 5), normal(*lead, 5)


def _oracle(torch, z, target, reduction):
    log_q, log_p = torch.log_softmax(z, -1), torch.log_softmax(target, -1)
    losses = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return losses if reduction == "none" else getattr(torch, reduction)(losses)


def _plain(z, target):
    log_q, log_p = jax.nn.log_softmax(z), jax.nn.log_softmax(target)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


register(
    Entry(
        ops.kl_divergence,
        ("loss.peers",),
        tuple(
            Case(_pair, {"reduction": reduction}, reduction, _oracle, lambda z, _: z.size, empty=reduction != "mean")
            for reduction in ("mean", "sum", "none")
        ),
        (
            Trap("nearly equal", ([2.0**-12, 0.0], [0.0, 0.0]), {0: [6.1035156e-05, -6.1035156e-05]},
                 value=7.4505806e-09, rtol=2e-6),
            Trap("equal", ([3.0, 1.0, -2.0], [3.0, 1.0, -2.0]), {0: [0.0] * 3, 1: [0.0] * 3}, value=0.0),
            Trap("equal up to a constant", ([3.0, 1.0], [103.0, 101.0]), {0: [0.0] * 2, 1: [0.0] * 2}, value=0.0),
            Trap("far apart", ([200.0, 0.0], [0.0, 200.0]), {0: [1.0, -1.0], 1: [0.0, 0.0]}, value=200.0),
            Trap("−∞ in both", ([0.0, -INF], [0.0, -INF]), {0: [0.0, 0.0], 1: [0.0, 0.0]}, value=0.0),
            Trap("−∞ in the target", ([0.0, 0.0], [0.0, -INF]), {0: [-0.5, 0.5], 1: [0.0, 0.0]}, value=np.log(2)),
        ),
        (Bench("(1024, 1000)", (normal(1024, 1000), normal(1024, 1000)), {"plain": _plain}),),
    )
)  # fmt: skip
