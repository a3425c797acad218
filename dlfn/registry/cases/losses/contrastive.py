"""InfoNCE in one direction and both, against optax and PyTorch."""

import jax.numpy as jnp
import optax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register, uniform


def _arguments(lead):
    return normal(*lead, 5, 3), normal(*lead, 5, 3), uniform(0.5, 1.5)


def _oracle(torch, queries, keys, temperature, symmetric=False, reduction="mean"):
    similarities = queries @ keys.transpose(-1, -2) / temperature
    losses = -torch.log_softmax(similarities, -1).diagonal(dim1=-2, dim2=-1)
    if symmetric:
        losses = (losses - torch.log_softmax(similarities, -2).diagonal(dim1=-2, dim2=-1)) / 2
    return losses if reduction == "none" else getattr(torch, reduction)(losses)


def _plain(queries, keys, temperature, *, symmetric):
    similarities, own = queries @ keys.T / temperature, jnp.arange(queries.shape[0])
    losses = optax.softmax_cross_entropy_with_integer_labels(similarities, own)
    if symmetric:
        losses = (losses + optax.softmax_cross_entropy_with_integer_labels(similarities.T, own)) / 2
    return jnp.mean(losses)


register(
    Entry(
        ops.info_nce,
        ("loss.peers",),
        tuple(
            Case(_arguments, {"symmetric": symmetric, "reduction": reduction}, f"{name}{reduction}", _oracle,
                 lambda q, k, t: q.size, empty=reduction != "mean")
            for symmetric, name in ((False, ""), (True, "symmetric, "))
            for reduction in ("mean", "sum", "none")
        ),
        (
            Trap("sure pairs", ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], 0.05),
                 {0: [[-2.0611537e-8, 2.0611537e-8], [2.0611537e-8, -2.0611537e-8]], 2: 8.2446147e-7},
                 value=2.0611537e-9, rtol=2e-6),
        ),
        tuple(
            Bench(f"{name}1024 pairs of 256", (normal(1024, 256), normal(1024, 256), uniform(10.0, 20.0)),
                  {"optax": _plain}, static={"symmetric": symmetric})
            for symmetric, name in ((False, ""), (True, "symmetric, "))
        ),
    )
)  # fmt: skip
