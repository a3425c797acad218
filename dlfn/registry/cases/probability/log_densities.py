"""Entries of the ops in :mod:`dlfn.ops.probability.log_densities`."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.cases.probability._shared_densities import rows_of
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register, uniform

INF = np.inf
FORMULA = ("probability.distributions",)
BIG = (1024, 1024)


register(
    Entry(
        ops.normal_log_prob,
        FORMULA,
        (
            Case(lambda lead: (normal(*lead, 5), normal(*lead, 5), uniform(0.5, 2.0, 5)), name="one scale",
                 oracle=lambda torch, *a: torch.distributions.Normal(*a[1:]).log_prob(a[0]), terms=rows_of),
            Case(lambda lead: (normal(*lead, 5), normal(), uniform(0.5, 2.0, *lead, 1)), name="one loc",
                 oracle=lambda torch, *a: torch.distributions.Normal(*a[1:]).log_prob(a[0]),
                 terms=lambda x, *_: x.size),
        ),
        (
            Trap("tails", ([1e10, -1e10], 0.0, 1.0), {0: [-1e10, 1e10], 1: 0.0, 2: 2e20}, value=[-5e19, -5e19]),
            Trap("one standard deviation", ([1 + 2.0**-23], 0.0, 1.0), {2: 2.3841858e-07}, value=-1.4189386),
        ),
        (
            Bench("(1024, 1024)", (normal(*BIG), normal(*BIG), uniform(0.5, 2.0, *BIG)),
                  {"jax.scipy": jax.scipy.stats.norm.logpdf}),
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.uniform_log_prob,
        FORMULA,
        (
            Case(lambda lead: (uniform(0.1, 0.9, *lead, 5), uniform(-1.0, 0.0, *lead, 5), uniform(1.0, 2.0, 5)),
                 oracle=lambda torch, x, a, b: torch.distributions.Uniform(a, b).log_prob(x) + 0 * x,
                 terms=rows_of),
        ),
        (
            Trap("both ends belong to it", ([0.0, 4.0, -1.0, 5.0, INF], 0.0, 4.0),
                 {0: [0.0] * 5, 1: 0.5, 2: -0.5}, value=[-np.log(4)] * 2 + [-INF] * 3),
        ),
        (
            Bench("(1024, 1024)", (uniform(-2.0, 2.0, *BIG), uniform(-1.0, 0.0, *BIG), uniform(1.0, 2.0, *BIG)),
                  {"plain": lambda x, a, b: jnp.where((x < a) | (x > b), -jnp.inf, -jnp.log(b - a))}),
        ),
    )
)  # fmt: skip

register(
    Entry(
        ops.exponential_log_prob,
        FORMULA,
        (
            Case(lambda lead: (uniform(0.0, 3.0, *lead, 5), uniform(0.5, 2.0, 5)), name="one rate",
                 oracle=lambda torch, x, rate: torch.distributions.Exponential(rate).log_prob(x), terms=rows_of),
        ),
        (
            Trap("the edge of the support", ([0.0, -0.0, -1e-30], 2.0), {0: [-2.0, -2.0, 0.0], 1: 1.0},
                 value=[np.log(2), np.log(2), -INF]),
        ),
        (
            Bench("(1024, 1024)", (uniform(0.0, 3.0, *BIG), uniform(0.5, 2.0, *BIG)),
                  {"plain": lambda x, rate: jnp.where(x < 0, -jnp.inf, jnp.log(rate) - rate * x)}),
        ),
    )
)  # fmt: skip
