"""Products, solving, inverses and eigenvalues, of equal eigenvalues too, against PyTorch."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register


def _regular(*shape):
    """Well-conditioned square matrices."""
    return lambda rng: rng.normal(size=shape) + 4 * np.eye(shape[-1])


def _apart(*shape):
    """Matrices whose symmetric part has eigenvalues that are far from each other."""
    return lambda rng: 0.2 * rng.normal(size=shape) + np.diag(np.arange(1.0, 1 + shape[-1]))


register(
    Entry(
        ops.matmul,
        ("linalg.products",),
        (
            Case(lambda lead: (normal(*lead, 2, 5), normal(*lead, 5, 3)),
                 oracle=lambda torch, a, b: a @ b, terms=lambda *_: 5),
            Case(lambda lead: (normal(*lead, 2, 5), normal(5, 3)), name="one matrix",
                 oracle=lambda torch, a, b: a @ b, terms=lambda a, _: 2 * a.size),
            Case(lambda lead: (normal(*lead, 1, 2, 5), normal(4, 5, 3)), name="broadcast",
                 oracle=lambda torch, a, b: a @ b, terms=lambda a, _: 4 * a.size),
            Case(lambda lead: (normal(*lead, 2, 5), normal(5)), name="matrix and vector",
                 oracle=lambda torch, a, b: a @ b, terms=lambda a, _: 2 * a.size),
        ),
        (
            Trap("bfloat16 gradient of a matrix that is shared by 4096", ([[[1.0]]] * 4096, [[1.0]]), {1: [[4096.0]]},
                 dtype="bfloat16"),
        ),
        (
            Bench("(16, 256, 256) (16, 256, 256)", (normal(16, 256, 256), normal(16, 256, 256)),
                  {"plain": jnp.matmul}),
            Bench("(64, 16, 128) (128, 128)", (normal(64, 16, 128), normal(128, 128)), {"plain": jnp.matmul}),
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.dot,
        ("linalg.products",),
        (
            Case(lambda lead: (normal(*lead, 5), normal(*lead, 5)), terms=lambda *_: 5,
                 oracle=lambda torch, a, b: (a * b).sum(-1)),
            Case(lambda lead: (normal(*lead, 5), normal(5)), name="one vector", terms=lambda a, _: a.size,
                 oracle=lambda torch, a, b: a @ b),
        ),
        (Trap("bfloat16 sums", ([1.0] * 4096, [1.0] * 4096), {0: [1.0] * 4096}, value=4096.0, dtype="bfloat16"),),
        (Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)), {"plain": jnp.vecdot}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.inverse,
        ("linalg.products",),
        (
            Case(lambda lead: (_regular(*lead, 3, 3),), terms=lambda *_: 9,
                 oracle=lambda torch, a: torch.linalg.inv(a)),
        ),
        (Trap("badly scaled", ([[1e20, 0.0], [0.0, 1e-10]],), {0: [[-1e-40, -1e-10], [-1e-10, -1e20]]},
              value=[[1e-20, 0.0], [0.0, 1e10]]),),
        (Bench("(64, 32, 32)", (_regular(64, 32, 32),), {"plain": jnp.linalg.inv}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.solve,
        ("linalg.products",),
        (
            Case(lambda lead: (_regular(*lead, 3, 3), normal(*lead, 3, 2)), terms=lambda *_: 9,
                 oracle=lambda torch, a, b: torch.linalg.solve(a, b)),
            Case(lambda lead: (_regular(*lead, 3, 3), normal(3)), name="one vector", terms=lambda a, _: a.size,
                 oracle=lambda torch, a, b: torch.linalg.solve(a, b[:, None])[..., 0]),
            Case(lambda lead: (_regular(3, 3), normal(*lead, 3, 2)), name="one matrix", terms=lambda a, b: 2 * b.size,
                 oracle=lambda torch, a, b: torch.linalg.solve(a, b)),
        ),
        (Trap("badly scaled", ([[1e20, 0.0], [0.0, 1e-10]], [1e20, 1.0]), {1: [1e-20, 1e10]}, value=[1.0, 1e10]),),
        (Bench("(64, 32, 32) (64, 32, 8)", (_regular(64, 32, 32), normal(64, 32, 8)), {"plain": jnp.linalg.solve}),),
    )
)  # fmt: skip


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
