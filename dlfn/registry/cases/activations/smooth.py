"""Sigmoid, tanh, ReLU, GELU and their relatives: PyTorch's derivatives where it has them, true ones elsewhere."""

import math

import jax
import numpy as np

from dlfn import ops
from dlfn.registry.cases.activations._elementwise import INF, LIMIT, entry, flat, largest_of, namespace, sigmoid, single
from dlfn.registry.entry import Trap, register

PEERS = ("activation.peers",)
_SQRT_2_OVER_PI = np.sqrt(8 * np.arctan(np.longdouble(1))) / (2 * np.arctan(np.longdouble(1))) / 2


def _within(x, limit: float = LIMIT):
    return namespace(x).clip(x, -limit, limit)


def _sigmoid_slope(x):
    return single(sigmoid(x) * sigmoid(-x))


def _sigmoid_bend(x):
    x = _within(x)
    return single(-sigmoid(x) * sigmoid(-x) * namespace(x).tanh(x / 2))


def _tanh_bend(x):
    return single(8 * _sigmoid_bend(2 * x)[0])


def _silu_slope(x):
    x = _within(x)
    return largest_of(sigmoid(x), x * sigmoid(x) * sigmoid(-x))


def _silu_bend(x):
    x = _within(x)
    return largest_of(2 * sigmoid(x) * sigmoid(-x), x * _sigmoid_bend(x)[0])


def _mish_parts(x):
    """e = exp(-|x|); q = tanh(softplus(x)); its derivative; and the denominator of q in e."""
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    below = xp.where(x < 0, e * e + 2 * e + 2, 1 + 2 * e + 2 * e * e)
    q = xp.where(x < 0, e * (e + 2), 1 + 2 * e) / below
    return e, q, 4 * e * xp.where(x < 0, 1, e) * (1 + e) / below**2, below


def _mish_slope(x):
    x = _within(x)
    _, q, slope, _ = _mish_parts(x)
    return largest_of(q, x * slope)


def _mish_bend(x):
    x, xp = _within(x), namespace(x)
    e, _, slope, below = _mish_parts(x)
    left = e * (1 + 2 * e) * below - 4 * e * e * (1 + e) ** 2
    right = e * e * ((e + 2) * below - 4 * (1 + e) ** 2)
    return largest_of(2 * slope, x * 4 * xp.where(x < 0, left, right) / below**3)


def _softsign_slope(x):
    return single(1 / (1 + abs(x)) ** 2)


def _softsign_bend(x):
    xp = namespace(x)
    return single(xp.where(x == 0, xp.nan, -2 * xp.sign(x) / (1 + abs(x)) ** 3))


def _squareplus_slope(x, *, b):
    # Beyond that, the square overflows where long double is float64.
    x, xp = _within(x, 1e100), namespace(x)
    r = xp.sqrt(x * x + b)
    left = b / (2 * r * (r + xp.abs(x)))
    return single(xp.where(x < 0, left, 1 - left))


def _squareplus_bend(x, *, b):
    x, xp = _within(x, 1e100), namespace(x)
    return single(b / (2 * xp.sqrt(x * x + b) ** 3))


def _gelu_slope(x, *, approximate):
    x, xp = _within(x, 37), namespace(x)  # exp(-37**2 / 2) is near the end of float64
    if approximate:
        up, down, _, slope, _ = _gelu_tanh_parts(x)
        return largest_of(up, x * up * down * slope)
    root = xp.asarray(_SQRT_2_OVER_PI, x.dtype)
    density = xp.exp(-x * x / 2) * root / 2
    if xp is np:
        from scipy.special import erfcx  # here, so that reading the registry does not load SciPy

        # erfcx is of float64. Its error is far below an ULP of float32, and the exponential is not in it.
        tail = np.exp(-x * x / 2) * erfcx(np.abs(x).astype(float) / np.sqrt(2)) / 2
    else:
        tail = jax.scipy.special.erfc(abs(x) / math.sqrt(2)) / 2
    return largest_of(xp.where(x < 0, tail, 1 - tail), x * density)


def _gelu_bend(x, *, approximate):
    x, xp = _within(x, 37), namespace(x)
    if approximate:
        up, down, bend, slope, curve = _gelu_tanh_parts(x)
        return largest_of(2 * up * down * slope, x * bend * slope * slope, x * up * down * curve)
    density = xp.exp(-x * x / 2) * xp.asarray(_SQRT_2_OVER_PI, x.dtype) / 2
    return largest_of(2 * density, -x * x * density)


def _gelu_tanh_parts(x):
    """With u = x (a + b x²): σ(u), σ(-u) and σ″(u), u′ and u″."""
    a = namespace(x).asarray(2 * _SQRT_2_OVER_PI, x.dtype)
    b = a * namespace(x).asarray(np.longdouble("0.044715"), x.dtype)
    u = x * (a + b * x * x)
    return sigmoid(u), sigmoid(-u), _sigmoid_bend(u)[0], a + 3 * b * x * x, 6 * b * x


register(
    entry(
        ops.sigmoid,
        ("linear.sigmoid",),
        lambda torch, x: torch.sigmoid(x),
        jax.nn.sigmoid,
        _sigmoid_slope,
        _sigmoid_bend,
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
        _tanh_bend,
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
        flat(0),
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
        _silu_bend,
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
        _sigmoid_slope,
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
        lambda x: single(-_sigmoid_slope(x)[0]),
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
        _mish_bend,
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
        _softsign_slope,
        _softsign_bend,
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
        _squareplus_bend,
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
        _gelu_bend,
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
