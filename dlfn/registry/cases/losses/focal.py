"""Entries of the ops in :mod:`dlfn.ops.losses.focal`."""

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.cases.losses._shared import both, ignored_by_label, size, with_ids
from dlfn.registry.entry import Bench, Case, Entry, Trap, integers, normal, register


def _torch_softmax_focal(torch, z, labels, gamma=2.0, reduction="mean"):
    log_p = torch.log_softmax(z, -1).gather(-1, labels.long().clamp(min=0)[..., None])[..., 0]
    losses = -((1 - torch.exp(log_p)) ** gamma) * log_p * (labels >= 0)
    return losses if reduction == "none" else losses.sum() / ((labels >= 0).sum() if reduction == "mean" else 1)


def _plain_softmax_focal(z, labels, *, gamma):
    log_p = jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], -1)
    return -jnp.mean((1 - jnp.exp(log_p)) ** gamma * log_p)


register(
    Entry(
        ops.softmax_focal_loss,
        ("loss.peers",),
        (
            *both("", _torch_softmax_focal, with_ids, ignored=ignored_by_label),
            Case(with_ids, {"gamma": 0.5, "reduction": "sum"}, "gamma", _torch_softmax_focal, size,
                 ignored=ignored_by_label),
        ),
        (
            Trap("ignored label", ([[0.0, 0.0], [5.0, 0.0]], [0, -100]), {0: [[-0.2982868, 0.2982868], [0.0, 0.0]]},
                 value=0.1732868),
            Trap("a sure prediction", ([12.0, 0.0], 0), {0: [-6.9584260e-16, 6.9584260e-16]}, value=2.3194872e-16),
            Trap("far from the label", ([-300.0, 0.0], 0), {0: [-1.0, 1.0]}, value=300.0),
        ),
        (
            Bench("(1024, 1000)", (normal(1024, 1000), integers(0, 1000, 1024)), {"plain": _plain_softmax_focal},
                  static={"gamma": 2.0}),
        ),
    )
)  # fmt: skip
