"""Both sides of a step as SymPy's expressions, and whether they are proven equal. SymPy is imported here alone."""

import ast
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy

from dlfn.catalogue.derivations.notation import Derivation, Given, Step, expanded
from dlfn.catalogue.derivations.numbers import PUBLIC, draw

__all__ = ["proven"]

# Operations in a difference, and symbols in a step, beyond which expanding or simplifying would take minutes: numbers
# have to do.
_EXPANDED, _SIMPLIFIED = 600, 120
_SYMBOLS = 30


def proven(step: Step, derivation: Derivation) -> bool:
    """Whether SymPy finds the sides equal for all values of what is given. False also where it cannot say, because a
    side has an algorithm, a maximum, or an object of the library in it."""
    if step.relation != "=" or step.tolerance != 1e-9:
        return False
    rng = np.random.default_rng(0)
    given = {given.name: _symbols(given, rng) for given in derivation.givens}
    names = {
        node.id for side in step.sides for node in ast.walk(expanded(side, derivation)) if isinstance(node, ast.Name)
    }
    if names & _NOT_SYMBOLIC or sum(np.size(given[name]) for name in names & given.keys()) > _SYMBOLS:
        return False
    scope = _WORDS | given
    try:
        sides = [np.asarray(eval(_compiled(side, derivation), scope)) for side in step.sides]
    except (NameError, TypeError, AttributeError, ValueError):  # a word without a symbolic meaning
        return False
    return all(
        left.shape == right.shape and all(map(_equal, left.ravel(), right.ravel()))
        for left, right in itertools.pairwise(sides)
    )


def _compiled(side: ast.expr, derivation: Derivation) -> Any:
    exact = _Exact().visit(expanded(side, derivation))
    return compile(ast.fix_missing_locations(ast.Expression(exact)), f"<{derivation.id}>", "eval")


class _Exact(ast.NodeTransformer):
    """1 / 2 is a half, and 0.5 is, too."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, float):
            return ast.Call(ast.Name("number", ast.Load()), [ast.Constant(repr(node.value))], [])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            node.left = ast.Call(ast.Name("exact", ast.Load()), [node.left], [])
        return node


def _equal(left: Any, right: Any) -> bool:
    difference = sympy.sympify(left) - sympy.sympify(right)
    if difference == 0:
        return True
    size = difference.count_ops()
    if size > _EXPANDED:
        return False
    if sympy.expand(difference) == 0:
        return True
    return size <= _SIMPLIFIED and any(
        simpler(difference) == 0
        for simpler in (sympy.cancel, sympy.simplify, lambda d: sympy.simplify(d.rewrite(sympy.exp)))
    )


def _symbols(given: Given, rng: np.random.Generator) -> Any:
    if given.set in ("integer", "binary"):
        number = draw(given, rng)
        return np.vectorize(lambda x: sympy.Integer(int(x)), otypes=[object])(number) if given.shape else int(number)
    positive = given.set in ("positive", "unit", "simplex", "table")
    shape = given.shape * 2 if given.set in ("symmetric", "regular") else given.shape
    symbols = np.empty(shape, object)
    for index in np.ndindex(shape):
        name = given.name + "_".join(map(str, sorted(index) if given.set == "symmetric" else index))
        symbols[index] = sympy.Symbol(name, real=True, positive=positive or None)
    if given.set == "simplex":
        symbols[..., -1] = 1 - symbols[..., :-1].sum(-1)
    if given.set == "table":
        symbols.flat[-1] = 1 - symbols.ravel()[:-1].sum()
    return symbols if shape else symbols.item()


def _derivative(f: Callable[[Any], Any], at: Any) -> Any:
    places = np.asarray(at, dtype=object)
    dummies = np.empty(places.shape, object)
    for index in np.ndindex(places.shape):
        dummies[index] = sympy.Dummy(real=True, positive=sympy.sympify(places[index]).is_positive or None)
    y = np.asarray(f(dummies if places.shape else dummies.item()), dtype=object)
    substitution = dict(zip(dummies.ravel(), places.ravel()))
    result = np.empty(y.shape + places.shape, object)
    for out in np.ndindex(y.shape):
        for into in np.ndindex(places.shape):
            result[out + into] = sympy.diff(y[out], dummies[into]).subs(substitution)
    return result if result.shape else result.item()


def _each(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: np.vectorize(f, otypes=[object])(x) if np.ndim(x) else f(x)


def _sum(x: Any, **options: Any) -> Any:
    return np.sum(np.asarray(x, dtype=object), **options)


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    total = _sum(x, axis=axis, keepdims=keepdims)
    return total / sympy.Integer(np.size(x) // np.size(total))


_NOT_SYMBOLIC = {*PUBLIC, "integral", "max", "min", "where"}
_WORDS: dict[str, Any] = {
    "__builtins__": {},
    "number": sympy.Rational,
    "exact": lambda x: sympy.Integer(x) if isinstance(x, int) else x,
    "D": _derivative,
    "Σ": lambda f, n: functools.reduce(lambda a, b: a + b, map(f, range(int(n)))),
    "Π": lambda f, n: functools.reduce(lambda a, b: a * b, map(f, range(int(n)))),
    "stack": lambda f, n: np.array([f(i) for i in range(int(n))], dtype=object),
    "inner": lambda a, b: _sum(np.asarray(a, dtype=object) * b),
    "outer": np.outer,
    "vec": lambda *entries: np.array(entries, dtype=object),
    "mat": lambda *rows: np.array(rows, dtype=object),
    "diag": lambda x: np.diag(np.asarray(x, dtype=object)),
    "inv": lambda a: np.array(sympy.Matrix(a).inv().tolist(), dtype=object),
    "norm": lambda x: sympy.sqrt(_sum(np.asarray(x, dtype=object) ** 2)),
    "tr": np.trace,
    "eye": lambda n: np.array(sympy.eye(n).tolist(), dtype=object),
    "ones": lambda *shape: np.full(shape, sympy.Integer(1), object),
    "zeros": lambda *shape: np.full(shape, sympy.Integer(0), object),
    "ids": lambda *numbers: np.array(numbers),
    "onehot": lambda i, n: np.array(sympy.eye(n).tolist(), dtype=object)[np.asarray(i, int)],
    "pi": sympy.pi,
    "sum": _sum,
    "mean": _mean,
    "abs": _each(sympy.Abs),
    "sign": _each(sympy.sign),
    "logΓ": _each(sympy.loggamma),
    "ψ": _each(sympy.digamma),
    "len": len,
    **{
        name: _each(getattr(sympy, name))
        for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh", "erf")
    },
}
