"""The floating-point operations of an equation, by formulas, and the bytes that it reads and writes."""

import functools
import math
from typing import Any

import jax

from dlfn.core import jaxprs
from dlfn.core.primitives import is_inexact, op_p
from dlfn.core.stripping import definition
from dlfn.explain.latex import ELEMENTWISE

__all__ = ["bytes_moved", "flops"]

_FREE = frozenset(
    ("copy", "convert_element_type", "device_put", "name", "stop_gradient", "select_n", "optimization_barrier")
)
_REDUCTIONS = frozenset(("argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"))


def bytes_moved(eqn: Any) -> int:
    """Of all operands and results, each once."""
    atoms = [atom.aval for atom in (*eqn.invars, *eqn.outvars) if hasattr(atom.aval, "dtype")]
    return sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in atoms)


def flops(eqn: Any) -> int:
    """Of an equation; of an op those of its definition, of a loop those of all its steps."""
    name, outs = eqn.primitive.name, [var.aval for var in eqn.outvars]
    size = sum(math.prod(out.shape) for out in outs)
    if name == op_p.name:
        by_definition = functools.partial(definition, eqn.params["call"])
        return _of_program(jax.make_jaxpr(by_definition)(*(atom.aval for atom in eqn.invars)))
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * size * math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * size * math.prod(kernel) // max(outputs, 1)
    if bodies := list(jaxprs.subjaxprs(eqn)):
        times = eqn.params["length"] if name == "scan" else 1
        costs = [_of_program(body) for body in bodies]
        return times * (max(costs) if name == "cond" else sum(costs))
    if name.startswith("reduce_") or name in _REDUCTIONS:
        return math.prod(eqn.invars[0].aval.shape)
    return size if name in ELEMENTWISE - _FREE and any(is_inexact(out.dtype) for out in outs) else 0


def _of_program(jaxpr: Any) -> int:
    return sum(map(flops, jaxprs.parts(jaxpr)[0].eqns))
