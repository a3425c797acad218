"""A function's forward and backward pass, step by step: :func:`dlfn.explain`, and what it returns."""

from dlfn.explain.explaining import explain
from dlfn.explain.explanation import Agreement, Explanation, Group, Input, LoopInfo, Output, Parameter, Step, Term
from dlfn.explain.summaries import Summary

__all__ = [
    "Agreement",
    "Explanation",
    "Group",
    "Input",
    "LoopInfo",
    "Output",
    "Parameter",
    "Step",
    "Summary",
    "Term",
    "explain",
]
