"""What one calls the operands of a rule, its places in loops, and the coordinates of its errors."""

import ast
import functools
import linecache
from typing import Any

import jax
import numpy as np

from dlfn.check.rules import rule_of
from dlfn.check.screening import Errors
from dlfn.core import jaxprs
from dlfn.core.entering import Found, Place
from dlfn.core.primitives import is_float, op_p

__all__ = ["around", "coordinate", "inside", "operands"]


def operands(eqn: Any) -> list[str]:
    """What the operands of an equation are called."""
    n = len(eqn.invars)
    if eqn.primitive is op_p:
        call = eqn.params["call"]
        paths = jax.tree_util.tree_flatten_with_path(call.tree.unflatten(range(n)))[0]
        return [call.op.argument_name(path) for path, _ in paths]
    if names := jaxprs.operand_names(eqn):
        return names
    first = eqn.params.get("num_consts", 0)
    called = jaxprs.custom_vjp_call(eqn) if eqn.primitive.name == "custom_vjp_call" else None
    tree, static = called or (jax.tree.structure((0,) * (n - first)), ())
    rule = rule_of(eqn)
    parameters = _parameters(rule.defined, rule.name) if rule is not None and not static else []
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree.unflatten(range(n - first)))[0]]
    known = len(parameters) == len(tree.children())
    named = [
        (parameters[path[0].idx] if known else f"argument {path[0].idx}") + jax.tree_util.keystr(path[1:])
        for path in paths
    ]
    return [*[f"constant {i}" for i in range(first)], *named]


@functools.lru_cache(maxsize=256)
def _parameters(place: str, name: str) -> list[str]:
    """The parameters of the function that is written at ``file:line``, by its source."""
    path, _, line = place.rpartition(":")
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:  # a cell of a notebook with magics
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda | ast.FunctionDef):
            begins = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if begins == int(line) and getattr(node, "name", "<lambda>") == name:
                return [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return []


def coordinate(found: Found, worst: Errors, at: Any) -> list[int]:
    kind, _, i = worst.what
    if kind == "value":
        outs = [var.aval for var in found.place.eqn.outvars]
        shape = [out for out in outs if is_float(out.dtype)][i].shape
    else:
        shape = found.value[i].shape[len(at) :]
    return [int(k) for k in np.unravel_index(int(worst.coordinate[at]), shape)]


def inside(found: Found, at: Any) -> str:
    """What is around a place, from outside to inside, at these indices of its loops."""
    place, index, parts, loops = found.place, list(at), [], iter(found.steps)
    sizes = list(np.shape(found.reached))
    for eqn, body in place.around:
        name = eqn.primitive.name
        if name in ("scan", "while", "shard_map"):
            i, n = index.pop(0), sizes.pop(0)
            steps = None if name == "shard_map" else np.asarray(next(loops))[tuple(at[: len(at) - len(index)])]
            if name == "scan":
                length = eqn.params["length"]
                parts.append(f"scan step {steps} of {length}" + f" ({n} were tried)" * (n < length))
            elif name == "while":
                parts.append(f"while_loop, step {steps} ({('the first', 'the worst', 'the last')[i]})")
            else:
                parts.append(f"shard_map, device {i}")
        elif name == "cond":
            parts.append(f"branch {body} of cond")
        elif name in ("checkpoint", "remat2"):
            parts.append("checkpoint")
    return ", ".join(parts)


def around(place: Place) -> str:
    """The function with a rule in whose body a place is."""
    rules = (rule_of(eqn) for eqn, _ in place.around)
    return next((rule.name for rule in rules if rule is not None), "")
