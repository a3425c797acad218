"""Entries of the ops in :mod:`dlfn.ops.elementary.powers`."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, integers, normal, register, uniform

SAFE = ("numeric.safe_elementary",)
INF, NAN = np.inf, np.nan
_SQUARE = normal(1024, 1024)


def _positive(lead):
    return uniform(0.5, 2.0, *lead, 5), normal(*lead, 5)


def _torch_pow(torch, base, exponent):
    return base**exponent


register(
    Entry(
        ops.power,
        (*SAFE, "calculus.power"),
        (
            Case(_positive, oracle=_torch_pow),
            Case(lambda lead: (normal(*lead, 5), integers(-2, 4, *lead, 5)), name="integer exponents",
                 oracle=_torch_pow),
        ),
        (
            Trap("21: at (0, 0)", ([0.0], [0.0]), {0: [0.0], 1: [0.0]}, value=[1.0]),
            Trap("21: a base of 0", ([0.0] * 2, [2.0, 1.0]), {0: [0.0, 1.0], 1: [0.0, 0.0]}, value=[0.0, 0.0]),
            Trap("a base of 0, infinite slopes", ([0.0] * 2, [0.5, -1.0]), {0: [INF, -INF], 1: [0.0, -INF]},
                 value=[0.0, INF], no_bend="the slopes are infinite"),
            Trap("n − 1 of a small n", ([1e-30], [0.03]), {0: [3.7767763e27], 1: [-8.6963491]}, value=[0.12589255],
                 rtol=3e-7, no_bend="it is -4e57"),
            Trap("a base below 0", ([-2.0] * 3, [3.0, 0.0, -1.0]), {0: [12.0, 0.0, -0.25]}, value=[-8.0, 1.0, -0.5]),
            Trap("a base of 0, integer exponents", ([0.0] * 3, [0, 1, 2]), {0: [0.0, 1.0, 0.0]}, value=[1.0, 0.0, 0.0]),
        ),
        # Exactness has a price: the slope in the base has 2.4 ULP, autodiff's 18 where n is small.
        (Bench("(1024, 1024)", (uniform(0.5, 2.0, 1024, 1024), _SQUARE), {"jnp": jnp.power}),),
    )
)  # fmt: skip
