"""Entries of the ops in :mod:`dlfn.ops.losses.linear_cross_entropy`."""

import jax.numpy as jnp
import optax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, class_ids, integers, normal, register


def _terms(x, w, *_):
    return max(x.size // x.shape[-1], *w.shape)


def _oracle(torch, x, w, labels, b=None, classes_first=False, chunk=None, **options):
    z = torch.nn.functional.linear(x, w if classes_first else w.T, b)
    losses = torch.nn.functional.cross_entropy(z.reshape(-1, 7), labels.reshape(-1).long(), **options)
    return losses.reshape(labels.shape) if losses.ndim else losses


def _head(lead):
    return normal(*lead, 5), normal(5, 7), class_ids(7, *lead), absent


def _tied(lead):
    return normal(*lead, 5), normal(7, 5), class_ids(7, *lead), normal(7)


def _ignored(x, w, labels, b=None, *, reduction, **_):
    rows = labels == -100
    return (rows[..., None], None, None, None), (rows if reduction == "none" else None,)


_CASES = (
    ("mean", _head, {"reduction": "mean"}),
    ("sum", _head, {"reduction": "sum"}),
    ("none", _head, {"reduction": "none"}),
    ("chunks of 2, bias, classes first", _tied, {"classes_first": True, "chunk": 2, "reduction": "sum"}),
    ("chunks of 2, bias, classes first, smoothing, none", _tied,
     {"classes_first": True, "chunk": 2, "reduction": "none", "label_smoothing": 0.1}),
)  # fmt: skip


def _plain(x, w, labels, _=None):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x @ w, labels))


def _plain_tied(x, w, labels, _=None, *, classes_first):
    return _plain(x, w.T, labels)


register(
    Entry(
        ops.linear_cross_entropy,
        ("linear.cross_entropy", "transformer.embedding"),
        tuple(
            Case(arguments, static, name, _oracle, _terms, empty=static["reduction"] != "mean", ignored=_ignored)
            for name, arguments, static in _CASES
        ),
        (
            Trap("ignored label", ([[1.0], [5.0]], [[1.0, 2.0]], [0, -100]),
                 {0: [[0.7310586], [0.0]], 1: [[-0.7310586, 0.7310586]]}, value=1.3132616),
            Trap("all ignored", ([[1.0]], [[1.0, 2.0]], [-100]), {0: [[0.0]], 1: [[0.0, 0.0]]}, value=0.0),
            Trap("a sure prediction", ([1.0], [[20.0, 0.0]], 0), {1: [[-2.0611537e-9, 2.0611537e-9]]},
                 value=2.0611537e-9),
        ),
        (
            Bench("1024 × 256 → 32,000", (normal(1024, 256), normal(256, 32000), integers(0, 32000, 1024), absent),
                  {"optax": _plain}, floor=1.05, memory=1 / 6),
            Bench("tied, 1024 × 256 → 50,257",
                  (normal(1024, 256), normal(50257, 256), integers(0, 50257, 1024), absent), {"optax": _plain_tied},
                  static={"classes_first": True}, floor=1.05, memory=1 / 6),
        ),
    )
)  # fmt: skip
