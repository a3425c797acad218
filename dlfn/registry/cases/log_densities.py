"""Log-densities and log-probabilities of the distributions, against torch.distributions; at the support's edges."""

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, integers, normal, register, uniform

INF = np.inf
FORMULA = ("probability.distributions",)
BIG = (1024, 1024)


def _rows(*arguments):
    """The terms of the gradient of a parameter that all rows share."""
    return arguments[0].size // 5


register(
    Entry(
        ops.normal_log_prob,
        FORMULA,
        (
            Case(lambda lead: (normal(*lead, 5), normal(*lead, 5), uniform(0.5, 2.0, 5)), name="one scale",
                 oracle=lambda torch, *a: torch.distributions.Normal(*a[1:]).log_prob(a[0]), terms=_rows),
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
                 terms=_rows),
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
                 oracle=lambda torch, x, rate: torch.distributions.Exponential(rate).log_prob(x), terms=_rows),
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


def _plain_bernoulli(x, _, z):
    return jnp.where(x == 1, jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z))


register(
    Entry(
        ops.bernoulli_log_prob,
        FORMULA,
        (
            Case(lambda lead: (integers(0, 2, *lead, 5), uniform(0.1, 0.9, 5)), name="probs",
                 oracle=lambda torch, x, p: torch.distributions.Bernoulli(p).log_prob(x.to(p.dtype)), terms=_rows),
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
                 terms=_rows),
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

register(
    Entry(
        ops.poisson_log_prob,
        FORMULA,
        (
            Case(lambda lead: (integers(0, 8, *lead, 5), uniform(0.5, 6.0, 5)), name="one rate",
                 oracle=lambda torch, k, rate: torch.distributions.Poisson(rate).log_prob(k.to(rate.dtype)),
                 terms=_rows),
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
