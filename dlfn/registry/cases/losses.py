"""Losses of regression and classification, against PyTorch; optax is timed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, class_ids, integers, normal, probabilities, register, uniform

INF = np.inf


def _size(x, *_):
    return x.size


def _both(name, oracle, arguments, scalar_rows=True, ignored=None):
    """The cases of a loss's reductions."""
    return tuple(
        Case(
            arguments, {"reduction": reduction}, f"{name}{reduction}", oracle, _size, scalar_rows, reduction != "mean",
            ignored=ignored,
        )
        for reduction in ("mean", "sum", "none")
    )  # fmt: skip


def _pair(lead):
    return normal(*lead, 5), normal(*lead, 5)


register(
    Entry(
        ops.mse,
        ("loss.mse", "linear.regression"),
        (
            *_both("", lambda torch, a, b, reduction: torch.nn.functional.mse_loss(a, b, reduction=reduction), _pair),
            Case(_pair, {"half": True}, "half", lambda torch, a, b, half: torch.mean((a - b) ** 2) / 2, _size,
                 empty=False),
        ),
        (Trap("the sign of the gradient", ([3.0, 1.0], [1.0, 1.0]), {0: [2.0, 0.0], 1: [-2.0, 0.0]}, value=2.0),),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)),
                  {"plain": lambda a, b: jnp.mean((a - b) ** 2)}),
        ),
    )
)  # fmt: skip

_OTHERS = (
    (ops.mae, {}, lambda torch, a, b, reduction: torch.nn.functional.l1_loss(a, b, reduction=reduction),
     lambda a, b: jnp.mean(jnp.abs(a - b)), "plain",
     Trap("slope 0 at 0", ([1.0, 3.0], [1.0, 1.0]), {0: [0.0, 0.5], 1: [0.0, -0.5]}, value=1.0)),
    (ops.huber, {"delta": 0.5},
     lambda torch, a, b, reduction, delta: torch.nn.functional.huber_loss(a, b, reduction=reduction, delta=delta),
     lambda a, b, *, delta: jnp.mean(optax.huber_loss(a, b, delta=delta)), "optax",
     Trap("at infinity", ([INF, -INF, 1e30], [0.0, 0.0, 0.0]), {0: [1.0, -1.0, 1.0]}, value=[INF, INF, 1e30],
          static={"reduction": "none"})),
    (ops.log_cosh, {},
     lambda torch, a, b, reduction: {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](
         torch.log(torch.cosh(a - b))
     ),
     lambda a, b: jnp.mean(optax.log_cosh(a, b)), "optax",
     Trap("small and large", ([1e-4, 1000.0, -INF], [0.0, 0.0, 0.0]), {0: [1e-4, 1.0, -1.0]},
          value=[5e-9, 999.3068528, INF], static={"reduction": "none"})),
)  # fmt: skip

for op, static, oracle, baseline, name, trap in _OTHERS:
    cases = tuple(dataclasses.replace(case, static={**case.static, **static}) for case in _both("", oracle, _pair))
    bench = Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)), {name: baseline}, static=static)
    register(Entry(op, ("loss.peers",), cases, (trap,), (bench,)))

register(
    Entry(
        ops.binary_cross_entropy,
        ("linear.logistic",),
        _both(
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
            *_both("", _torch_focal, _binary),
            Case(_binary, {"gamma": 1.5, "alpha": 0.25, "reduction": "sum"}, "gamma, alpha", _torch_focal, _size),
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
            *_both("", _torch_hinge, _signs),
            Case(_signs, {"squared": True, "reduction": "sum"}, "squared", _torch_hinge, _size),
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


def _with_ids(lead):
    return normal(*lead, 5), class_ids(5, *lead)


def _ignored(logits, labels, *, reduction, **_):
    rows = labels == -100
    return (rows[..., None], None), (rows if reduction == "none" else None,)


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
            *_both("integer labels, ", _torch_cross_entropy, _with_ids, ignored=_ignored),
            *_both("distributions, ", _torch_cross_entropy, _with_distributions),
            *(
                Case(arguments, {"label_smoothing": 0.1, "reduction": "sum"}, f"{name}, label smoothing",
                     _torch_cross_entropy, _size, ignored=ignored)
                for name, arguments, ignored in (
                    ("integer labels", _with_ids, _ignored), ("distributions", _with_distributions, None)
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
            *_both("", _torch_softmax_focal, _with_ids, ignored=_ignored),
            Case(_with_ids, {"gamma": 0.5, "reduction": "sum"}, "gamma", _torch_softmax_focal, _size,
                 ignored=_ignored),
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
