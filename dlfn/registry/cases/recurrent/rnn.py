"""Entries of the ops in :mod:`dlfn.ops.recurrent.rnn`."""

import jax.numpy as jnp
import numpy as np

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
from dlfn.registry.entry import Case, Entry, Trap, absent, integers, normal, register, uniform

T, IN, H = 4, 3, 2


def _torch_rnn(torch, x, h0, w_x, w_h, b, activation="tanh", reverse=False):
    module = torch.nn.RNN(IN, H, nonlinearity=activation, batch_first=True, dtype=x.dtype)
    return torch_sequence(torch, module, (w_x, w_h, b, torch.zeros_like(b)), x, (h0,), reverse=reverse)


def _torch_rnn_step(torch, x, h, w_x, w_h, b, activation="tanh"):
    return getattr(torch, activation)(x @ w_x + h @ w_h + b)


# Benchmarks: the best plain JAX, a scan over time with the input's projection hoisted, and Flax.

BATCH, STEPS, WIDE = 8, 128, 128


def _plain_rnn(x, h0, w_x, w_h, b):
    def step(state, a):
        h = jnp.tanh(a + state[0] @ w_h)
        return (h,), h

    return scanned(step)(x, (h0,), w_x, b)


def _flax_rnn(h0, w_x, w_h, b):
    return h0, {"i": {"kernel": w_x, "bias": b}, "h": {"kernel": w_h}}


def _rnn(lead):
    return normal(*lead, T, IN), normal(*lead, H), *matrices(1)


register(
    Entry(
        ops.rnn_step,
        ("rnn.vanilla",),
        tuple(
            Case(lambda lead, bias=bias: (normal(*lead, IN), normal(*lead, H), *matrices(1)[:2], bias),
                 {"activation": activation}, activation, _torch_rnn_step, lambda x, *_: max(IN + H, rows_of(x)))
            for activation, bias in (("tanh", normal(H)), ("relu", uniform(1.0, 2.0, H)))
        ),
        benches=(step_bench(1, 1, lambda x, h, w_x, w_h, b: jnp.tanh(x @ w_x + h @ w_h + b)),),
    )
)  # fmt: skip
_SLOPE = 2 * (1 - np.tanh(1) ** 2)
register(
    Entry(
        ops.rnn,
        ("rnn.vanilla", "rnn.peers"),
        (
            Case(_rnn, oracle=_torch_rnn, terms=rows_of),
            Case(_rnn, {"activation": "relu", "reverse": True}, "relu, reverse", _torch_rnn, terms=rows_of),
            Case(lambda lead: (normal(*lead, T, IN), absent, *matrices(1)[:2], absent, integers(0, T + 1, *lead)),
                 {"reverse": True}, "zero state, no bias, lengths, reverse", terms=rows_of, ignored=padding(1)),
        ),
        (
            Trap("padding is never read", ([[1.0], [np.nan]], [0.0], [[1.0]], [[1.0]], [0.0], 1),
                 {0: [[_SLOPE], [0.0]], 1: [_SLOPE], 2: [[_SLOPE]], 3: [[0.0]], 4: [_SLOPE]},
                 value=[np.tanh(1), 0.0, np.tanh(1)]),
            Trap("a sequence of length 0 keeps its state", ([[1.0]], [0.5], [[1.0]], [[1.0]], [0.0], 0),
                 {0: [[0.0]], 1: [1.0], 3: [[0.0]]}, value=[0.0, 0.5]),
        ),
        (row("T=128 B=8 H=128", _plain_rnn, "SimpleCell", _flax_rnn, 1.6, bench_arguments(1)),),
    )
)  # fmt: skip
