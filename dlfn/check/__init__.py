"""Checking gradients of any function: by hand rules, backprop, autodiff and finite differences."""

from dlfn.check.comparison import Comparison, compare
from dlfn.check.recurrence import jacobian_norms

__all__ = ["Comparison", "compare", "jacobian_norms"]
