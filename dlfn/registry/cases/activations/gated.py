"""GLU, GEGLU and SwiGLU, against PyTorch."""

import jax

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register


def _glu_oracle(torch, value, gate):
    return torch.nn.functional.glu(torch.cat([value, gate], -1), -1)


def _geglu_oracle(torch, value, gate, approximate):
    return value * torch.nn.functional.gelu(gate, approximate="tanh" if approximate else "none")


def _swiglu_oracle(torch, value, gate):
    return value * torch.nn.functional.silu(gate)


def _entry(op, oracle, plain, traps, settings=None):
    named = settings or {"default": {}}
    large = (normal(1024, 1024), normal(1024, 1024))
    return Entry(
        op,
        ("activation.peers",),
        tuple(
            Case(lambda lead: (normal(*lead, 5), normal(*lead, 5)), static, name, oracle)
            for name, static in named.items()
        ),
        traps,
        tuple(Bench(name, large, {"plain": plain}, static=static) for name, static in named.items()),
    )


register(
    _entry(
        ops.glu,
        _glu_oracle,
        lambda value, gate: value * jax.nn.sigmoid(gate),
        (Trap("saturation", ([3.0, 3.0], [20.0, -20.0]), {0: [1.0, 2.0611536e-9], 1: [6.1834608e-9, 6.1834608e-9]},
              value=[3.0, 6.1834608e-9]),
         Trap("beyond", ([3.0, 3.0], [200.0, -200.0]), {0: [1.0, 0.0], 1: [0.0, 0.0]}, value=[3.0, 0.0])),
    )
)  # fmt: skip
register(
    _entry(
        ops.geglu,
        _geglu_oracle,
        lambda value, gate, *, approximate: value * jax.nn.gelu(gate, approximate=approximate),
        tuple(
            Trap("the cube overflows", ([2.0, 2.0], [1.8e19, -1.8e19]), {0: [1.8e19, 0.0], 1: [2.0, 0.0]},
                 value=[3.6e19, 0.0], static={"approximate": approximate})
            for approximate in (False, True)
        ),
        {"exact": {"approximate": False}, "tanh": {"approximate": True}},
    )
)  # fmt: skip
register(
    _entry(
        ops.swiglu,
        _swiglu_oracle,
        lambda value, gate: value * jax.nn.silu(gate),
        (Trap("a gate of -inf is shut", ([2.0, 2.0], [float("inf"), -float("inf")]),
              {0: [float("inf"), 0.0], 1: [2.0, 0.0]}, value=[float("inf"), 0.0],
              no_bend="the slope of an infinite gate is infinite"),),
    )
)  # fmt: skip
