"""Entries of the ops in :mod:`dlfn.ops.normalisation.layer_norm`."""

import jax
import jax.numpy as jnp
from jax import lax

from dlfn import ops
from dlfn.registry.cases.normalisation._shared import evenly, of_flax, size
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register


def _plain_layer(x, scale, bias):
    mean = jnp.mean(x, -1, keepdims=True)
    return (x - mean) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5) * scale + bias


def _plain_rms(x, scale):
    return x * (lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)) * scale


def _equinox_layer(name):
    def make():
        import equinox  # pyright: ignore[reportMissingImports]

        def call(x, *params):
            layer = getattr(equinox.nn, name)(x.shape[-1], use_bias=len(params) > 1)
            layer = equinox.tree_at(lambda m: (m.weight, m.bias)[: len(params)], layer, params)
            return jax.vmap(layer)(x)

        return call

    return make


def _rows(x, *_):
    return max(x.shape[-1], x.size // x.shape[-1])


def _layer_oracle(torch, x, scale=None, bias=None, *, axes=1):
    return torch.nn.functional.layer_norm(x, x.shape[-axes:], scale, bias)


def _rms_oracle(torch, x, scale, eps):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], scale, eps)


# Constant rows of cotangent (1, 2, 3), and a row far from 0, calculated in float64.
_CONSTANT = [[-316.22776602, 0.0, 316.22776602]]
_FAR = [[3000.0, 3001.0, 3003.0, 3002.0]]

register(
    Entry(
        ops.layer_norm,
        ("norm.layer",),
        (
            Case(lambda lead: (evenly(*lead, 5), normal(5), normal(5)), oracle=_layer_oracle, terms=_rows),
            Case(lambda lead: (evenly(*lead, 5), absent, absent), name="no parameters", oracle=_layer_oracle,
                 terms=_rows),
            Case(lambda lead: (evenly(*lead, 3, 5), normal(3, 5), normal(3, 5)), {"axes": 2}, "two axes",
                 _layer_oracle, size),
            Case(lambda lead: (evenly(*lead, 256), normal(256), normal(256)), name="long rows",
                 oracle=_layer_oracle, terms=_rows),
        ),
        (
            Trap("a constant row", ([[0.1, 0.1, 0.1]], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
                 {0: _CONSTANT, 1: [0.0, 0.0, 0.0], 2: [1.0, 1.0, 1.0]}, value=[[1.0, 2.0, 3.0]]),
            Trap("a row of zeros, eps = 0", ([[0.0, 0.0]], [1.0, 2.0], [3.0, 4.0]),
                 {0: [[0.0, 0.0]], 1: [0.0, 0.0]}, value=[[3.0, 4.0]], static={"eps": 0.0}),
            Trap("a row far from 0", (_FAR, [1.0, 2.0, 4.0, 9.0], [0.0] * 4),
                 {0: [[-0.53667134, -1.07331406, -2.14659950, 3.75658490]],
                  1: [-1.34163542, -0.44721181, 1.34163542, 0.44721181]},
                 value=[[-1.34163542, -0.89442361, 5.36654168, 4.02490626]]),
            Trap("bfloat16 gradients over 16384 rows", ([[1.0, -1.0]] * 16384, [1.0, 1.0], [0.0, 0.0]),
                 {1: [16384.0, -16384.0], 2: [16384.0, 16384.0]}, dtype="bfloat16"),
        ),
        tuple(
            Bench(str(shape), (normal(*shape), normal(shape[-1]), normal(shape[-1])), {"plain": _plain_layer},
                  memory=1.05, peers={**of_flax("LayerNorm", epsilon=1e-5),
                                      **({"equinox": _equinox_layer("LayerNorm")} if len(shape) == 2 else {})})
            for shape in ((1024, 1024), (8, 256, 256))
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip

register(
    Entry(
        ops.rms_norm,
        ("norm.peers",),
        (
            Case(lambda lead: (evenly(*lead, 5), normal(5)), {"eps": 1e-6}, terms=_rows,
                 oracle=_rms_oracle),
            Case(lambda lead: (evenly(*lead, 256), normal(256)), {"eps": 1e-6}, "long rows", _rms_oracle, _rows),
            Case(lambda lead: (evenly(*lead, 5), absent), {"eps": 1e-2}, "no scale", terms=_rows,
                 oracle=lambda torch, x, eps: torch.nn.functional.rms_norm(x, (5,), None, eps)),
        ),
        (
            Trap("a row of zeros", ([[0.0, 0.0]], [1.0, 2.0]), {0: [[1000.0, 2000.0]], 1: [0.0, 0.0]},
                 value=[[0.0, 0.0]]),
            Trap("a row of zeros, eps = 0", ([[0.0, 0.0]], [1.0, 2.0]), {0: [[0.0, 0.0]], 1: [0.0, 0.0]},
                 value=[[0.0, 0.0]], static={"eps": 0.0}),
            Trap("bfloat16 gradient over 16384 rows", ([[1.0, 1.0]] * 16384, [1.0, 1.0]), {1: [16384.0, 16384.0]},
                 dtype="bfloat16"),
        ),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), normal(1024)), {"plain": _plain_rms}, memory=1.05,
                  peers={**of_flax("RMSNorm", epsilon=1e-6), "equinox": _equinox_layer("RMSNorm")}),
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip
