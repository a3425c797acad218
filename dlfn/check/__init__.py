"""Checking gradients of any function: by hand rules, backprop, autodiff and finite differences."""

from dlfn.check.comparison import compare
from dlfn.check.recurrence import jacobian_norms
from dlfn.check.result import Comparison

__all__ = ["Comparison", "compare", "jacobian_norms"]
