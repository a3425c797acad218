"""Neural-network functions for JAX whose backward passes are derived by hand and checked against autodiff."""

from dlfn import nn, ops
from dlfn.check.comparison import compare
from dlfn.core import InputError, Op, autodiff, backprop, backprop_value_and_grad, backprop_vjp, register_rule

__all__ = [
    "InputError",
    "Op",
    "autodiff",
    "backprop",
    "backprop_value_and_grad",
    "backprop_vjp",
    "compare",
    "nn",
    "ops",
    "register_rule",
]
