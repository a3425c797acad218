"""Entries of the ops in :mod:`dlfn.ops.losses.regression`."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

from dlfn import ops
from dlfn.registry.cases.losses._shared import both, size
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register

INF = np.inf


def _pair(lead):
    return normal(*lead, 5), normal(*lead, 5)


register(
    Entry(
        ops.mse,
        ("loss.mse", "linear.regression"),
        (
            *both("", lambda torch, a, b, reduction: torch.nn.functional.mse_loss(a, b, reduction=reduction), _pair),
            Case(_pair, {"half": True}, "half", lambda torch, a, b, half: torch.mean((a - b) ** 2) / 2, size,
                 empty=False),
        ),
        (Trap("the sign of the gradient", ([3.0, 1.0], [1.0, 1.0]), {0: [2.0, 0.0], 1: [-2.0, 0.0]}, value=2.0),),
        (
            Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)),
                  {"plain": lambda a, b: jnp.mean((a - b) ** 2)}),
        ),
    )
)  # fmt: skip


_OTHERS = (
    (ops.mae, {}, lambda torch, a, b, reduction: torch.nn.functional.l1_loss(a, b, reduction=reduction),
     lambda a, b: jnp.mean(jnp.abs(a - b)), "plain",
     Trap("slope 0 at 0", ([1.0, 3.0], [1.0, 1.0]), {0: [0.0, 0.5], 1: [0.0, -0.5]}, value=1.0)),
    (ops.huber, {"delta": 0.5},
     lambda torch, a, b, reduction, delta: torch.nn.functional.huber_loss(a, b, reduction=reduction, delta=delta),
     lambda a, b, *, delta: jnp.mean(optax.huber_loss(a, b, delta=delta)), "optax",
     Trap("at infinity", ([INF, -INF, 1e30], [0.0, 0.0, 0.0]), {0: [1.0, -1.0, 1.0]}, value=[INF, INF, 1e30],
          static={"reduction": "none"})),
    (ops.log_cosh, {},
     lambda torch, a, b, reduction: {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](
         torch.log(torch.cosh(a - b))
     ),
     lambda a, b: jnp.mean(optax.log_cosh(a, b)), "optax",
     Trap("small and large", ([1e-4, 1000.0, -INF], [0.0, 0.0, 0.0]), {0: [1e-4, 1.0, -1.0]},
          value=[5e-9, 999.3068528, INF], static={"reduction": "none"})),
)  # fmt: skip

for op, static, oracle, baseline, name, trap in _OTHERS:
    cases = tuple(dataclasses.replace(case, static={**case.static, **static}) for case in both("", oracle, _pair))
    bench = Bench("(1024, 1024)", (normal(1024, 1024), normal(1024, 1024)), {name: baseline}, static=static)
    register(Entry(op, ("loss.peers",), cases, (trap,), (bench,)))
