"""Leaky, parametric and hard activations, against PyTorch, at their kinks."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.cases.activations._elementwise import INF, entry, flat, largest_of, namespace, single
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

PEERS = ("activation.peers",)
# Nothing here costs more than what XLA makes of the textbook formula.
FLOOR = 0.97


def _leaky_slope(x, *, negative_slope):
    xp = namespace(x)
    return single(xp.where(x >= 0, 1, xp.asarray(negative_slope, x.dtype)))


def _hard_swish_slope(x):
    xp = namespace(x)
    inside = xp.clip(x, -3, 3)
    value, largest = largest_of(inside / 3, xp.full_like(x, 0.5))
    return xp.where(x <= -3, 0, xp.where(x >= 3, 1, value)), xp.where(xp.abs(x) < 3, largest, 1)


def _hard_swish_bend(x):
    xp = namespace(x)
    third = xp.asarray(1, x.dtype) / 3
    return single(xp.where(xp.abs(x) == 3, xp.nan, xp.where(xp.abs(x) < 3, third, 0)))


register(
    entry(
        ops.leaky_relu,
        ("activation.leaky_relu",),
        lambda torch, x, negative_slope: torch.nn.functional.leaky_relu(x, negative_slope),
        jax.nn.leaky_relu,
        lambda x, *, negative_slope: single(
            namespace(x).where(x >= 0, 1, namespace(x).asarray(negative_slope, x.dtype))
        ),
        flat(0),
        [
            Trap("slope 1 at 0", ([0.0, -0.0, INF, -INF],), {0: [1.0, 1.0, 1.0, 0.01]}, value=[0.0, 0.0, INF, -INF]),
            Trap("slope 0", ([0.0, -INF],), {0: [1.0, 0.0]}, value=[0.0, 0.0], static={"negative_slope": 0.0}),
        ],
        settings={"default": {"negative_slope": 0.01}, "slope 0.2": {"negative_slope": 0.2}},
        floor=FLOOR,
    )
)
register(
    entry(
        ops.relu6,
        PEERS,
        lambda torch, x: torch.nn.functional.relu6(x),
        jax.nn.relu6,
        lambda x: single(((x > 0) & (x < 6)).astype(x.dtype)),
        flat(0, 6),
        [Trap("kinks", ([0.0, 6.0, INF, -INF],), {0: [0.0, 0.0, 0.0, 0.0]}, value=[0.0, 6.0, 6.0, 0.0])],
        floor=FLOOR,
        scale=4.0,
    )
)
register(
    entry(
        ops.hard_tanh,
        PEERS,
        lambda torch, x: torch.nn.functional.hardtanh(x),
        jax.nn.hard_tanh,
        lambda x: single((abs(x) < 1).astype(x.dtype)),
        flat(-1, 1),
        [Trap("kinks", ([1.0, -1.0, INF, -INF],), {0: [0.0, 0.0, 0.0, 0.0]}, value=[1.0, -1.0, 1.0, -1.0])],
        floor=FLOOR,
    )
)
register(
    entry(
        ops.hard_sigmoid,
        PEERS,
        # Its own hardsigmoid has the slope 1/6 of float32.
        lambda torch, x: torch.nn.functional.relu6(x + 3) / 6,
        jax.nn.hard_sigmoid,
        lambda x: single((abs(x) < 3).astype(x.dtype) / 6),
        flat(-3, 3),
        [
            Trap("kinks", ([3.0, -3.0, INF, -INF],), {0: [0.0, 0.0, 0.0, 0.0]}, value=[1.0, 0.0, 1.0, 0.0]),
            Trap("y is 1 before x is 3", ([float(np.nextafter(np.float32(3), 0))],), {0: [1 / 6]}, value=[1.0]),
        ],
        floor=FLOOR,
        scale=3.0,
    )
)
register(
    entry(
        ops.hard_swish,
        PEERS,
        lambda torch, x: torch.nn.functional.hardswish(x),
        jax.nn.hard_swish,
        _hard_swish_slope,
        _hard_swish_bend,
        [Trap("kinks", ([3.0, -3.0, INF, -INF],), {0: [1.0, 0.0, 1.0, 0.0]}, value=[3.0, 0.0, INF, 0.0])],
        floor=FLOOR,
        scale=3.0,
    )
)


def _plain_prelu(x, alpha):
    return jnp.where(x >= 0, x, alpha * x)


def _prelu_oracle(torch, x, alpha):
    # Its channels are those of axis 1.
    rows = torch.nn.functional.prelu(x.reshape(-1, x.shape[-1]), alpha.reshape(-1))
    return rows.reshape(x.shape)


register(
    Entry(
        ops.prelu,
        ("activation.prelu",),
        (
            Case(lambda lead: (normal(*lead, 5), normal(5)), name="per channel", oracle=_prelu_oracle,
                 terms=lambda x, _: x.size // 5),
            Case(lambda lead: (normal(*lead, 5), normal()), name="one", oracle=_prelu_oracle,
                 terms=lambda x, _: x.size),
            Case(lambda lead: (normal(*lead, 2, 3), normal(2, 1)), name="broadcast", terms=lambda x, _: x.size // 2),
        ),
        (
            Trap("slope 1 at 0", ([0.0, -0.0, 2.0],  0.5), {0: [1.0, 1.0, 1.0], 1: 0.0}, value=[0.0, 0.0, 2.0]),
            Trap("bfloat16 gradient of alpha over 16384 rows", ([[-1.0]] * 16384, [0.5]), {1: [-16384.0]},
                 dtype="bfloat16"),
        ),
        tuple(
            Bench(name, (normal(1024, 1024), alpha), {"plain": _plain_prelu}, floor=FLOOR)
            for name, alpha in (("per channel", normal(1024)), ("one", normal()))
        ),
    )
)  # fmt: skip
