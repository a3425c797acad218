"""Entries of the ops in :mod:`dlfn.ops.losses.cross_entropy`."""

import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.registry.cases.losses._shared import both, ignored_by_label, size, with_ids
from dlfn.registry.entry import Bench, Case, Entry, Trap, integers, normal, probabilities, register

INF = np.inf


def _with_distributions(lead):
    return normal(*lead, 5), probabilities(*lead, 5)


def _torch_cross_entropy(torch, logits, labels, **options):
    if not labels.is_floating_point():
        flat = torch.nn.functional.cross_entropy(logits.reshape(-1, 5), labels.reshape(-1).long(), **options)
        return flat.reshape(labels.shape) if options["reduction"] == "none" else flat
    flat = torch.nn.functional.cross_entropy(logits.reshape(-1, 5), labels.reshape(-1, 5), **options)
    return flat.reshape(labels.shape[:-1]) if options["reduction"] == "none" else flat


def _optax_ids(z, y):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, y))


register(
    Entry(
        ops.softmax_cross_entropy,
        ("linear.cross_entropy",),
        (
            *both("integer labels, ", _torch_cross_entropy, with_ids, ignored=ignored_by_label),
            *both("distributions, ", _torch_cross_entropy, _with_distributions),
            *(
                Case(arguments, {"label_smoothing": 0.1, "reduction": "sum"}, f"{name}, label smoothing",
                     _torch_cross_entropy, size, ignored=ignored)
                for name, arguments, ignored in (
                    ("integer labels", with_ids, ignored_by_label), ("distributions", _with_distributions, None)
                )
            ),
        ),
        (
            Trap("13: ignored label", ([[1.0, 2.0], [5.0, 0.0]], [0, -100]), {0: [[-0.7310586, 0.7310586], [0.0, 0.0]]},
                 value=1.3132616),
            Trap("all ignored", ([[1.0, 2.0]], [-100]), {0: [[0.0, 0.0]]}, value=0.0),
            Trap("14: a sure prediction", ([20.0, 0.0], 0), {0: [-2.0611537e-9, 2.0611537e-9]}, value=2.0611537e-9),
            Trap("a sure prediction, one-hot", ([20.0, 0.0], [1.0, 0.0]), {0: [-2.0611537e-9, 2.0611537e-9]},
                 value=2.0611537e-9),
            Trap("a sure prediction, label smoothing", ([0.0, -1e30], 0), {0: [0.05, -0.05]},
                 static={"label_smoothing": 0.1}),
            Trap("−∞ at a class of probability 0", ([0.0, -INF], [1.0, 0.0]), {0: [0.0, 0.0]}, value=0.0),
        ),
        (
            Bench("integer labels, (1024, 1000)", (normal(1024, 1000), integers(0, 1000, 1024)), {"optax": _optax_ids}),
            Bench("distributions, (1024, 1000)", (normal(1024, 1000), probabilities(1024, 1000)),
                  {"optax": lambda z, y: jnp.mean(optax.softmax_cross_entropy(z, y))}),
        ),
    )
)  # fmt: skip
