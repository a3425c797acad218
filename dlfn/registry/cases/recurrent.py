"""RNN, LSTM and GRU, steps and sequences, against PyTorch; Flax and hoisted scans are timed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, integers, normal, register, uniform

T, IN, H = 4, 3, 2


def _rows(x, *_):
    return x.size // x.shape[-1]


def _weights(gates):
    return normal(IN, gates * H), normal(H, gates * H), normal(gates * H)


def _padding(states):
    """Of the ops whose last argument is the lengths, and whose first output is that of all steps."""

    def ignored(x, *args, **_):
        steps = (jnp.arange(T) >= args[-1][..., None])[..., None]
        return (steps, *[None] * len(args)), (steps, *[None] * states)

    return ignored


# Oracles: PyTorch's modules with our weights. Padding goes through its packed sequences, reversal through flips.


def _torch_sequence(torch, module, weights, x, state, lengths=None, reverse=False):
    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
    parameters = {name: w.T if w.ndim == 2 else w for name, w in zip(names, weights)}
    state = tuple(s[None] for s in state)
    state = state if len(state) == 2 else state[0]
    given = x.flip(1) if reverse else x
    if lengths is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        given = pack(given, lengths.long(), batch_first=True, enforce_sorted=False)
    hs, last = torch.func.functional_call(module, parameters, (given, state))
    if lengths is not None:
        hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, batch_first=True, total_length=T)
    last = last if isinstance(last, tuple) else (last,)
    return (hs.flip(1) if reverse else hs, *(s[0] for s in last))


def _torch_rnn(torch, x, h0, w_x, w_h, b, activation="tanh", reverse=False):
    module = torch.nn.RNN(IN, H, nonlinearity=activation, batch_first=True, dtype=x.dtype)
    return _torch_sequence(torch, module, (w_x, w_h, b, torch.zeros_like(b)), x, (h0,), reverse=reverse)


def _torch_rnn_step(torch, x, h, w_x, w_h, b, activation="tanh"):
    return getattr(torch, activation)(x @ w_x + h @ w_h + b)


def _torch_lstm(torch, x, h0, c0, w_x, w_h, b, lengths=None, reverse=False):
    module = torch.nn.LSTM(IN, H, batch_first=True, dtype=x.dtype)
    return _torch_sequence(torch, module, (w_x, w_h, b, torch.zeros_like(b)), x, (h0, c0), lengths, reverse)


def _torch_lstm_step(torch, x, h, c, w_x, w_h, b):
    return _torch_lstm(torch, x[:, None], h, c, w_x, w_h, b)[1:]


def _torch_gru(torch, x, h0, w_x, w_h, b, b_h=None, lengths=None, reset_after=False, reverse=False):
    if reset_after:
        module = torch.nn.GRU(IN, H, batch_first=True, dtype=x.dtype)
        # The order r, z, n, and the z of which is the complement.
        theirs = [torch.cat([w[..., H : 2 * H], -w[..., :H], w[..., 2 * H :]], -1) for w in (w_x, w_h, b)]
        bias = torch.cat([torch.zeros(2 * H, dtype=x.dtype), b_h])
        return _torch_sequence(torch, module, (*theirs, bias), x, (h0,), lengths, reverse)
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


def _bench_arguments(gates, *more, states=1):
    k = WIDE**-0.5
    weights = uniform(-k, k, WIDE, gates * WIDE), uniform(-k, k, WIDE, gates * WIDE), uniform(-k, k, gates * WIDE)
    return normal(BATCH, STEPS, WIDE), *[normal(BATCH, WIDE)] * states, *weights, *more


def _scanned(step):
    def sequence(x, state, w_x, b):
        a = jnp.swapaxes(x, 0, 1) @ w_x + b
        state, hs = lax.scan(step, state, a)
        return jnp.swapaxes(hs, 0, 1), *state

    return sequence


def _plain_rnn(x, h0, w_x, w_h, b):
    def step(state, a):
        h = jnp.tanh(a + state[0] @ w_h)
        return (h,), h

    return _scanned(step)(x, (h0,), w_x, b)


def _plain_lstm(x, h0, c0, w_x, w_h, b):
    def step(state, a):
        h, c = state
        i, f, g, o = jnp.split(a + h @ w_h, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return _scanned(step)(x, (h0, c0), w_x, b)


def _plain_gru(x, h0, w_x, w_h, b, b_h=None, *, reset_after=False):
    u_zr, u_n = w_h[:, : 2 * WIDE], w_h[:, 2 * WIDE :]

    def step(state, a):
        (h,) = state
        p = h @ w_h if reset_after else h @ u_zr
        z, r = jnp.split(jax.nn.sigmoid(a[..., : 2 * WIDE] + p[..., : 2 * WIDE]), 2, axis=-1)
        u = r * (p[..., 2 * WIDE :] + b_h) if reset_after else (r * h) @ u_n
        h = (1 - z) * h + z * jnp.tanh(a[..., 2 * WIDE :] + u)
        return (h,), h

    return _scanned(step)(x, (h0,), w_x, b)


def _plain_gru_step(x, h, w_x, w_h, b):
    a, at = x @ w_x + b, 2 * h.shape[-1]
    z, r = jnp.split(jax.nn.sigmoid(a[:, :at] + h @ w_h[:, :at]), 2, axis=-1)
    return (1 - z) * h + z * jnp.tanh(a[:, at:] + (r * h) @ w_h[:, at:])


def _flax(cell, variables):
    from flax import linen  # pyright: ignore[reportMissingImports]

    layer = linen.RNN(getattr(linen, cell)(WIDE), return_carry=True)

    def sequence(x, *args):
        carry, parameters = variables(*args)
        carry, hs = layer.apply({"params": {"cell": parameters}}, x, initial_carry=carry)
        return hs, *jax.tree.leaves(carry)

    return sequence


def _flax_rnn(h0, w_x, w_h, b):
    return h0, {"i": {"kernel": w_x, "bias": b}, "h": {"kernel": w_h}}


def _flax_lstm(h0, c0, w_x, w_h, b):
    blocks = zip("ifgo", *(jnp.split(w, 4, axis=-1) for w in (w_x, w_h, b)))
    parameters = {}
    for gate, i, h, bias in blocks:
        parameters |= {f"i{gate}": {"kernel": i}, f"h{gate}": {"kernel": h, "bias": bias}}
    return (c0, h0), parameters


def _flax_gru(h0, w_x, w_h, b, b_h=None):
    blocks = zip("zrn", *(jnp.split(w, 3, axis=-1) for w in (w_x, w_h, b)))
    parameters = {}
    for gate, i, h, bias in blocks:
        parameters |= {f"i{gate}": {"kernel": i, "bias": bias}, f"h{gate}": {"kernel": h}}
    parameters["hn"]["bias"] = jnp.zeros(WIDE) if b_h is None else b_h
    return h0, parameters


def _bench(name, plain, cell, variables, floor, arguments, static=None):
    return Bench(
        name, arguments, {"plain": plain}, static=static or {}, floor=floor, memory=1.0,
        peers={"flax": functools.partial(_flax, cell, variables)},
    )  # fmt: skip


def _rnn(lead):
    return normal(*lead, T, IN), normal(*lead, H), *_weights(1)


def _step_bench(gates, states, plain, *more, name="(256, 256)", static=None):
    weights = [uniform(-0.06, 0.06, 256, gates * 256)] * 2
    arguments = (normal(256, 256), *[normal(256, 256)] * states, *weights, normal(gates * 256), *more)
    return Bench(name, arguments, {"plain": plain}, static=static or {})


register(
    Entry(
        ops.rnn_step,
        ("rnn.vanilla",),
        tuple(
            Case(lambda lead, bias=bias: (normal(*lead, IN), normal(*lead, H), *_weights(1)[:2], bias),
                 {"activation": activation}, activation, _torch_rnn_step, lambda x, *_: max(IN + H, _rows(x)))
            for activation, bias in (("tanh", normal(H)), ("relu", uniform(1.0, 2.0, H)))
        ),
        benches=(_step_bench(1, 1, lambda x, h, w_x, w_h, b: jnp.tanh(x @ w_x + h @ w_h + b)),),
    )
)  # fmt: skip
_SLOPE = 2 * (1 - np.tanh(1) ** 2)
register(
    Entry(
        ops.rnn,
        ("rnn.vanilla", "rnn.peers"),
        (
            Case(_rnn, oracle=_torch_rnn, terms=_rows),
            Case(_rnn, {"activation": "relu", "reverse": True}, "relu, reverse", _torch_rnn, terms=_rows),
            Case(lambda lead: (normal(*lead, T, IN), absent, *_weights(1)[:2], absent, integers(0, T + 1, *lead)),
                 {"reverse": True}, "zero state, no bias, lengths, reverse", terms=_rows, ignored=_padding(1)),
        ),
        (
            Trap("padding is never read", ([[1.0], [np.nan]], [0.0], [[1.0]], [[1.0]], [0.0], 1),
                 {0: [[_SLOPE], [0.0]], 1: [_SLOPE], 2: [[_SLOPE]], 3: [[0.0]], 4: [_SLOPE]},
                 value=[np.tanh(1), 0.0, np.tanh(1)]),
            Trap("a sequence of length 0 keeps its state", ([[1.0]], [0.5], [[1.0]], [[1.0]], [0.0], 0),
                 {0: [[0.0]], 1: [1.0], 3: [[0.0]]}, value=[0.0, 0.5]),
        ),
        (_bench("T=128 B=8 H=128", _plain_rnn, "SimpleCell", _flax_rnn, 1.6, _bench_arguments(1)),),
    )
)  # fmt: skip

register(
    Entry(
        ops.lstm_step,
        ("rnn.lstm",),
        (
            Case(lambda lead: (normal(*lead, IN), normal(*lead, H), normal(*lead, H), *_weights(4)),
                 oracle=_torch_lstm_step, terms=lambda x, *_: max(IN + H, _rows(x))),
        ),
        benches=(_step_bench(4, 2, lambda x, *args: _plain_lstm(x[:, None], *args)[1:]),),
    )
)  # fmt: skip


def _lstm(lead, *lengths):
    return normal(*lead, T, IN), normal(*lead, H), normal(*lead, H), *_weights(4), *lengths


register(
    Entry(
        ops.lstm,
        ("rnn.lstm", "rnn.peers"),
        (
            Case(lambda lead: _lstm(lead, integers(1, T + 1, *lead)), name="lengths", oracle=_torch_lstm, terms=_rows,
                 ignored=_padding(2)),
            Case(_lstm, {"reverse": True}, "reverse", _torch_lstm, _rows),
            Case(lambda lead: (normal(*lead, T, IN), absent, normal(*lead, H), *_weights(4)[:2], absent,
                               integers(0, T + 1, *lead)),
                 {"reverse": True}, "zero h0, no bias, lengths, reverse", terms=_rows, ignored=_padding(2)),
        ),
        benches=(
            _bench("T=128 B=8 H=128", _plain_lstm, "OptimizedLSTMCell", _flax_lstm, 1.5, _bench_arguments(4, states=2)),
        ),
    )
)  # fmt: skip

_AFTER = {"reset_after": True}
register(
    Entry(
        ops.gru_step,
        ("rnn.gru",),
        tuple(
            Case(lambda lead, more=more: (normal(*lead, IN), normal(*lead, H), *_weights(3), *more), static, name,
                 _torch_gru_step, lambda x, *_: max(IN + H, _rows(x)))
            for name, static, more in (("default", {}, ()), ("reset after", _AFTER, (normal(H),)))
        ),
        benches=(_step_bench(3, 1, _plain_gru_step),),
    )
)  # fmt: skip


def _gru(lead, *more):
    return normal(*lead, T, IN), normal(*lead, H), *_weights(3), *more


register(
    Entry(
        ops.gru,
        ("rnn.gru", "rnn.peers"),
        (
            Case(lambda lead: _gru(lead, normal(H), integers(1, T + 1, *lead)), _AFTER, "reset after, lengths",
                 _torch_gru, _rows, ignored=_padding(1)),
            Case(_gru, oracle=_torch_gru, terms=_rows),
            Case(lambda lead: (normal(*lead, T, IN), absent, *_weights(3)[:2], absent, absent,
                               integers(0, T + 1, *lead)),
                 {"reverse": True}, "zero state, no bias, lengths, reverse", terms=_rows, ignored=_padding(1)),
            Case(lambda lead: _gru(lead, absent), {"reverse": True, **_AFTER}, "reset after, reverse", terms=_rows),
        ),
        benches=(
            _bench("T=128 B=8 H=128", _plain_gru, "GRUCell", _flax_gru, 1.4, _bench_arguments(3)),
            _bench("reset after, T=128 B=8 H=128", _plain_gru, "GRUCell", _flax_gru, 1.4,
                   _bench_arguments(3, normal(WIDE)), _AFTER),
        ),
    )
)  # fmt: skip
