"""CTC loss, against PyTorch; optax is timed."""

import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, integers, normal, register

INF, NAN = np.inf, np.nan


def _arguments(lead):
    # Three labels, two repetitions among them at most, need five frames.
    return normal(*lead, 7, 4), integers(5, 8, *lead), integers(1, 4, *lead, 3), integers(0, 4, *lead)


def _ignored(logits, logit_lengths, labels, label_lengths, **_):
    frames = jnp.arange(logits.shape[-2]) >= logit_lengths[..., None]
    return (frames[..., None], None, jnp.arange(labels.shape[-1]) >= label_lengths[..., None], None), (None,)


def _oracle(torch, logits, logit_lengths, labels, label_lengths, reduction="sum", blank=0):
    log_p = torch.log_softmax(logits, -1).reshape(-1, 7, 4).transpose(0, 1)
    losses = torch.nn.functional.ctc_loss(
        log_p, labels.reshape(-1, 3).long(), logit_lengths.reshape(-1).long(), label_lengths.reshape(-1).long(),
        blank=blank, reduction="none",
    ).reshape(label_lengths.shape)  # fmt: skip
    return losses if reduction == "none" else getattr(torch, reduction)(losses)


def _optax(logits, logit_lengths, labels, label_lengths):
    frames = (jnp.arange(logits.shape[1]) >= logit_lengths[:, None]).astype(logits.dtype)
    slots = (jnp.arange(labels.shape[1]) >= label_lengths[:, None]).astype(logits.dtype)
    return jnp.mean(optax.ctc_loss(logits, frames, labels, slots))


register(
    Entry(
        ops.ctc_loss,
        ("loss.peers",),
        tuple(
            Case(_arguments, {"reduction": reduction}, reduction, _oracle, lambda z, *_: z.size,
                 empty=reduction != "mean", ignored=_ignored)
            for reduction in ("sum", "mean", "none")
        ),
        (
            Trap("too few frames", ([[1.0, 2.0], [0.0, 0.0]], 2, [1, 1], 2), {0: [[0.0, 0.0], [0.0, 0.0]]}, value=INF),
            Trap("no labels", ([[0.0, 0.0], [0.0, 0.0]], 1, [1], 0), {0: [[-0.5, 0.5], [0.0, 0.0]]}, value=np.log(2)),
            Trap("a sure prediction", ([[0.0, 20.0], [20.0, 0.0]], 2, [1], 1),
                 {0: [[2.0611537e-9, -2.0611537e-9], [0.0, 0.0]]}, rtol=1e-5),
            Trap("−∞ at a class of no label", ([[0.0, 0.0, -INF]], 1, [1], 1), {0: [[0.5, -0.5, 0.0]]},
                 value=np.log(2)),
            # Each of the two frames beside it has the label or a blank: two classes of three.
            Trap("+∞ at the label", ([[0.0, 0.0, 0.0], [0.0, INF, 0.0], [0.0, 0.0, 0.0]], 3, [1], 1),
                 {0: [[-1 / 6, -1 / 6, 1 / 3], [0.0, 0.0, 0.0], [-1 / 6, -1 / 6, 1 / 3]]}, value=-np.log(4 / 9)),
            Trap("a label out of range", ([[0.0, 0.0]], 1, [2], 1), {0: [[NAN, NAN]]}, value=NAN),
        ),
        (
            Bench("16 × 256 frames of 64, 32 labels",
                  (normal(16, 256, 64), integers(200, 257, 16), integers(1, 64, 16, 32), integers(20, 33, 16)),
                  {"optax": _optax}, memory=1.05),
            Bench("8 × 512 frames of 1000, 64 labels",
                  (normal(8, 512, 1000), integers(400, 513, 8), integers(1, 1000, 8, 64), integers(40, 65, 8)),
                  {"optax": _optax}, memory=1.05),
        ),
    )
)  # fmt: skip
