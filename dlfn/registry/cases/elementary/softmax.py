"""Softmax, its logarithm and log-sum-exp, against PyTorch: rows of -inf, large logits."""

import jax
import numpy as np

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register, uniform

INF = np.inf


def _last(x, *_):
    return x.shape[-1]


def _all(x, *_):
    return x.size


def _row(lead):
    return (normal(*lead, 5),)


_BENCH = (normal(1024, 1000),)

register(
    Entry(
        ops.softmax,
        ("linear.softmax",),
        (
            Case(_row, oracle=lambda torch, x: torch.softmax(x, -1), terms=_last),
            Case(lambda lead: (normal(6, *lead, 2),), {"axis": 0}, "first axis",
                 lambda torch, x, axis: torch.softmax(x, axis), terms=lambda x: x.shape[0]),
        ),
        (
            Trap("10: a row of −∞", ([-INF, -INF],), {0: [0.0, 0.0]}, value=[0.0, 0.0]),
            Trap("one +∞", ([INF, 0.0],), {0: [0.0, 0.0]}, value=[1.0, 0.0]),
            Trap("large logits", ([1e30, 1e30, -1e30],), {0: [0.0, 0.0, 0.0]}, value=[0.5, 0.5, 0.0]),
        ),
        (Bench("(1024, 1000)", _BENCH, {"jax.nn": jax.nn.softmax}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.log_softmax,
        ("linear.log_sum_exp",),
        (
            Case(_row, oracle=lambda torch, x: torch.log_softmax(x, -1), terms=_last),
            Case(lambda lead: (normal(6, *lead, 2),), {"axis": 0}, "first axis",
                 lambda torch, x, axis: torch.log_softmax(x, axis), terms=lambda x: x.shape[0]),
        ),
        (Trap("large logits", ([1e30, 1e30],), {0: [0.0, 0.0]}, value=[-np.log(2), -np.log(2)]),),
        (Bench("(1024, 1000)", _BENCH, {"jax.nn": jax.nn.log_softmax}),),
    )
)  # fmt: skip

register(
    Entry(
        ops.logsumexp,
        ("linear.log_sum_exp",),
        (
            Case(lambda lead: (*_row(lead), absent), oracle=lambda torch, x: torch.logsumexp(x, -1), terms=_last),
            Case(lambda lead: (*_row(lead), uniform(0.5, 2.0, *lead, 5)), name="weights",
                 oracle=lambda torch, x, b: torch.log(torch.sum(b * torch.exp(x), -1)), terms=_last),
            Case(lambda lead: (normal(2, *lead, 5), absent), {"axis": (0, -1), "keepdims": True}, "two axes",
                 lambda torch, x, axis, keepdims: torch.logsumexp(x, axis, keepdim=keepdims), terms=_all),
        ),
        (
            Trap("8: all −∞", ([-INF, -INF],), {0: [0.0, 0.0]}, value=-INF),
            Trap("9: zero weight", ([0.0, 0.0, 0.0], [2.0, 0.0, 5.0]), {1: [1 / 7, 1 / 7, 1 / 7]}, value=np.log(7)),
        ),
        (Bench("(1024, 1000)", (*_BENCH, absent), {"jax.nn": lambda x, _: jax.nn.logsumexp(x, -1)}),),
    )
)  # fmt: skip
