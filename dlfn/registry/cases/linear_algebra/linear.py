"""The linear map, alone and in a network of two with an activation between them."""

import jax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register


def _mlp(linear, activation):
    return lambda x, w1, w2: linear(activation(linear(x, w1)), w2)


def _mlp_with_biases(linear, activation):
    return lambda x, w1, b1, w2, b2: linear(activation(linear(x, w1, b1)), w2, b2)


def _plain(x, w, b=None):
    return x @ w if b is None else x @ w + b


_X, _W1, _W2 = normal(12, 64, 128), normal(128, 512), normal(512, 128)
_ACTIVATIONS = (
    ("GELU", ops.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
    ("GELU tanh", lambda x: ops.gelu(x, approximate=True), jax.nn.gelu),
    ("SiLU", ops.silu, jax.nn.silu),
)
# The block 128 → 512 → 128. Without biases XLA's CPU code for three-dimensional operands fused with the activation is
# slow; with them it is not, and flattening wins little.
_BLOCKS = tuple(
    bench
    for name, ours, plain in _ACTIVATIONS
    for bench in (
        Bench(f"MLP {name}", (_X, _W1, _W2), {"plain": _mlp(_plain, plain)}, _mlp(ops.linear, ours), floor=1.5),
        Bench(
            f"MLP {name}, biases",
            (_X, _W1, normal(512), _W2, normal(128)),
            {"plain": _mlp_with_biases(_plain, plain)},
            _mlp_with_biases(ops.linear, ours),
        ),
    )
)


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
            *_BLOCKS,
            Bench("(12, 64, 128) → 128", (normal(12, 64, 128), normal(128, 128), normal(128)), {"plain": _plain}),
        ),
    )
)
