"""Neural-network functions for JAX whose backward passes are derived by hand and checked against autodiff."""

import importlib
from typing import TYPE_CHECKING, Any

from dlfn.check import audit, compare, why
from dlfn.core import (
    GradientError,
    InputError,
    Op,
    autodiff,
    backprop,
    backprop_value_and_grad,
    backprop_vjp,
    from_vjp,
    register_rule,
)
from dlfn.explain import explain

if TYPE_CHECKING:  # for editors and type checkers, which do not ask __getattr__
    from dlfn import augmentation as augmentation
    from dlfn import bench as bench
    from dlfn import calculus as calculus
    from dlfn import catalogue as catalogue
    from dlfn import linalg as linalg
    from dlfn import linear_models as linear_models
    from dlfn import nn, ops
    from dlfn import optimizers as optimizers
    from dlfn import probability as probability
    from dlfn import registry as registry
    from dlfn import statistics as statistics
    from dlfn import testing as testing
    from dlfn import train as train
    from dlfn import weights as weights

__all__ = [
    "GradientError",
    "InputError",
    "Op",
    "audit",
    "autodiff",
    "backprop",
    "backprop_value_and_grad",
    "backprop_vjp",
    "compare",
    "explain",
    "from_vjp",
    "nn",
    "ops",
    "register_rule",
    "why",
]

# The rooms that are loaded when they are first asked for: the command line and ``compare`` need no op.
_ROOMS = frozenset(
    {
        "augmentation",
        "bench",
        "calculus",
        "catalogue",
        "linalg",
        "linear_models",
        "nn",
        "ops",
        "optimizers",
        "probability",
        "registry",
        "statistics",
        "testing",
        "train",
        "weights",
    }
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
