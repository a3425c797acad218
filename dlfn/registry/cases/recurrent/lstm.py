"""Entries of the ops in :mod:`dlfn.ops.recurrent.lstm`."""

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


def _torch_lstm(torch, x, h0, c0, w_x, w_h, b, lengths=None, reverse=False):
    module = torch.nn.LSTM(IN, H, batch_first=True, dtype=x.dtype)
    return torch_sequence(torch, module, (w_x, w_h, b, torch.zeros_like(b)), x, (h0, c0), lengths, reverse)


def _torch_lstm_step(torch, x, h, c, w_x, w_h, b):
    return _torch_lstm(torch, x[:, None], h, c, w_x, w_h, b)[1:]


# Benchmarks: the best plain JAX, a scan over time with the input's projection hoisted, and Flax.

BATCH, STEPS, WIDE = 8, 128, 128


def _plain_lstm(x, h0, c0, w_x, w_h, b):
    def step(state, a):
        h, c = state
        i, f, g, o = jnp.split(a + h @ w_h, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return scanned(step)(x, (h0, c0), w_x, b)


def _flax_lstm(h0, c0, w_x, w_h, b):
    blocks = zip("ifgo", *(jnp.split(w, 4, axis=-1) for w in (w_x, w_h, b)))
    parameters = {}
    for gate, i, h, bias in blocks:
        parameters |= {f"i{gate}": {"kernel": i}, f"h{gate}": {"kernel": h, "bias": bias}}
    return (c0, h0), parameters


register(
    Entry(
        ops.lstm_step,
        ("rnn.lstm",),
        (
            Case(lambda lead: (normal(*lead, IN), normal(*lead, H), normal(*lead, H), *matrices(4)),
                 oracle=_torch_lstm_step, terms=lambda x, *_: max(IN + H, rows_of(x))),
        ),
        benches=(step_bench(4, 2, lambda x, *args: _plain_lstm(x[:, None], *args)[1:]),),
    )
)  # fmt: skip


def _lstm(lead, *lengths):
    return normal(*lead, T, IN), normal(*lead, H), normal(*lead, H), *matrices(4), *lengths


register(
    Entry(
        ops.lstm,
        ("rnn.lstm", "rnn.peers"),
        (
            Case(lambda lead: _lstm(lead, integers(1, T + 1, *lead)), name="lengths", oracle=_torch_lstm, terms=rows_of,
                 ignored=padding(2)),
            Case(_lstm, {"reverse": True}, "reverse", _torch_lstm, rows_of),
            Case(lambda lead: (normal(*lead, T, IN), absent, normal(*lead, H), *matrices(4)[:2], absent,
                               integers(0, T + 1, *lead)),
                 {"reverse": True}, "zero h0, no bias, lengths, reverse", terms=rows_of, ignored=padding(2)),
        ),
        benches=(
            row("T=128 B=8 H=128", _plain_lstm, "OptimizedLSTMCell", _flax_lstm, 1.5, bench_arguments(4, states=2)),
        ),
    )
)  # fmt: skip
