"""A sheet of derivative rules: the glue between ops, by family of JAX primitives."""

from dlfn.core.rules import (
    complex_numbers,
    contractions,
    elementwise,
    linear_algebra,
    reductions,
    special,
    structure,
    windows,
)
from dlfn.core.rules.table import RULES, NoRule, register_rule

__all__ = [
    "RULES", "NoRule", "complex_numbers", "contractions", "elementwise", "linear_algebra", "reductions",
    "register_rule", "special", "structure", "windows",
]  # fmt: skip
