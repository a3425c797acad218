r"""Formulas out of programs: a rule of the sheet is traced on numbers and printed as LaTeX; nothing is written twice.

>>> print(rule("sin"))
\bar x = \bar y \, \cos x
>>> print(rule("div"))
\bar a = \frac{\bar y}{b}, \qquad \bar b = \frac{-\bar y \, y}{b}
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from dlfn.core import jaxprs
from dlfn.core.rules import RULES, NoRule

__all__ = ["ELEMENTWISE", "equation", "number", "rule"]


class _Text(NamedTuple):
    """A formula, and how closely it holds together: 1 as a sum, 2 a product, 3 a power or function, 4 one symbol."""

    latex: str
    binds: int

    def within(self, binds: int) -> str:
        return self.latex if self.binds >= binds else rf"\left({self.latex}\right)"


_Printer = Callable[[Sequence[_Text], Mapping[str, Any]], _Text]


def _function(name: str) -> _Printer:
    return lambda xs, _: _Text(rf"{name}{_applied(xs)}", 3)


def _applied(xs: Sequence[_Text]) -> str:
    if len(xs) == 1 and xs[0].binds == 4:
        return f" {xs[0].latex}"
    return rf"\left({', '.join(x.latex for x in xs)}\right)"


def _named(name: str) -> _Printer:
    return _function(rf"\operatorname{{{name}}}")


def _infix(sign: str, binds: int, left: int, right: int) -> _Printer:
    return lambda xs, _: _Text(f"{xs[0].within(left)} {sign} {xs[1].within(right)}", binds)


def _sum(xs: Sequence[_Text], _: Any) -> _Text:
    a, b = xs
    if b.latex.startswith("-"):
        return _Text(f"{a.latex} - {b.latex[1:]}", 1)
    return _Text(f"{a.latex} + {b.latex}", 1)


def _form(latex: str, binds: int = 4, within: int = 0) -> _Printer:
    return lambda xs, _: _Text(latex.format(*(x.within(within) for x in xs)), binds)


def _product(xs: Sequence[_Text], _: Any) -> _Text:
    a, b = xs
    if a.latex == b.latex and not _is_number(a):
        return _Text(f"{a.within(4)}^2", 3)
    if a.latex == "1" or b.latex == "1":
        return b if a.latex == "1" else a
    if _is_number(b) and not _is_number(a):
        a, b = b, a
    if b.latex.startswith("-"):
        a, b = b, a
    left = a.latex if a.binds == 2 or a.latex.startswith("-") else a.within(2)
    return _Text(rf"{left} \, {b.within(2)}", 2)


def _is_number(x: _Text) -> bool:
    return x.latex.lstrip("-")[:1].isdigit() or x.latex.lstrip("-").startswith((r"\tfrac", r"\ln 2"))


def _negative(xs: Sequence[_Text], _: Any) -> _Text:
    if xs[0].latex in ("0", "1") or xs[0].binds >= 2:
        return _Text(f"-{xs[0].latex}", 2)
    return _Text(f"-{xs[0].within(2)}", 2)


def _power(xs: Sequence[_Text], params: Mapping[str, Any]) -> _Text:
    exponent = str(params["y"]) if "y" in params else xs[1].latex
    if exponent == "1":
        return xs[0]
    return _Text(rf"{xs[0].within(4)}^{{{exponent}}}", 3)


def _choice(xs: Sequence[_Text], _: Any) -> _Text:
    which, *cases = xs
    if len(cases) == 2:
        rows = rf"{cases[1].latex} & {which.latex} \\ {_rows(cases[0].latex)}"
    else:
        rows = r" \\ ".join(rf"{case.latex} & {which.latex} = {i}" for i, case in enumerate(cases))
    return _Text(rf"\begin{{cases}} {rows} \end{{cases}}", 3)


def _rows(otherwise: str) -> str:
    """What remains of a choice; where that is another choice, its rows."""
    begin, end = r"\begin{cases} ", r" \end{cases}"
    if otherwise.startswith(begin) and otherwise.endswith(end) and otherwise.count(begin) == 1:
        return otherwise[len(begin) : -len(end)]
    return rf"{otherwise} & \text{{otherwise}}"


def _polynomial(xs: Sequence[_Text], _: Any) -> _Text:
    return _Text(r"\sum_k c_k x^k", 1)


def _complex(xs: Sequence[_Text], _: Any) -> _Text:
    real, imaginary = xs
    if imaginary.latex == "0":
        return real
    if real.latex == "0" and imaginary.latex.startswith("-"):
        return _Text(f"-i {imaginary.latex[1:]}", 2)
    return _Text(f"{real.latex} + i {imaginary.within(2)}", 1)


_same: _Printer = lambda xs, _: xs[0]  # noqa: E731

_PRINTERS: dict[str, _Printer] = {
    "add": _sum,
    "add_any": _sum,
    "sub": _infix("-", 1, 1, 2),
    "mul": _product,
    "div": _form(r"\frac{{{}}}{{{}}}", 3),
    "rem": _infix(r"\bmod", 2, 3, 3),
    "neg": _negative,
    "square": _form("{}^2", 3, 4),
    "integer_pow": _power,
    "pow": _power,
    "sqrt": _form(r"\sqrt{{{}}}"),
    "rsqrt": _form(r"\frac{{1}}{{\sqrt{{{}}}}}", 3),
    "cbrt": _form(r"\sqrt[3]{{{}}}"),
    "one_minus_square": _form("1 - {}^2", 1, 4),
    "exp": _form("e^{{{}}}", 3),
    "exp2": _form("2^{{{}}}", 3),
    "expm1": _form("e^{{{}}} - 1", 1),
    "log": _function(r"\ln"),
    "log2": _function(r"\log_2"),
    "log1p": lambda xs, _: _Text(rf"\ln\left({_sum([_Text('1', 4), xs[0]], _).latex}\right)", 3),
    "logistic": _function(r"\sigma"),
    "abs": _form(r"\left|{}\right|"),
    "sign": _named("sign"),
    **{name: _function(f"\\{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "asin": _function(r"\arcsin"),
    "acos": _function(r"\arccos"),
    "atan": _function(r"\arctan"),
    "atan2": _named("atan2"),
    **{name: _named(f"ar{name[1:]}") for name in ("asinh", "acosh", "atanh")},
    "max": _function(r"\max"),
    "min": _function(r"\min"),
    "clamp": _form(r"\min(\max({1}, {0}), {2})", 3),
    "select_n": _choice,
    "polynomial": _polynomial,
    "nextafter": _named("nextafter"),
    "copy": _same,
    "copy_p": _same,
    "name": _same,
    "convert_element_type": _same,
    "reduce_precision": _named("round"),
    "optimization_barrier": _same,
    "device_put": _same,
    "xla_metadata_value": _same,
    "with_memory_space_constraint": _same,
    "stop_gradient": _same,
    "erf": _named("erf"),
    "erfc": _named("erfc"),
    "erf_inv": _form(r"\operatorname{{erf}}^{{-1}}({})", 3),
    "lgamma": _form(r"\ln \Gamma({})", 3),
    "digamma": _function(r"\psi"),
    "polygamma": _form(r"\psi^{{({0})}}({1})", 3),
    "zeta": _function(r"\zeta"),
    "igamma": _function("P"),
    "igammac": _function("Q"),
    "igamma_grad_a": _form(r"\frac{{\partial P({0}, {1})}}{{\partial {0}}}", 3),
    "random_gamma_grad": _form(r"\frac{{\partial {1}}}{{\partial {0}}}", 3),
    "regularized_incomplete_beta": _form(r"I_{{{2}}}({0}, {1})", 3),
    "bessel_i0e": _form(r"e^{{-|{0}|}} I_0({0})", 2),
    "bessel_i1e": _form(r"e^{{-|{0}|}} I_1({0})", 2),
    "complex": _complex,
    "real": _form(r"\operatorname{{Re}} {}", 3, 4),
    "imag": _form(r"\operatorname{{Im}} {}", 3, 4),
    "conj": _form("{}^*", 3, 4),
    "floor": _form(r"\lfloor {} \rfloor"),
    "ceil": _form(r"\lceil {} \rceil"),
    "round": _named("round"),
    "trunc": _named("trunc"),
    "is_finite": _form(r"[{} \text{{ is finite}}]"),
    "eq": _infix("=", 0, 1, 1),
    "ne": _infix(r"\ne", 0, 1, 1),
    "lt": _infix("<", 0, 1, 1),
    "le": _infix(r"\le", 0, 1, 1),
    "gt": _infix(">", 0, 1, 1),
    "ge": _infix(r"\ge", 0, 1, 1),
    **{f"{name}_to": _infix(sign, 0, 1, 1) for name, sign in (("eq", "="), ("lt", "<"), ("le", r"\le"))},
    "and": _infix(r"\wedge", 0, 1, 1),
    "or": _infix(r"\vee", 0, 1, 1),
    "xor": _infix(r"\oplus", 0, 1, 1),
    "not": _form(r"\neg {}", 3, 4),
}
# Printed where a rule uses them, where they do nothing to a number.
_WITHIN = {"broadcast_in_dim": _same, "reshape": _same, "reduce_sum": _same, "squeeze": _same, "pvary": _same}

_OPERANDS = {
    1: ("x",),
    2: ("a", "b"),
    3: ("a", "b", "c"),
}
_OPERANDS_OF = {
    "clamp": ("l", "x", "u"),
    "polygamma": ("m", "x"),
    "zeta": ("s", "a"),
    "igamma": ("a", "x"),
    "igammac": ("a", "x"),
    "igamma_grad_a": ("a", "x"),
    "regularized_incomplete_beta": ("a", "b", "x"),
    "random_gamma_grad": ("a", "y"),
    "complex": ("x", "y"),
    "select_n": ("k", "a", "b"),
}
_RESULT_OF = {"complex": "z"}
_TWO = frozenset(("max", "min", "nextafter", "rem", "atan2", "pow"))
ELEMENTWISE = frozenset(_PRINTERS) - {"polynomial", "random_gamma_grad", "trunc", "pvary"}


def number(value: Any) -> str:
    """A number as one writes it: 2, 1/2, ln 2, −1.5, 10⁻⁵."""
    value = np.asarray(value).item()
    if not isinstance(value, float) or not math.isfinite(value):
        return {"inf": r"\infty", "-inf": r"-\infty"}.get(str(value), str(value))
    sign, size = "-" if value < 0 else "", abs(value)
    known = (
        (math.log(2), r"\ln 2"), (math.sqrt(math.pi) / 2, r"\tfrac{\sqrt\pi}{2}"),
        (2 / math.sqrt(math.pi), r"\tfrac{2}{\sqrt\pi}"), (0.5, r"\tfrac12"), (math.pi, r"\pi"),
        (math.sqrt(2), r"\sqrt 2"),
    )  # fmt: skip
    for constant, latex in known:
        if math.isclose(size, constant, rel_tol=1e-6):
            return sign + latex
    mantissa, _, exponent = f"{size:.5g}".partition("e")
    if not exponent:
        return sign + mantissa
    power = f"10^{{{int(exponent)}}}"
    return sign + (power if mantissa == "1" else rf"{mantissa} \cdot {power}")


def symbols(name: str, n: int) -> tuple[str, tuple[str, ...]]:
    """What the result and the n operands of a primitive are called."""
    operands = _OPERANDS_OF.get(name, _OPERANDS.get(n, ()))
    return _RESULT_OF.get(name, "y"), operands if len(operands) == n else tuple(f"x_{{{i}}}" for i in range(n))


def equation(name: str, operands: Sequence[str | None], params: Mapping[str, Any]) -> str | None:
    """``y = \\sin x``, or None for what is not elementwise. Operands that are numbers are given, others are None."""
    if name not in ELEMENTWISE and name != "polynomial":
        return None
    result, called = symbols(name, len(operands))
    texts = [_Text(given or symbol, 4) for given, symbol in zip(operands, called, strict=True)]
    return f"{result} = {_PRINTERS[name](texts, params).latex}"


def rule(
    name: str,
    operands: Sequence[str | None] | None = None,
    params: Mapping[str, Any] | None = None,
    which: Sequence[int] | None = None,
) -> str:
    """The backward rule of an elementwise primitive, ``\\bar x = \\bar y \\, \\cos x``; of those operands alone that
    ``which`` lists. Operands are as for :func:`equation`.

    Raises:
        ValueError: where the rule does not give cotangents of numbers by functions that have a name.
    """
    operands = [None] * _count(name) if operands is None else operands
    result, called = symbols(name, len(operands))
    which = range(len(operands)) if which is None else which
    function = RULES[name]
    empty: dict[int, Any] = {}

    def traced(g: Any, y: Any, *xs: Any) -> list[Any]:
        several = name in ("device_put", "optimization_barrier")
        assert function is not None
        found = function([g] if several else g, [y] if several else y, *xs, **(params or {}))
        found = found if isinstance(found, tuple | list) else (found,)
        empty.update({i: f for i, f in enumerate(found) if f is None or isinstance(f, NoRule)})
        return [f for f in found if f is not None and not isinstance(f, NoRule)]

    if function is None:
        empty, texts = dict.fromkeys(range(len(operands))), iter(())
    else:
        jaxpr = jax.make_jaxpr(traced)(*_kinds(name, len(operands)))
        known = [_Text(given or symbol, 4) for given, symbol in zip(operands, called, strict=True)]
        texts = iter(_printed(jaxpr, [_Text(rf"\bar {result}", 4), _Text(result, 4), *known]))
    parts = []
    for i, symbol in enumerate(called):
        text = None if i in empty else next(texts).latex
        if i in which and isinstance(empty.get(i), NoRule):
            parts.append(rf"\bar {symbol} \text{{ has no rule {empty[i]}}}")
        elif i in which:
            parts.append(rf"\bar {symbol} = {text or 0}")
    return r", \qquad ".join(parts)


def _count(name: str) -> int:
    """How many operands a primitive has, by its symbols or by what its printer takes."""
    if name in _OPERANDS_OF:
        return len(_OPERANDS_OF[name])
    try:
        _PRINTERS[name]([_Text("x", 4)], {"y": 2})
    except IndexError:
        return 2
    except ValueError:
        return 2
    return 1 if name not in _TWO else 2


def _kinds(name: str, n: int) -> list[Any]:
    real, complex_ = jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct((), np.complex64)
    if name == "select_n":
        return [real, real, jax.ShapeDtypeStruct((), np.bool_), *[real] * (n - 1)]
    if name in ("real", "imag", "conj"):
        return [complex_ if name == "conj" else real, complex_ if name == "conj" else real, complex_]
    if name == "complex":
        return [complex_, complex_, real, real]
    return [real] * (2 + n)


def _printed(jaxpr: Any, texts: Sequence[_Text]) -> list[_Text]:
    jaxpr, consts = jaxprs.parts(jaxpr)
    env = dict(zip(jaxpr.invars, texts, strict=True))
    env.update((var, _of_number(value)) for var, value in zip(jaxpr.constvars, consts, strict=True))

    def read(atom: Any) -> _Text:
        return _of_number(atom.val) if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        name, ins = eqn.primitive.name, [read(atom) for atom in eqn.invars]
        printer = _PRINTERS.get(name) or _WITHIN.get(name)
        if name in ("jit", "pjit", "custom_jvp_call"):
            outs = _printed(next(jaxprs.subjaxprs(eqn)), ins)
        elif printer is None:
            raise ValueError(f"{name!r} has no symbol")
        else:
            outs = [printer(ins, eqn.params)]
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _of_number(value: Any) -> _Text:
    text = number(value)
    return _Text(text, 2 if text.startswith("-") else 4)
