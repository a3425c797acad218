"""Entries of the ops in :mod:`dlfn.ops.probability.log_masses`."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.cases.probability._shared_densities import rows_of
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, integers, normal, register, uniform

INF = np.inf
FORMULA = ("probability.distributions",)
BIG = (1024, 1024)


def _plain_bernoulli(x, _, z):
    return jnp.where(x == 1, jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z))


register(
    Entry(
        ops.bernoulli_log_prob,
        FORMULA,
        (
            Case(lambda lead: (integers(0, 2, *lead, 5), uniform(0.1, 0.9, 5)), name="probs",
                 oracle=lambda torch, x, p: torch.distributions.Bernoulli(p).log_prob(x.to(p.dtype)), terms=rows_of),
            Case(lambda lead: (integers(0, 2, *lead, 5), absent, normal(*lead, 5)), name="logits",
                 oracle=lambda torch, x, z: torch.distributions.Bernoulli(logits=z).log_prob(x.to(z.dtype))),
        ),
        (
            Trap("certainty", ([0, 1], [0.0, 1.0]), {1: [-1.0, 1.0]}, value=[0.0, 0.0]),
            Trap("what cannot happen", ([1, 0, 2, -1], [0.0, 1.0, 0.5, 0.5]), {1: [INF, -INF, 0.0, 0.0]},
                 value=[-INF] * 4, no_bend="the slopes are infinite"),
            Trap("improbable", ([0, 1], [1e-10, 1e-10]), {1: [-1.0, 1e10]}, value=[-1e-10, -23.0258509]),
            Trap("logits far out", ([1, 0, 1, 0, 1], None, [-90.0, 90.0, 20.0, -INF, -INF]),
                 {2: [1.0, -1.0, 2.0611537e-9, 0.0, 1.0]}, value=[-90.0, -90.0, -2.0611537e-9, 0.0, -INF]),
        ),
        (
            Bench("logits, (1024, 1024)", (integers(0, 2, *BIG), absent, normal(*BIG)), {"plain": _plain_bernoulli}),
            Bench("probs, (1024, 1024)", (integers(0, 2, *BIG), uniform(0.1, 0.9, *BIG)),
                  {"plain": lambda x, p: jnp.where(x == 1, jnp.log(p), jnp.log1p(-p))}),
        ),
    )
)  # fmt: skip


def _trials(lead):
    return integers(0, 8, *lead, 5), integers(8, 12, *lead, 5)


def _torch_binomial(torch, k, n, p):
    return torch.distributions.Binomial(n.to(p.dtype), p).log_prob(k.to(p.dtype))


def _torch_binomial_logits(torch, k, n, z):
    return torch.distributions.Binomial(n.to(z.dtype), logits=z).log_prob(k.to(z.dtype))


def _plain_binomial(k, n, p):
    k, n = k.astype(p.dtype), n.astype(p.dtype)
    ways = jax.lax.lgamma(n + 1) - jax.lax.lgamma(k + 1) - jax.lax.lgamma(n - k + 1)
    return ways + jax.scipy.special.xlogy(k, p) + jax.scipy.special.xlog1py(n - k, -p)


register(
    Entry(
        ops.binomial_log_prob,
        FORMULA,
        (
            Case(lambda lead: (*_trials(lead), uniform(0.1, 0.9, 5)), name="probs", oracle=_torch_binomial,
                 terms=rows_of),
            Case(lambda lead: (*_trials(lead), absent, normal(*lead, 5)), name="logits",
                 oracle=_torch_binomial_logits),
        ),
        (
            Trap("certainty", ([0, 4, 0, 0], [4, 4, 0, 0], [0.0, 1.0, 0.0, 1.0]), {2: [-4.0, 4.0, 0.0, 0.0]},
                 value=[0.0] * 4),
            Trap("what cannot happen", ([1, 3, 5, -1], [4, 4, 4, 4], [0.0, 1.0, 0.5, 0.5]), {2: [INF, -INF, 0.0, 0.0]},
                 value=[-INF] * 4, no_bend="the slopes are infinite"),
            Trap("many trials", ([500000000, 1000000000], [1000000000, 1000000000], [0.5, 0.5]), {2: [0.0, 2e9]},
                 value=[-10.58742427, -693147181.0]),
            Trap("logits far out", ([2, 2, 4], [4, 4, 4], None, [-200.0, 200.0, -200.0]), {3: [2.0, -2.0, 4.0]},
                 value=[np.log(6) - 400, np.log(6) - 400, -800.0]),
        ),
        (
            Bench("(1024, 1024)", (integers(0, 8, *BIG), integers(8, 12, *BIG), uniform(0.1, 0.9, *BIG)),
                  {"jax.scipy": _plain_binomial}),
        ),
    )
)  # fmt: skip
