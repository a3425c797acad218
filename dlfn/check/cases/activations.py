import jax
import numpy as np

from dlfn import ops
from dlfn.check.registry import Bench, Case, Entry, Trap, normal, register

INF = np.inf
# numerics.md: exactness has a price where XLA already fuses to the memory limit.
EXEMPT = 0.55


def _register(op, formulas, oracle, baseline, traps, static=None, name="default", floor=EXEMPT):
    case = Case(lambda lead: (normal(*lead, 5),), oracle=oracle, static=static or {}, name=name)
    bench = Bench(name, (normal(1024, 1024),), {"jax.nn": baseline}, static=case.static, floor=floor)
    return Entry(op, formulas, (case,), tuple(traps), (bench,))


register(
    _register(
        ops.sigmoid,
        ("linear.sigmoid",),
        lambda torch, x: torch.sigmoid(x),
        jax.nn.sigmoid,
        [
            Trap("29: saturation", ([20.0, -20.0],), {0: [2.0611536e-9, 2.0611536e-9]}),
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
        [
            Trap("29: saturation", ([8.0, -8.0],), {0: [4.5014053e-7, 4.5014053e-7]}),
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
        [Trap("26: at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0])],
    )
)
register(
    _register(
        ops.softplus,
        ("activation.softplus",),
        lambda torch, x: torch.nn.functional.softplus(x, threshold=800),
        jax.nn.softplus,
        [
            Trap("19: overflow", ([100.0, -100.0],), {0: [1.0, 3.7835059e-44]}, value=[100.0, 3.7835059e-44]),
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
                Trap("24: float16 from 200 on", ([200.0, 60000.0, -60000.0],), {0: [1.0, 1.0, 0.0]},
                     dtype="float16", static={"approximate": approximate}),
                Trap("25: the cube overflows", ([1.8e19, 3e38, -3e38],), {0: [1.0, 1.0, 0.0]},
                     value=[1.8e19, 3e38, 0.0], static={"approximate": approximate}),
                Trap("26: at infinity", ([INF, -INF],), {0: [1.0, 0.0]}, value=[INF, 0.0],
                     static={"approximate": approximate}),
            )
        ),
        tuple(entry.benches[0] for entry in _GELU),
    )
)  # fmt: skip
