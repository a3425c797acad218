"""Hypothesis tests, and the comparison of training runs by them."""

from dlfn.statistics.hypothesis import Result, chi_squared_test, welch_t_test, z_test
from dlfn.statistics.permutation import permutation_test
from dlfn.statistics.runs import Comparison, compare_runs

__all__ = [
    "Comparison",
    "Result",
    "chi_squared_test",
    "compare_runs",
    "permutation_test",
    "welch_t_test",
    "z_test",
]
