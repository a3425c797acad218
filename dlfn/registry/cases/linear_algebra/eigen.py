"""Entries of the ops in :mod:`dlfn.ops.linear_algebra.eigen`."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, register


def _apart(*shape):
    """Matrices whose symmetric part has eigenvalues that are far from each other."""
    return lambda rng: 0.2 * rng.normal(size=shape) + np.diag(np.arange(1.0, 1 + shape[-1]))


def _torch_eigh(torch, a):
    """With the signs of the eigenvectors as they are here."""
    symmetric = (a + a.mT) / 2
    eigenvalues, q = torch.linalg.eigh(symmetric)
    ours = torch.tensor(np.asarray(ops.eigh(jnp.asarray(symmetric.detach().numpy()))[1]))
    return eigenvalues, q * torch.sign((q.detach() * ours).sum(-2, keepdim=True))


def _exp(x):
    return jnp.exp(x), jnp.exp(x)


def _plain_function(a, *, function):
    eigenvalues, q = jnp.linalg.eigh(a)
    return q * function(eigenvalues)[0][..., None, :] @ jnp.swapaxes(q, -1, -2)


def _tanh(x):
    return jnp.tanh(x), 1 / jnp.cosh(x) ** 2


register(
    Entry(
        ops.eigh,
        ("linalg.eigen",),
        (Case(lambda lead: (_apart(*lead, 3, 3),), terms=lambda *_: 9, oracle=_torch_eigh),),
        (
            # For cotangents of ones the eigenvectors have some: of the identity, it is the convention's zeros.
            Trap("equal eigenvalues", ([[2.0, 0.0], [0.0, 2.0]],), {0: [[1.0, 0.0], [0.0, 1.0]]}),
        ),
        (Bench("(64, 32, 32)", (_apart(64, 32, 32),), {"plain": jnp.linalg.eigh}),),
    )
)

register(
    Entry(
        ops.matrix_function,
        ("linalg.eigen",),
        (
            Case(lambda lead: (_apart(*lead, 3, 3),), {"function": _exp}, terms=lambda *_: 9,
                 oracle=lambda torch, a, function: torch.linalg.matrix_exp((a + a.mT) / 2)),
        ),
        (
            Trap("equal eigenvalues", ([[0.0, 0.0], [0.0, 0.0]],), {0: [[1.0, 1.0], [1.0, 1.0]]},
                 value=[[1.0, 0.0], [0.0, 1.0]], static={"function": _exp},
                 no_bend="given where all eigenvalues differ, as the op says"),
            Trap("nearly equal eigenvalues", ([[0.5, 0.0], [0.0, 0.5000001]],),
                 {0: [[0.7864477, 0.7864477], [0.7864477, 0.7864476]]}, static={"function": _tanh},
                 no_bend="given where all eigenvalues differ, as the op says"),
        ),
        (
            Bench("exp, (64, 32, 32)", (_apart(64, 32, 32),), {"plain": _plain_function}, static={"function": _exp}),
        ),
    )
)  # fmt: skip
