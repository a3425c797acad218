import jax
import numpy as np
from scipy.special import erfcx

from dlfn import ops
from dlfn.check.registry import Bench, Case, Entry, Trap, normal, register

INF = np.inf
# Exactness has a price where XLA already fuses to the memory limit: single activations may cost this much.
EXEMPT = 0.55

# Derivatives in long double. At ±700 float32 has long underflowed, and float64 has not yet.
_LIMIT = 700
_SQRT_2_OVER_PI = np.sqrt(8 * np.arctan(np.longdouble(1))) / (2 * np.arctan(np.longdouble(1))) / 2


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _sum(a, b):
    return a + b, np.maximum(np.abs(a), np.abs(b))


def _single(value):
    return value, np.abs(value)


def _sigmoid_slope(x):
    return _single(_sigmoid(x) * _sigmoid(-x))


def _tanh_slope(x):
    return _single(4 * _sigmoid(2 * x) * _sigmoid(-2 * x))


def _relu_slope(x):
    return _single((x > 0).astype(x.dtype))


def _softplus_slope(x):
    return _single(_sigmoid(x))


def _silu_slope(x):
    x = np.clip(x, -_LIMIT, _LIMIT)
    return _sum(_sigmoid(x), x * _sigmoid(x) * _sigmoid(-x))


def _gelu_slope(x, *, approximate):
    x = np.clip(x, -37, 37)  # exp(-37**2 / 2) is near the end of float64
    if approximate:
        a = 2 * _SQRT_2_OVER_PI
        b = a * np.longdouble("0.044715")
        up, down = (_sigmoid(sign * x * (a + b * x * x)) for sign in (1, -1))
        return _sum(up, x * up * down * (a + 3 * b * x * x))
    density = np.exp(-x * x / 2) * _SQRT_2_OVER_PI / 2
    # erfcx is of float64. Its error is far below an ULP of float32, and the exponential is not in it.
    tail = np.exp(-x * x / 2) * erfcx(np.abs(x).astype(float) / np.sqrt(2)) / 2
    return _sum(np.where(x < 0, tail, 1 - tail), x * density)


def _register(op, formulas, oracle, baseline, slope, traps, static=None, name="default", floor=EXEMPT):
    case = Case(lambda lead: (normal(*lead, 5),), oracle=oracle, static=static or {}, name=name, slope=slope)
    bench = Bench(name, (normal(1024, 1024),), {"jax.nn": baseline}, static=case.static, floor=floor)
    return Entry(op, formulas, (case,), tuple(traps), (bench,))


register(
    _register(
        ops.sigmoid,
        ("linear.sigmoid",),
        lambda torch, x: torch.sigmoid(x),
        jax.nn.sigmoid,
        _sigmoid_slope,
        [
            Trap("saturation", ([20.0, -20.0],), {0: [2.0611536e-9, 2.0611536e-9]}),
            Trap("at infinity", ([INF, -INF],), {0: [0.0, 0.0]}, value=[1.0, 0.0]),
        ],
    )
)
register(
    _register(
        ops.tanh,
        ("activation.tanh",),
        lambda torch, x: torch.tanh(x),
        jax.numpy.tanh,
        _tanh_slope,
        [
            Trap("saturation", ([8.0, -8.0],), {0: [4.5014053e-7, 4.5014053e-7]}),
            Trap("at infinity", ([INF, -INF],), {0: [0.0, 0.0]}, value=[1.0, -1.0]),
        ],
    )
)
register(
    _register(
        ops.relu,
        ("network.relu",),
        lambda torch, x: torch.relu(x),
        jax.nn.relu,
        _relu_slope,
        [Trap("slope 0 at 0", ([0.0, -0.0, INF, -INF],), {0: [0.0, 0.0, 1.0, 0.0]}, value=[0.0, 0.0, INF, 0.0])],
        floor=0.97,
    )
)
register(
    _register(
        ops.silu,
        ("activation.silu",),
        lambda torch, x: torch.nn.functional.silu(x),
        jax.nn.silu,
        _silu_slope,
        [Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0])],
    )
)
register(
    _register(
        ops.softplus,
        ("activation.softplus",),
        lambda torch, x: torch.nn.functional.softplus(x, threshold=800),
        jax.nn.softplus,
        _softplus_slope,
        [
            Trap("overflow", ([100.0, -100.0],), {0: [1.0, 3.7835059e-44]}, value=[100.0, 3.7835059e-44]),
            Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0]),
        ],
    )
)

_GELU = [
    _register(
        ops.gelu,
        ("activation.gelu",),
        lambda torch, x, approximate, form=form: torch.nn.functional.gelu(x, approximate=form),
        lambda x, *, approximate: jax.nn.gelu(x, approximate=approximate),
        _gelu_slope,
        [],
        static={"approximate": approximate},
        name=name,
    )
    for name, form, approximate in (("exact", "none", False), ("tanh", "tanh", True))
]
register(
    Entry(
        ops.gelu,
        ("activation.gelu",),
        tuple(entry.cases[0] for entry in _GELU),
        tuple(
            trap
            for approximate in (False, True)
            for trap in (
                Trap("float16 from 200 on", ([200.0, 60000.0, -60000.0],), {0: [1.0, 1.0, 0.0]},
                     dtype="float16", static={"approximate": approximate}),
                Trap("the cube overflows", ([1.8e19, 3e38, -3e38],), {0: [1.0, 1.0, 0.0]},
                     value=[1.8e19, 3e38, 0.0], static={"approximate": approximate}),
                Trap("at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0],
                     static={"approximate": approximate}),
            )
        ),
        tuple(entry.benches[0] for entry in _GELU),
    )
)  # fmt: skip
