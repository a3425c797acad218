"""What the cases of gru, lstm and rnn share."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.registry.entry import Bench, normal, uniform

__all__ = [
    "bench_arguments",
    "matrices",
    "of_flax",
    "padding",
    "row",
    "rows_of",
    "scanned",
    "step_bench",
    "torch_sequence",
]

T, IN, H = 4, 3, 2


def rows_of(x, *_):
    return x.size // x.shape[-1]


def matrices(gates):
    return normal(IN, gates * H), normal(H, gates * H), normal(gates * H)


def padding(states):
    """Of the ops whose last argument is the lengths, and whose first output is that of all steps."""

    def ignored(x, *args, **_):
        steps = (jnp.arange(T) >= args[-1][..., None])[..., None]
        return (steps, *[None] * len(args)), (steps, *[None] * states)

    return ignored


# Oracles: PyTorch's modules with our weights. Padding goes through its packed sequences, reversal through flips.


def torch_sequence(torch, module, weights, x, state, lengths=None, reverse=False):
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


# Benchmarks: the best plain JAX, a scan over time with the input's projection hoisted, and Flax.

BATCH, STEPS, WIDE = 8, 128, 128


def bench_arguments(gates, *more, states=1):
    k = WIDE**-0.5
    weights = uniform(-k, k, WIDE, gates * WIDE), uniform(-k, k, WIDE, gates * WIDE), uniform(-k, k, gates * WIDE)
    return normal(BATCH, STEPS, WIDE), *[normal(BATCH, WIDE)] * states, *weights, *more


def scanned(step):
    def sequence(x, state, w_x, b):
        a = jnp.swapaxes(x, 0, 1) @ w_x + b
        state, hs = lax.scan(step, state, a)
        return jnp.swapaxes(hs, 0, 1), *state

    return sequence


def of_flax(cell, variables):
    from flax import linen  # pyright: ignore[reportMissingImports]

    layer = linen.RNN(getattr(linen, cell)(WIDE), return_carry=True)

    def sequence(x, *args):
        carry, parameters = variables(*args)
        carry, hs = layer.apply({"params": {"cell": parameters}}, x, initial_carry=carry)
        return hs, *jax.tree.leaves(carry)

    return sequence


def row(name, plain, cell, variables, floor, arguments, static=None):
    return Bench(
        name, arguments, {"plain": plain}, static=static or {}, floor=floor, memory=1.0,
        peers={"flax": functools.partial(of_flax, cell, variables)},
    )  # fmt: skip


def step_bench(gates, states, plain, *more, name="(256, 256)", static=None):
    weights = [uniform(-0.06, 0.06, 256, gates * 256)] * 2
    arguments = (normal(256, 256), *[normal(256, 256)] * states, *weights, normal(gates * 256), *more)
    return Bench(name, arguments, {"plain": plain}, static=static or {})
