"""Checking: comparing gradients of any function, and the registry of cases."""

from dlfn.check.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
