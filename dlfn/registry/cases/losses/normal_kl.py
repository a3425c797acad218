"""Divergence of a diagonal normal distribution from its prior, against torch.distributions."""

import jax.numpy as jnp
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register

INF = np.inf


def _oracle(torch, mean, log_variance, prior_mean=None, prior_log_variance=None, reduction="mean"):
    prior_mean = torch.zeros_like(mean) if prior_mean is None else prior_mean
    prior_log_variance = torch.zeros_like(mean) if prior_log_variance is None else prior_log_variance
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, torch.exp(log_variance / 2)),
        torch.distributions.Normal(prior_mean, torch.exp(prior_log_variance / 2)),
    ).sum(-1)
    return kl if reduction == "none" else getattr(torch, reduction)(kl)


def _size(mean, *_):
    return mean.size


def _plain(mean, log_variance):
    return jnp.mean(jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=-1)) / 2


def _with_prior(lead):
    return normal(*lead, 5), normal(*lead, 5), normal(5), normal(5)


def _standard(lead):
    return normal(*lead, 5), normal(*lead, 5), absent, absent


register(
    Entry(
        ops.normal_kl,
        ("information.vae_vib", "probability.bayes_by_backprop"),
        (
            Case(_with_prior, {"reduction": "none"}, "prior, none", _oracle, _size),
            Case(_standard, {"reduction": "mean"}, "standard, mean", _oracle, _size, empty=False),
            Case(lambda lead: (normal(*lead, 5), normal(*lead, 5), absent, normal()), {"reduction": "sum"},
                 "scalar prior variance, sum",
                 lambda torch, mean, log_variance, prior, reduction: _oracle(
                     torch, mean, log_variance, None, prior, reduction), _size),
        ),
        (
            Trap("at the prior", ([0.0, 0.0], [0.0, 0.0], None, None), {0: [0.0, 0.0], 1: [0.0, 0.0]}, value=0.0),
            Trap("near the prior", ([1e-4], [1e-4], None, None), {0: [1e-4], 1: [5.000250008e-05]},
                 value=7.500083335e-09),
            Trap("near a narrow prior", ([3.0], [-20.0 + 2.0**-12], [3.0], [-20.0]),
                 {0: [0.0], 1: [0.00012208521], 2: [0.0], 3: [-0.00012208521]}, value=1.490237467e-08),
            Trap("far from the prior", ([0.0, 0.0, 1e-15], [-300.0, 80.0, -300.0], [0.0, 0.0, 0.0], [0.0, 0.0, -60.0]),
                 {0: [0.0, 0.0, 1.1420073e11], 1: [-0.5, 2.7703112e34, -0.5], 3: [0.5, -2.7703112e34, 0.49994290]},
                 value=2.7703112e34),
            Trap("rows whose sum is near the largest number", ([[1.5e19], [1.5e19]], [[0.0], [0.0]], None, None),
                 {0: [[7.5e18], [7.5e18]], 1: [[0.0], [0.0]]}, value=1.125e38),
            Trap("a variance of 0", ([1.0], [-INF], None, None), {0: [1.0], 1: [-0.5]}, value=INF),
            Trap("an infinite variance", ([1.0], [INF], None, None), {0: [1.0], 1: [INF]}, value=INF,
                 no_bend="the slope is infinite"),
            Trap("a prior variance of 0", ([1.0, 1.0], [0.0, 0.0], [1.0, 2.0], [-INF, -INF]),
                 {0: [0.0, -INF], 1: [INF, INF], 2: [0.0, INF], 3: [-INF, -INF]}, value=INF,
                 no_bend="the slopes are infinite"),
            Trap("1,024 coordinates in bfloat16", ([1.0] * 1024, [0.0] * 1024, None, None),
                 {0: [1.0] * 1024, 1: [0.0] * 1024}, value=512.0, dtype="bfloat16"),
        ),
        (
            # Exactness costs a series, a select and one more reading of the variances.
            Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)), {"plain": _plain}),
        ),
    )
)  # fmt: skip
