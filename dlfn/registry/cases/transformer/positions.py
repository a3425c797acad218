"""Rotary position embedding, in both layouts of its pairs."""

import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, absent, integers, normal, register

_DIM = 6


def _torch_rope(torch, x, positions=None, *, interleaved=False, base=10000.0, frequencies=None, scale=1.0):
    """By complex multiplication."""
    time, dim = x.shape[-3], 2 * len(frequencies) if frequencies else _DIM
    p = torch.arange(time) if positions is None else positions
    by_base = base ** (-torch.arange(0, _DIM, 2, dtype=torch.float64) / _DIM)
    angles = p[..., None, None] * (torch.tensor(frequencies, dtype=torch.float64) if frequencies else by_base)
    turn = torch.polar(torch.full_like(angles, scale), angles)
    x, others = x[..., :dim], x[..., dim:]
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : dim // 2], x[..., dim // 2 :])
    turned = torch.complex(a, b) * turn
    if interleaved:
        return torch.cat([torch.view_as_real(turned).flatten(-2), others], -1)
    return torch.cat([turned.real, turned.imag, others], -1)


def _plain(x, _):
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[-3])[:, None, None] * 10000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


register(
    Entry(
        ops.rope,
        ("transformer.positions",),
        (
            Case(lambda lead: (normal(*lead, 4, 2, _DIM), absent), name="positions in order", oracle=_torch_rope),
            Case(lambda lead: (normal(*lead, 4, 2, _DIM), integers(0, 20, *lead, 4)), name="positions of each",
                 oracle=_torch_rope),
            Case(lambda lead: (normal(*lead, 4, 2, _DIM), integers(0, 20, 4)),
                 {"interleaved": True, "base": 100.0}, "interleaved", _torch_rope),
            Case(lambda lead: (normal(*lead, 4, 2, _DIM), integers(0, 20, *lead, 4)),
                 {"frequencies": (1.0, 0.03), "scale": 1.3}, "frequencies of some", _torch_rope),
        ),
        benches=(Bench("(4, 512, 8, 64)", (normal(4, 512, 8, 64), absent), {"plain": _plain}),),
    )
)  # fmt: skip
