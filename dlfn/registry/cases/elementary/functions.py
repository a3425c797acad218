"""Entries of the ops in :mod:`dlfn.ops.elementary.functions`."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register, uniform

SAFE = ("numeric.safe_elementary",)
INF, NAN = np.inf, np.nan
_SQUARE = normal(1024, 1024)
_ROOT_HALF = 0.70710678


# In the benchmarks of norms memory has no bound: the way around an overflow, which is not taken there, has room for a
# few numbers per row, and for one of several arrays.


def _pair(lead):
    return normal(*lead, 5), normal(*lead, 5)


register(
    Entry(
        ops.sqrt,
        SAFE,
        (Case(lambda lead: (uniform(0.1, 4.0, *lead, 5),), oracle=lambda torch, x: torch.sqrt(x)),),
        (
            Trap("7: slope 0 at 0", ([0.0, 4.0],), {0: [0.0, 0.25]}, value=[0.0, 2.0]),
            Trap("no root", ([-1.0, NAN],), {0: [NAN, NAN]}, value=[NAN, NAN], no_bend="the value is nan"),
        ),
        (Bench("(1024, 1024)", (uniform(0.1, 4.0, 1024, 1024),), {"jnp": jnp.sqrt}),),
        homogeneous=(0.5, {}),
    )
)

register(
    Entry(
        ops.hypot,
        SAFE,
        (
            Case(_pair, oracle=lambda torch, x, y: torch.hypot(x, y)),
            Case(lambda lead: (normal(*lead, 5), normal(5)), name="broadcast",
                 oracle=lambda torch, x, y: torch.hypot(x, y), terms=lambda x, _: x.size),
        ),
        (
            Trap("5: at (0, 0)", ([0.0], [0.0]), {0: [0.0], 1: [0.0]}, value=[0.0]),
            Trap("5: at (1e20, 1e20)", ([1e20], [1e20]), {0: [_ROOT_HALF], 1: [_ROOT_HALF]}, value=[1.41421356e20]),
            Trap("small", ([1e-30, 0.0], [1e-30, -1e-30]), {0: [_ROOT_HALF, 0.0], 1: [_ROOT_HALF, -1.0]},
                 value=[1.41421356e-30, 1e-30]),
            Trap("an infinite side", ([INF, 3.0], [3.0, -INF]), {0: [1.0, 0.0], 1: [0.0, -1.0]}, value=[INF, INF]),
        ),
        (Bench("(1024, 1024)", (_SQUARE, _SQUARE), {"jnp": jnp.hypot}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.atan2,
        SAFE,
        (Case(_pair, oracle=lambda torch, y, x: torch.atan2(y, x)),),
        (
            Trap("6: at (0, 0)", ([0.0], [0.0]), {0: [0.0], 1: [0.0]}, value=[0.0]),
            Trap("large and small", ([1e20, 1e-17], [1e20, 0.0]), {0: [5e-21, 0.0], 1: [-5e-21, -1e17]},
                 value=[np.pi / 4, np.pi / 2]),
            Trap("small", ([1e-30], [0.0]), {0: [0.0], 1: [-1e30]}, value=[np.pi / 2], no_bend="it is 1e60"),
        ),
        (Bench("(1024, 1024)", (_SQUARE, _SQUARE), {"jnp": jnp.arctan2}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.xlogy,
        SAFE,
        (
            Case(lambda lead: (normal(*lead, 5), uniform(0.1, 2.0, *lead, 5)),
                 oracle=lambda torch, x, y: torch.xlogy(x, y)),
        ),
        (
            Trap("20: at (0, 0)", ([0.0], [0.0]), {0: [0.0], 1: [0.0]}, value=[0.0]),
            Trap("at y = 0", ([2.0], [0.0]), {0: [-INF], 1: [INF]}, value=[-INF],
                 no_bend="the slopes are infinite"),
            Trap("where y is nan", ([0.0, 0.0], [NAN, INF]), {0: [NAN, INF], 1: [NAN, 0.0]}, value=[NAN, 0.0],
                 no_bend="slopes are nan and infinite"),
        ),
        (Bench("(1024, 1024)", (_SQUARE, uniform(0.1, 2.0, 1024, 1024)), {"jax": jax.scipy.special.xlogy}),),
    )
)  # fmt: skip
