"""Entries of the ops in :mod:`dlfn.ops.probability.poisson`."""

import jax
import numpy as np

from dlfn import ops
from dlfn.registry.cases.probability._shared_densities import rows_of
from dlfn.registry.entry import Bench, Case, Entry, Trap, integers, register, uniform

INF = np.inf
FORMULA = ("probability.distributions",)
BIG = (1024, 1024)

register(
    Entry(
        ops.poisson_log_prob,
        FORMULA,
        (
            Case(lambda lead: (integers(0, 8, *lead, 5), uniform(0.5, 6.0, 5)), name="one rate",
                 oracle=lambda torch, k, rate: torch.distributions.Poisson(rate).log_prob(k.to(rate.dtype)),
                 terms=rows_of),
        ),
        (
            Trap("no events", ([0, 0, -1], [0.0, 1e-30, 2.0]), {1: [-1.0, -1.0, 0.0]}, value=[0.0, -1e-30, -INF]),
            Trap("an event of none", ([1], [0.0]), {1: [INF]}, value=[-INF], no_bend="the slope is infinite"),
            Trap("many events", ([1000000], [1e6]), {1: [0.0]}, value=[-7.82669391]),
            Trap("rare", ([2], [1e-37]), {1: [2e37]}, value=[-171.0844441], no_bend="it is -2e74"),
        ),
        (
            Bench("(1024, 1024)", (integers(0, 8, *BIG), uniform(0.5, 6.0, *BIG)),
                  {"jax.scipy": jax.scipy.stats.poisson.logpmf}),
        ),
    )
)  # fmt: skip
