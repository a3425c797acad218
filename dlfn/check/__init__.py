"""Checking gradients of any function: by hand rules, backprop, autodiff and finite differences; where a nan is born."""

from dlfn.check.auditing import audit
from dlfn.check.calls import Audit, Call
from dlfn.check.diagnosis import why
from dlfn.check.findings import Finding, Why
from dlfn.check.recurrence import jacobian_norms
from dlfn.check.result import Comparison
from dlfn.check.verdict import compare

__all__ = ["Audit", "Call", "Comparison", "Finding", "Why", "audit", "compare", "jacobian_norms", "why"]
