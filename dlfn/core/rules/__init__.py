"""A sheet of derivative rules: the glue between ops, by family of JAX primitives."""

from dlfn.core.rules import collectives, contractions, elementwise, reductions, structure
from dlfn.core.rules.table import RULES, register_rule

__all__ = ["RULES", "collectives", "contractions", "elementwise", "reductions", "register_rule", "structure"]
