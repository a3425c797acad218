"""What happened at the origin of a nan, an inf, a zero or a loss of digits, in a sentence."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from dlfn.check.origins import Origin

__all__ = ["explain"]

_SYMBOLS = {"mul": "×", "div": "/", "sub": "−", "add": "+", "add_any": "+"}
_SUMS = ("dot_general", "reduce_sum", "conv_general_dilated", "cumsum", "scatter-add")
_FACTORISATIONS = {
    "cholesky": "cholesky of a matrix that is not positive definite",
    "triangular_solve": "a triangular matrix with a 0 on its diagonal",
}
_GUARD = "a where behind it guards the value and not the gradient: give {} a safe operand, by a second where before it"
_POLES = {"div": (0,), "log": (0,), "rsqrt": (0,), "integer_pow": (0,), "log1p": (-1,), "atanh": (-1, 1)}


def explain(origin: Origin) -> str:
    if origin.step is None:
        return f"{origin.path[0]} is nan when it is passed"
    return _EXPLANATIONS[origin.kind](origin)


def _nan(origin: Origin) -> str:
    name, operands, inside = origin.primitive, origin.operands, origin.derivative_of
    said = _formula(origin)
    if any("nan" in str(x) for x in operands):
        return f"a constant is nan: {said}"
    if name in _FACTORISATIONS:
        said = _FACTORISATIONS[name]
    elif name in _SUMS:
        said = f"0 × inf or inf − inf among the terms: {said}"
    elif _opaque(origin):
        said = f"a nan comes of {said}"
    elif name not in _SYMBOLS:
        said = f"{said} is not a real number"
    if inside:
        said = f"{said} in the backward pass of {inside}"
        zero_cotangent = any(x == 0 and bar for x, bar in zip(operands, origin.cotangents, strict=True))
        if zero_cotangent and (name == "div" or any(cause.derivative_of == inside for cause in origin.causes)):
            said = f"{said}; {_GUARD.format(inside)}"
    elif name in ("sub", "add") and all("-inf" in str(x) for x in operands):
        said = f"{said}, as in a row that is masked throughout; take the maximum of such a row as 0"
    return said


def _inf(origin: Origin) -> str:
    name, operands, said = origin.primitive, origin.operands, _formula(origin)
    if operands[-1] in _POLES.get(name, ()) or (name == "pow" and operands[0] == 0):
        of = origin.derivative_of
        return f"the derivative of {of} is infinite there: {said}" if of else f"{said} is infinite"
    if _opaque(origin):
        return f"an infinity comes of {said}"
    largest = float(jnp.finfo(origin.dtype).max)
    return f"overflow: {said} exceeds {largest:.3g}, the largest {origin.dtype}"


def _opaque(origin: Origin) -> bool:
    """Whether an equation is a whole program, such as a factorisation, a kernel or the shards of ``shard_map``."""
    name = origin.primitive
    return name not in (*_SUMS, *_SYMBOLS) and any(isinstance(x, str) for x in origin.operands)


def _zero(origin: Origin) -> str:
    if origin.primitive in ("sub", "add", "add_any"):
        return f"{_formula(origin)} is 0 by rounding: the operands agree in all of their digits"
    return f"underflow: {_formula(origin)} is rounded to 0 in {origin.dtype}"


def _dead(origin: Origin) -> str:
    if origin.primitive == "select_n":
        return "no cotangent passes: a where, or the kink of an activation, takes its other branch everywhere"
    of = origin.derivative_of or origin.primitive
    return f"no cotangent passes {of}: its derivative is 0 wherever the cotangent is not"


def _lossy(origin: Origin) -> str:
    grown = f"the relative error grows {origin.factor:.1e} times, to {origin.error:.1e}"
    cancels = origin.primitive in ("sub", "add", "add_any")
    return f"{'cancellation in ' * cancels}{_formula(origin)}: {grown}"


_EXPLANATIONS: dict[str, Callable[[Origin], str]] = {
    "nan": _nan,
    "inf": _inf,
    "zero": _zero,
    "dead": _dead,
    "lossy": _lossy,
}


def _formula(origin: Origin) -> str:
    shown = [_number(x) for x in origin.operands]
    if origin.primitive in _SYMBOLS and len(shown) == 2:
        return f" {_SYMBOLS[origin.primitive]} ".join(shown)
    if origin.primitive == "convert_element_type":
        return shown[0]
    return f"{origin.primitive} of {' and '.join(shown)}"


def _number(x: Any) -> str:
    return x if isinstance(x, str) else f"{x:.7g}"
