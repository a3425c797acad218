"""Entries of the ops in :mod:`dlfn.ops.losses.binary`."""

import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.registry.cases.losses._shared import both, size
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register, uniform

INF = np.inf

register(
    Entry(
        ops.binary_cross_entropy,
        ("linear.logistic",),
        both(
            "",
            lambda torch, z, y, reduction: torch.nn.functional.binary_cross_entropy_with_logits(
                z, y, reduction=reduction
            ),
            lambda lead: (normal(*lead, 5), uniform(0.0, 1.0, *lead, 5)),
        ),
        (
            Trap("15: logit 17, y = 0", ([17.0], [0.0]), {0: [1.0]}, value=17.0),
            Trap("16: logit −50, y = 1", ([-50.0], [1.0]), {0: [-1.0]}, value=50.0),
            Trap("17: logit −90, y = 1", ([-90.0], [1.0]), {0: [-1.0]}, value=90.0),
            Trap("18: logit 0, y = ½", ([0.0], [0.5]), {0: [0.0]}, value=np.log(2)),
            Trap("tails", ([20.0, -20.0], [1.0, 0.0]), {0: [-2.0611537e-9, 2.0611537e-9]},
                 value=[2.0611537e-9, 2.0611537e-9], static={"reduction": "none"}),
            Trap("at infinity", ([INF, -INF], [1.0, 0.0]), {0: [0.0, 0.0]}, value=0.0),
        ),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), uniform(0.0, 1.0, 1024, 1024)),
                  {"optax": lambda z, y: jnp.mean(optax.sigmoid_binary_cross_entropy(z, y))}),
        ),
    )
)  # fmt: skip


def _binary(lead):
    return normal(*lead, 5), uniform(0.0, 1.0, *lead, 5)


def _signs(lead):
    return normal(*lead, 5), lambda rng: rng.choice([-1.0, 1.0], size=(*lead, 5))


def _torch_focal(torch, z, y, gamma=2.0, alpha=None, reduction="mean"):
    p = torch.sigmoid(z)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none")
    losses = losses * ((1 - y) * p + y * (1 - p)) ** gamma
    if alpha is not None:
        losses = losses * (alpha * y + (1 - alpha) * (1 - y))
    return losses if reduction == "none" else getattr(torch, reduction)(losses)


def _torch_hinge(torch, z, y, squared=False, reduction="mean"):
    losses = torch.relu(1 - y * z) ** (2 if squared else 1)
    return losses if reduction == "none" else getattr(torch, reduction)(losses)


register(
    Entry(
        ops.binary_focal_loss,
        ("loss.peers",),
        (
            *both("", _torch_focal, _binary),
            Case(_binary, {"gamma": 1.5, "alpha": 0.25, "reduction": "sum"}, "gamma, alpha", _torch_focal, size),
        ),
        (
            Trap("far from the label", ([-90.0, 90.0, -INF], [1.0, 0.0, 1.0]), {0: [-1.0, 1.0, -1.0]},
                 value=[90.0, 90.0, INF], static={"reduction": "none"}),
            Trap("at the label", ([12.0, INF], [1.0, 1.0]), {0: [-6.9584260e-16, 0.0], 1: [-5.2851165e-10, 0.0]},
                 value=[2.3194872e-16, 0.0], static={"reduction": "none"}),
        ),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), uniform(0.0, 1.0, 1024, 1024)),
                  {"optax": lambda z, y, *, gamma: jnp.mean(optax.sigmoid_focal_loss(z, y, gamma=gamma))},
                  static={"gamma": 2.0}),
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.hinge,
        ("loss.peers",),
        (
            *both("", _torch_hinge, _signs),
            Case(_signs, {"squared": True, "reduction": "sum"}, "squared", _torch_hinge, size),
        ),
        (
            Trap("slope 0 at the margin", ([1.0, 0.0, INF], [1.0, 1.0, 1.0]), {0: [0.0, -1.0, 0.0], 1: [0.0, 0.0, 0.0]},
                 value=[0.0, 1.0, 0.0], static={"reduction": "none"}),
        ),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), lambda rng: rng.choice([-1.0, 1.0], size=(1024, 1024))),
                  {"optax": lambda z, y: jnp.mean(optax.hinge_loss(z, y))}),
        ),
    )
)  # fmt: skip
