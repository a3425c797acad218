import jax

from dlfn import ops
from dlfn.check.registry import Bench, Case, Entry, Trap, absent, normal, register


def _mlp(linear, activation):
    return lambda x, w1, b1, w2, b2: linear(activation(linear(x, w1, b1)), w2, b2)


def _plain(x, w, b):
    return x @ w + b


_MLP = (normal(12, 64, 128), normal(128, 512), normal(512), normal(512, 128), normal(128))


def _block(name, ours, plain):
    return Bench(name, _MLP, {"plain": _mlp(_plain, plain)}, ours=_mlp(ops.linear, ours), floor=1.5)


def _rows(x, w, *_):
    return max(x.shape[-1], w.shape[1], x.size // x.shape[-1])


def _oracle(torch, x, w, b=None):
    return torch.nn.functional.linear(x, w.T, b)


register(
    Entry(
        ops.linear,
        ("network.affine",),
        (
            Case(lambda lead: (normal(*lead, 5), normal(5, 3), normal(3)), oracle=_oracle, terms=_rows),
            Case(lambda lead: (normal(*lead, 5), normal(5, 3), absent), name="no bias", oracle=_oracle, terms=_rows),
        ),
        (
            Trap(
                "32: bfloat16 bias gradient over 16384 rows",
                ([[0.0]] * 16384, [[1.0, 1.0]], [0.0, 0.0]),
                {2: [16384.0, 16384.0]},
                dtype="bfloat16",
            ),
        ),
        (
            Bench("(1024, 256) → 256", (normal(1024, 256), normal(256, 256), normal(256)), {"plain": _plain}),
            _block("MLP 128→512→128, GELU", ops.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
            _block("MLP 128→512→128, GELU tanh", lambda x: ops.gelu(x, approximate=True), jax.nn.gelu),
            _block("MLP 128→512→128, SiLU", ops.silu, jax.nn.silu),
            Bench("(12, 64, 128) → 128", (normal(12, 64, 128), normal(128, 128), normal(128)), {"plain": _plain}),
        ),
    )
)
