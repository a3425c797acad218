import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.check.registry import Bench, Case, Entry, Trap, integers, normal, probabilities, register, uniform

INF = np.inf


def _size(x, *_):
    return x.size


def _both(name, oracle, arguments, scalar_rows=True):
    """The cases of a loss's reductions."""
    return tuple(
        Case(arguments, {"reduction": reduction}, f"{name}{reduction}", oracle, _size, scalar_rows, reduction != "mean")
        for reduction in ("mean", "sum", "none")
    )


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
            Trap("logit 17, y = 0", ([17.0], [0.0]), {0: [1.0]}, value=17.0),
            Trap("logit −50, y = 1", ([-50.0], [1.0]), {0: [-1.0]}, value=50.0),
            Trap("logit −90, y = 1", ([-90.0], [1.0]), {0: [-1.0]}, value=90.0),
            Trap("logit 0, y = ½", ([0.0], [0.5]), {0: [0.0]}, value=np.log(2)),
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


def _with_ids(lead):
    return normal(*lead, 5), integers(0, 5, *lead)


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
            *_both("integer labels, ", _torch_cross_entropy, _with_ids),
            *_both("distributions, ", _torch_cross_entropy, _with_distributions),
        ),
        (
            Trap("ignored label", ([[1.0, 2.0], [5.0, 0.0]], [0, -100]), {0: [[-0.7310586, 0.7310586], [0.0, 0.0]]},
                 value=1.3132616),
            Trap("all ignored", ([[1.0, 2.0]], [-100]), {0: [[0.0, 0.0]]}, value=0.0),
            Trap("a sure prediction", ([20.0, 0.0], 0), {0: [-2.0611537e-9, 2.0611537e-9]}, value=2.0611537e-9),
            Trap("a sure prediction, one-hot", ([20.0, 0.0], [1.0, 0.0]), {0: [-2.0611537e-9, 2.0611537e-9]},
                 value=2.0611537e-9),
            Trap("−∞ at a class of probability 0", ([0.0, -INF], [1.0, 0.0]), {0: [0.0, 0.0]}, value=0.0),
        ),
        (
            Bench("integer labels, (1024, 1000)", (normal(1024, 1000), integers(0, 1000, 1024)), {"optax": _optax_ids}),
            Bench("distributions, (1024, 1000)", (normal(1024, 1000), probabilities(1024, 1000)),
                  {"optax": lambda z, y: jnp.mean(optax.softmax_cross_entropy(z, y))}),
        ),
    )
)  # fmt: skip
