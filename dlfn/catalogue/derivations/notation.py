"""How a derivation is written down: once, as text, of which the formulas to read, the numbers and the proofs are made.

::

    == linear.sigmoid
    z: real
    σ(z) := 1 / (1 + exp(-z))

    - D(σ(z), z) = exp(-z) / (1 + exp(-z))**2
      By the quotient rule; the numerator is 1.

First what is given, with the set that random points are drawn from; then what is set, by ``:=``; then the steps, each a
chain of equal sides in Python's notation and the reason why they are equal. ``D(y, x)`` is a derivative, the
cotangent of x where y is ``inner(dy, y)``; the other functions are those of
:mod:`dlfn.catalogue.derivations.numbers`. A side may be inexact: ``x = 3.14 ± 1e-2``.
"""

import ast
import copy
import dataclasses
import re
from collections.abc import Iterator

__all__ = ["BINDERS", "Derivation", "Given", "Let", "Step", "expanded", "parse"]

# Words whose second argument is a variable of the first.
BINDERS = ("D", "Σ", "Π", "integral", "stack")


@dataclasses.dataclass(frozen=True)
class Given:
    """A quantity that is drawn at random: ``x: real(2, 3)``."""

    name: str
    set: str
    shape: tuple[int, ...]
    bounds: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Let:
    """A quantity or function that is set: ``σ(z) := 1 / (1 + exp(-z))``."""

    name: str
    parameters: tuple[str, ...] | None
    body: ast.expr


@dataclasses.dataclass(frozen=True)
class Step:
    """Sides that are equal, or the first of which is at least the second, and why.

    Attributes:
        sides: of the chain, two or more.
        relation: ``"="`` or ``"≥"``.
        why: a sentence.
        tolerance: the largest distance of the sides, in units of the largest number among them, or 1.
    """

    sides: tuple[ast.expr, ...]
    relation: str
    why: str
    tolerance: float = 1e-9

    def __str__(self) -> str:
        return f" {self.relation} ".join(map(ast.unparse, self.sides))


@dataclasses.dataclass(frozen=True)
class Derivation:
    """The derivation of one row of the catalogue."""

    id: str
    givens: tuple[Given, ...]
    lets: tuple[Let, ...]
    steps: tuple[Step, ...]

    @property
    def let(self) -> dict[str, Let]:
        return {let.name: let for let in self.lets}


def parse(text: str) -> Iterator[Derivation]:
    """The derivations of a text.

    >>> [derivation] = parse('''
    ... == calculus.power
    ... x: positive
    ... f(x) := x**3
    ...
    ... - D(f(x), x) = 3 * x**2
    ...   The rule for powers.
    ... ''')
    >>> print(derivation.id, derivation.givens[0].set, derivation.steps[0], derivation.steps[0].why)
    calculus.power positive D(f(x), x) = 3 * x ** 2 The rule for powers.
    """
    for block in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        id, _, rest = block.partition("\n")
        head, *steps = re.split(r"^- ", rest, flags=re.MULTILINE)
        givens, lets = [], []
        for line in _joined(head):
            name, kind, value = re.split(r"\s*(:=|:)\s+", line, maxsplit=1)
            if kind == ":=":
                signature, body = _expression(name), _expression(value)
                if isinstance(signature, ast.Call):
                    lets.append(Let(ast.unparse(signature.func), tuple(map(ast.unparse, signature.args)), body))
                else:
                    lets.append(Let(ast.unparse(signature), None, body))
            else:
                set, _, numbers = value.rstrip(")").partition("(")
                sizes = tuple(int(n) for n in numbers.split(",") if n)
                for each in name.split(","):
                    bounds = sizes[:2] if set == "integer" else ()
                    givens.append(Given(ast.unparse(_expression(each.strip())), set, sizes[len(bounds) :], bounds))
        yield Derivation(id.strip(), tuple(givens), tuple(lets), tuple(map(_step, steps)))


def _joined(head: str) -> list[str]:
    """Lines, with those that are indented joined to the line before."""
    return [line for line in re.sub(r"\n[ ]+", " ", head).split("\n") if line.strip()]


def _step(text: str) -> Step:
    lines = text.rstrip().split("\n")
    sides = lines.pop(0)
    while lines and lines[0].strip().startswith(("= ", "≥ ", "| ")):
        sides += " " + lines.pop(0).strip().removeprefix("| ")
    sides, _, tolerance = sides.partition(" ± ")
    relation = "≥" if " ≥ " in sides else "="
    chain = tuple(map(_expression, sides.split(f" {relation} ")))
    return Step(chain, relation, " ".join(line.strip() for line in lines), float(tolerance or 1e-9))


def _expression(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def expanded(node: ast.expr, derivation: Derivation, bound: frozenset[str] = frozenset()) -> ast.expr:
    """The side of a step as Python: what is set is written out, but for what a derivative is taken by, and
    ``D(y, x)`` is ``D(lambda x: y, x)``; so are sums over an index."""
    return ast.fix_missing_locations(_Expansion(derivation, bound).visit(copy.deepcopy(node)))


class _Expansion(ast.NodeTransformer):
    def __init__(self, derivation: Derivation, bound: frozenset[str]):
        self.derivation, self.bound = derivation, bound

    def visit_Name(self, node: ast.Name) -> ast.expr:
        let = self.derivation.let.get(node.id)
        if let is None or node.id in self.bound:
            return node
        if let.parameters is None:
            return expanded(let.body, self.derivation, self.bound)
        body = expanded(let.body, self.derivation, self.bound | set(let.parameters))
        return _function(let.parameters, body)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in BINDERS or isinstance(node.args[0], ast.Lambda):
            return self.generic_visit(node)  # pyright: ignore[reportReturnType]
        body, variable, *rest = node.args
        if isinstance(variable, ast.Subscript):  # the derivative by one entry is an entry of the derivative
            whole = ast.Call(node.func, [body, variable.value], [])
            entries = variable.slice.elts if isinstance(variable.slice, ast.Tuple) else [variable.slice]
            index = ast.Tuple([ast.Constant(...), *entries], ast.Load())
            return ast.Subscript(self.visit(whole), self.visit(index), ast.Load())
        variable_name = ast.unparse(variable)
        inner = _function((variable_name,), expanded(body, self.derivation, self.bound | {variable_name}))
        if name == "D":
            rest = rest or [variable]
        return ast.Call(node.func, [inner, *(self.visit(each) for each in rest)], [])


def _function(parameters: tuple[str, ...], body: ast.expr) -> ast.Lambda:
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(name) for name in parameters], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    return ast.Lambda(arguments, body)
