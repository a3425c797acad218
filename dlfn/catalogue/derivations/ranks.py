"""About how many axes an expression has: enough to tell ⊙ from a product of numbers."""

import ast

from dlfn.catalogue.derivations.notation import Derivation

__all__ = ["Ranks"]

_SCALARS = {"inner", "norm", "tr", "len"}


class Ranks:
    """The number of axes of an expression of a derivation."""

    def __init__(self, derivation: Derivation):
        self.let = derivation.let
        self.ranks = {given.name: len(given.shape) for given in derivation.givens}
        self.ranks |= {each.name: 2 for each in derivation.givens if each.set in ("symmetric", "regular")}

    def __call__(self, node: ast.expr) -> int:
        match node:
            case ast.Name(id):
                if id in self.ranks:
                    return self.ranks[id]
                let = self.let.get(id)
                return self(let.body) if let and let.parameters is None else 0
            case ast.UnaryOp(_, operand):
                return self(operand)
            case ast.BinOp(left, ast.MatMult(), right):
                return max(0, self(left) + self(right) - 2)
            case ast.BinOp(left, _, right):
                return max(self(left), self(right))
            case ast.Attribute(value, "T"):
                return self(value)
            case ast.Subscript(value, index):
                entries = index.elts if isinstance(index, ast.Tuple) else [index]
                kept = sum(isinstance(entry, ast.Slice) or self(entry) > 0 for entry in entries)
                return max(0, self(value) - len(entries)) + kept
            case ast.Call(ast.Name(id), arguments):
                return self._rank_of_call(id, arguments, node)
        return 0

    def _rank_of_call(self, name: str, arguments: list[ast.expr], node: ast.Call) -> int:
        if name in _SCALARS:
            return 0
        if name in ("sum", "mean"):
            return max(0, self(arguments[0]) - 1) if node.keywords else 0
        if name in ("outer", "mat", "eye"):
            return 2
        if name in ("vec", "onehot", "ones", "zeros"):
            return 1
        if name == "D":
            return self(arguments[0]) + self(arguments[1])
        if name == "stack":
            return self(arguments[0]) + 1
        if name in ("Σ", "Π", "integral"):
            return self(arguments[0])
        let = self.let.get(name)
        if let is not None and let.parameters is not None:
            kept, self.ranks = self.ranks, self.ranks | dict(zip(let.parameters, map(self, arguments)))
            rank = self(let.body)
            self.ranks = kept
            return rank
        return max(map(self, arguments), default=0)
