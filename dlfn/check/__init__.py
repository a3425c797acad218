"""Checking: comparing gradients of any function, and the registry of cases."""

from dlfn.check.comparison import Comparison, compare
from dlfn.check.recurrence import jacobian_norms

__all__ = ["Comparison", "compare", "jacobian_norms"]
