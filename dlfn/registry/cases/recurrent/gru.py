"""Entries of the ops in :mod:`dlfn.ops.recurrent.gru`."""

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.cases.recurrent._shared import (
    bench_arguments,
    matrices,
    padding,
    row,
    rows_of,
    scanned,
    step_bench,
    torch_sequence,
)
from dlfn.registry.entry import Case, Entry, absent, integers, normal, register

T, IN, H = 4, 3, 2


def _torch_gru(torch, x, h0, w_x, w_h, b, b_h=None, lengths=None, reset_after=False, reverse=False):
    if reset_after:
        module = torch.nn.GRU(IN, H, batch_first=True, dtype=x.dtype)
        # The order r, z, n, and the z of which is the complement.
        theirs = [torch.cat([w[..., H : 2 * H], -w[..., :H], w[..., 2 * H :]], -1) for w in (w_x, w_h, b)]
        bias = torch.cat([torch.zeros(2 * H, dtype=x.dtype), b_h])
        return torch_sequence(torch, module, (*theirs, bias), x, (h0,), lengths, reverse)
    hs, h = [], h0
    u_z, u_r, u_n = w_h.split(H, 1)
    for t in range(x.shape[1]):
        a_z, a_r, a_n = (x[:, t] @ w_x + b).split(H, 1)
        z, r = torch.sigmoid(a_z + h @ u_z), torch.sigmoid(a_r + h @ u_r)
        h = (1 - z) * h + z * torch.tanh(a_n + (r * h) @ u_n)
        hs.append(h)
    return torch.stack(hs, 1), h


def _torch_gru_step(torch, x, h, *weights, **static):
    return _torch_gru(torch, x[:, None], h, *weights, **static)[1]


# Benchmarks: the best plain JAX, a scan over time with the input's projection hoisted, and Flax.

BATCH, STEPS, WIDE = 8, 128, 128


def _plain_gru(x, h0, w_x, w_h, b, b_h=None, *, reset_after=False):
    u_zr, u_n = w_h[:, : 2 * WIDE], w_h[:, 2 * WIDE :]

    def step(state, a):
        (h,) = state
        p = h @ w_h if reset_after else h @ u_zr
        z, r = jnp.split(jax.nn.sigmoid(a[..., : 2 * WIDE] + p[..., : 2 * WIDE]), 2, axis=-1)
        u = r * (p[..., 2 * WIDE :] + b_h) if reset_after else (r * h) @ u_n
        h = (1 - z) * h + z * jnp.tanh(a[..., 2 * WIDE :] + u)
        return (h,), h

    return scanned(step)(x, (h0,), w_x, b)


def _plain_gru_step(x, h, w_x, w_h, b):
    a, at = x @ w_x + b, 2 * h.shape[-1]
    z, r = jnp.split(jax.nn.sigmoid(a[:, :at] + h @ w_h[:, :at]), 2, axis=-1)
    return (1 - z) * h + z * jnp.tanh(a[:, at:] + (r * h) @ w_h[:, at:])


def _flax_gru(h0, w_x, w_h, b, b_h=None):
    blocks = zip("zrn", *(jnp.split(w, 3, axis=-1) for w in (w_x, w_h, b)))
    parameters = {}
    for gate, i, h, bias in blocks:
        parameters |= {f"i{gate}": {"kernel": i, "bias": bias}, f"h{gate}": {"kernel": h}}
    parameters["hn"]["bias"] = jnp.zeros(WIDE) if b_h is None else b_h
    return h0, parameters


_AFTER = {"reset_after": True}
register(
    Entry(
        ops.gru_step,
        ("rnn.gru",),
        tuple(
            Case(lambda lead, more=more: (normal(*lead, IN), normal(*lead, H), *matrices(3), *more), static, name,
                 _torch_gru_step, lambda x, *_: max(IN + H, rows_of(x)))
            for name, static, more in (("default", {}, ()), ("reset after", _AFTER, (normal(H),)))
        ),
        benches=(step_bench(3, 1, _plain_gru_step),),
    )
)  # fmt: skip


def _gru(lead, *more):
    return normal(*lead, T, IN), normal(*lead, H), *matrices(3), *more


register(
    Entry(
        ops.gru,
        ("rnn.gru", "rnn.peers"),
        (
            Case(lambda lead: _gru(lead, normal(H), integers(1, T + 1, *lead)), _AFTER, "reset after, lengths",
                 _torch_gru, rows_of, ignored=padding(1)),
            Case(_gru, oracle=_torch_gru, terms=rows_of),
            Case(lambda lead: (normal(*lead, T, IN), absent, *matrices(3)[:2], absent, absent,
                               integers(0, T + 1, *lead)),
                 {"reverse": True}, "zero state, no bias, lengths, reverse", terms=rows_of, ignored=padding(1)),
            Case(lambda lead: _gru(lead, absent), {"reverse": True, **_AFTER}, "reset after, reverse", terms=rows_of),
        ),
        benches=(
            row("T=128 B=8 H=128", _plain_gru, "GRUCell", _flax_gru, 1.4, bench_arguments(3)),
            row("reset after, T=128 B=8 H=128", _plain_gru, "GRUCell", _flax_gru, 1.4,
                   bench_arguments(3, normal(WIDE)), _AFTER),
        ),
    )
)  # fmt: skip
