"""ELU, SELU and CELU, against PyTorch."""

from typing import Any

import jax
import numpy as np

from dlfn import ops
from dlfn.registry.cases.activations._elementwise import INF, entry, namespace, single
from dlfn.registry.entry import Trap, register

_SELU = np.longdouble("1.0507009873554804934193349852946"), np.longdouble("1.6732632423543772848170429916717")


def _exp(x):
    xp = namespace(x)
    return xp.exp(xp.minimum(x, 0))


def _slope(x, scale: Any = 1, alpha: Any = 1, length: Any = 1):
    """Of scale · x above 0, and of scale · alpha · length · (exp(x / length) - 1) below."""
    xp = namespace(x)
    scale, alpha, length = (xp.asarray(number, x.dtype) for number in (scale, alpha, length))
    return single(scale * xp.where(x > 0, 1, alpha * _exp(x / length)))


def _bend(x, scale: Any = 1, alpha: Any = 1, length: Any = 1):
    """Where the two sides have different slopes at 0, there is none; and none either where only those agree."""
    xp = namespace(x)
    scale, alpha, length = (xp.asarray(number, x.dtype) for number in (scale, alpha, length))
    return single(xp.where(x == 0, xp.nan, scale * xp.where(x > 0, 0, alpha / length * _exp(x / length))))


register(
    entry(
        ops.elu,
        ("activation.peers",),
        lambda torch, x, alpha: torch.nn.functional.elu(x, alpha),
        jax.nn.elu,
        lambda x, *, alpha: _slope(x, alpha=alpha),
        lambda x, *, alpha: _bend(x, alpha=alpha),
        [
            Trap("tail", ([-20.0, -100.0],), {0: [2.0611536e-9, 0.0]}, value=[-1.0, -1.0]),
            Trap("alpha keeps the tail normal", ([-88.0],), {0: [6.0546018e-33]}, value=[-1e6], static={"alpha": 1e6}),
            Trap("slope alpha at 0", ([0.0, -0.0],), {0: [3.0, 3.0]}, value=[0.0, 0.0], static={"alpha": 3.0}),
            Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, -1.0]),
        ],
        settings={"default": {"alpha": 1.0}, "alpha = 1.5": {"alpha": 1.5}},
    )
)
register(
    entry(
        ops.selu,
        ("activation.peers",),
        lambda torch, x: torch.nn.functional.selu(x),
        jax.nn.selu,
        lambda x: _slope(x, *_SELU),
        lambda x: _bend(x, *_SELU),
        [
            Trap("tail", ([-20.0],), {0: [3.6237126e-9]}, value=[-1.7580993]),
            Trap("at infinity", ([INF, -INF],), {0: [1.0507010, 0.0]}, value=[INF, -1.7580993]),
        ],
    )
)
register(
    entry(
        ops.celu,
        ("activation.peers",),
        # Its own celu rounds 1 / alpha to float32.
        lambda torch, x, alpha: alpha * torch.nn.functional.elu(x / alpha),
        jax.nn.celu,
        lambda x, *, alpha: _slope(x, length=alpha),
        lambda x, *, alpha: _bend(x, length=alpha),
        [
            Trap("tail", ([-20.0],), {0: [2.0611536e-9]}, value=[-1.0]),
            Trap("a large quotient", ([-56.0],), {0: [np.exp(-80.0)]}, value=[-0.7], static={"alpha": 0.7}),
            Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, -1.0]),
        ],
        settings={"default": {"alpha": 1.0}, "alpha = 0.7": {"alpha": 0.7}},
    )
)
