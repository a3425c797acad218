"""Sigmoid, tanh, ReLU, GELU and their relatives: PyTorch's derivatives where it has them, true ones elsewhere."""

import jax
import numpy as np

from dlfn import ops
from dlfn.registry.cases.activations._elementwise import INF, LIMIT, entry, largest_of, sigmoid, single
from dlfn.registry.entry import Trap, register

PEERS = ("activation.peers",)
_SQRT_2_OVER_PI = np.sqrt(8 * np.arctan(np.longdouble(1))) / (2 * np.arctan(np.longdouble(1))) / 2


def _silu_slope(x):
    x = np.clip(x, -LIMIT, LIMIT)
    return largest_of(sigmoid(x), x * sigmoid(x) * sigmoid(-x))


def _mish_slope(x):
    # q + x q' with q = tanh(softplus(x)), both in e = exp(-|x|).
    x = np.clip(x, -LIMIT, LIMIT)
    e = np.exp(-np.abs(x))
    below = np.where(x < 0, e * e + 2 * e + 2, 1 + 2 * e + 2 * e * e)
    q = np.where(x < 0, e * (e + 2), 1 + 2 * e) / below
    return largest_of(q, x * 4 * e * np.where(x < 0, 1, e) * (1 + e) / below**2)


def _squareplus_slope(x, *, b):
    # Beyond that, the square overflows where long double is float64.
    x = np.clip(x, -1e100, 1e100)
    r = np.sqrt(x * x + b)
    left = b / (2 * r * (r + np.abs(x)))
    return single(np.where(x < 0, left, 1 - left))


def _gelu_slope(x, *, approximate):
    x = np.clip(x, -37, 37)  # exp(-37**2 / 2) is near the end of float64
    if approximate:
        a = 2 * _SQRT_2_OVER_PI
        b = a * np.longdouble("0.044715")
        up, down = (sigmoid(sign * x * (a + b * x * x)) for sign in (1, -1))
        return largest_of(up, x * up * down * (a + 3 * b * x * x))
    from scipy.special import erfcx  # here, so that reading the registry does not load SciPy

    density = np.exp(-x * x / 2) * _SQRT_2_OVER_PI / 2
    # erfcx is of float64. Its error is far below an ULP of float32, and the exponential is not in it.
    tail = np.exp(-x * x / 2) * erfcx(np.abs(x).astype(float) / np.sqrt(2)) / 2
    return largest_of(np.where(x < 0, tail, 1 - tail), x * density)


register(
    entry(
        ops.sigmoid,
        ("linear.sigmoid",),
        lambda torch, x: torch.sigmoid(x),
        jax.nn.sigmoid,
        lambda x: single(sigmoid(x) * sigmoid(-x)),
        [
            Trap("29: saturation", ([20.0, -20.0],), {0: [2.0611536e-9, 2.0611536e-9]}),
            Trap("at infinity", ([INF, -INF],), {0: [0.0, 0.0]}, value=[1.0, 0.0]),
        ],
    )
)
register(
    entry(
        ops.tanh,
        ("activation.tanh",),
        lambda torch, x: torch.tanh(x),
        jax.numpy.tanh,
        lambda x: single(4 * sigmoid(2 * x) * sigmoid(-2 * x)),
        [
            Trap("29: saturation", ([8.0, -8.0],), {0: [4.5014053e-7, 4.5014053e-7]}),
            Trap("at infinity", ([INF, -INF],), {0: [0.0, 0.0]}, value=[1.0, -1.0]),
        ],
    )
)
register(
    entry(
        ops.relu,
        ("network.relu",),
        lambda torch, x: torch.relu(x),
        jax.nn.relu,
        lambda x: single((x > 0).astype(x.dtype)),
        [Trap("slope 0 at 0", ([0.0, -0.0, INF, -INF],), {0: [0.0, 0.0, 1.0, 0.0]}, value=[0.0, 0.0, INF, 0.0])],
        floor=0.97,
    )
)
register(
    entry(
        ops.silu,
        ("activation.silu",),
        lambda torch, x: torch.nn.functional.silu(x),
        jax.nn.silu,
        _silu_slope,
        [Trap("26: at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0])],
    )
)
register(
    entry(
        ops.softplus,
        ("activation.softplus",),
        lambda torch, x: torch.nn.functional.softplus(x, threshold=800),
        jax.nn.softplus,
        lambda x: single(sigmoid(x)),
        [
            Trap("19: overflow", ([100.0, -100.0],), {0: [1.0, 3.7835059e-44]}, value=[100.0, 3.7835059e-44]),
            Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0]),
        ],
    )
)
register(
    entry(
        ops.log_sigmoid,
        PEERS,
        lambda torch, x: torch.nn.functional.logsigmoid(x),
        jax.nn.log_sigmoid,
        lambda x: single(sigmoid(-x)),
        [
            Trap("tail", ([20.0, -100.0],), {0: [2.0611536e-9, 1.0]}, value=[-2.0611536e-9, -100.0]),
            Trap("at infinity", ([INF, -INF],), {0: [0.0, 1.0]}, value=[0.0, -INF]),
        ],
    )
)
register(
    entry(
        ops.mish,
        PEERS,
        lambda torch, x: torch.nn.functional.mish(x),
        jax.nn.mish,
        _mish_slope,
        [
            Trap("tail", ([-87.0],), {0: [-1.4153978e-36]}, value=[-1.4318559e-36]),
            Trap("26: at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0]),
        ],
    )
)
register(
    entry(
        ops.softsign,
        PEERS,
        lambda torch, x: torch.nn.functional.softsign(x),
        jax.nn.soft_sign,
        lambda x: single(1 / (1 + np.abs(x)) ** 2),
        [
            Trap("28: far out", ([1e15, -1e15],), {0: [1e-30, 1e-30]}, value=[1.0, -1.0]),
            Trap("at infinity", ([INF, -INF],), {0: [0.0, 0.0]}, value=[1.0, -1.0]),
        ],
    )
)
register(
    entry(
        ops.squareplus,
        PEERS,
        lambda torch, x, b: (x + torch.sqrt(x * x + b)) / 2,
        jax.nn.squareplus,
        _squareplus_slope,
        [
            Trap("27: the square overflows", ([1.9e19, 3e38, -1.9e19],), {0: [1.0, 1.0, 0.0]},
                 value=[1.9e19, 3e38, 1 / 1.9e19], static={"b": 4.0}),
            Trap("so does b", ([-1.9e19],), {0: [0.15562527]}, value=[4.2931142e18], static={"b": 4e38}),
            Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0]),
        ],
        settings={"default": {"b": 4.0}, "b = 0.1": {"b": 0.1}},
    )
)  # fmt: skip
register(
    entry(
        ops.gelu,
        ("activation.gelu",),
        lambda torch, x, approximate: torch.nn.functional.gelu(x, approximate="tanh" if approximate else "none"),
        lambda x, *, approximate: jax.nn.gelu(x, approximate=approximate),
        _gelu_slope,
        (
            trap
            for approximate in (False, True)
            for trap in (
                Trap("24: float16 from 200 on", ([200.0, 60000.0, -60000.0],), {0: [1.0, 1.0, 0.0]},
                     dtype="float16", static={"approximate": approximate}),
                Trap("25: the cube overflows", ([1.8e19, 3e38, -3e38],), {0: [1.0, 1.0, 0.0]},
                     value=[1.8e19, 3e38, 0.0], static={"approximate": approximate}),
                Trap("26: at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0],
                     static={"approximate": approximate}),
            )
        ),
        settings={"exact": {"approximate": False}, "tanh": {"approximate": True}},
    )
)  # fmt: skip
