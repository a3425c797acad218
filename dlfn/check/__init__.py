"""Checking gradients of any function: by hand rules, backprop, autodiff and finite differences."""

from dlfn.check.auditing import audit
from dlfn.check.calls import Audit, Call
from dlfn.check.comparison import compare
from dlfn.check.recurrence import jacobian_norms
from dlfn.check.result import Comparison

__all__ = ["Audit", "Call", "Comparison", "audit", "compare", "jacobian_norms"]
