"""The formulas of a derivation as LaTeX."""

import ast
import unicodedata
from collections.abc import Callable

from dlfn.catalogue.derivations.notation import Derivation, Given, Let, Step

__all__ = ["latex"]

# How tightly what is written binds: a sum, a product, a sign, a power, an atom.
_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(1, 6)

_NAMED = {"exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "max", "min", "diag"}
_SCALARS = {"inner", "norm", "tr", "len"}
_ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar", "\u0307": r"\dot"}
_TIMES, _BELOW = r" \times ", r" \\ "
_SETS = {
    "real": r"\mathbb R",
    "positive": r"\mathbb R_{>0}",
    "unit": "(0, 1)",
    "binary": r"\{0, 1\}",
    "simplex": r"\Delta",
    "table": r"\Delta",
    "symmetric": r"\mathrm{Sym}",
    "regular": r"\mathrm{GL}",
}


def latex(part: Step | Let | Given, derivation: Derivation) -> str:
    """LaTeX of a step, or of what is given or set.

    >>> from dlfn.catalogue.derivations import derivation
    >>> sigmoid = derivation("linear.sigmoid")
    >>> print(latex(sigmoid.lets[0], sigmoid))
    \\sigma(z) = \\frac{1}{1 + e^{-z}}
    """
    write = _Writer(derivation)
    if isinstance(part, Given):
        name = write.name(part.name)
        if part.set == "integer":
            return rf"{name} \in \{{{part.bounds[0]}, \dots, {part.bounds[1]}\}}" + _power(part.shape)
        if part.set in ("symmetric", "regular"):
            return rf"{name} \in {_SETS[part.set]}({part.shape[0]})"
        return rf"{name} \in {_SETS[part.set]}" + _power(part.shape)
    if isinstance(part, Let):
        left = write.name(part.name)
        if part.parameters is not None:
            left += f"({', '.join(map(write.name, part.parameters))})"
        return f"{left} = {write(part.body)}"
    sign = " = " if part.relation == "=" else r" \ge "
    return sign.join(map(write, part.sides))


def _power(shape: tuple[int, ...]) -> str:
    return f"^{{{_TIMES.join(map(str, shape))}}}" if shape else ""


class _Writer:
    def __init__(self, derivation: Derivation):
        self.let = derivation.let
        self.ranks = {given.name: len(given.shape) for given in derivation.givens}
        self.ranks |= {each.name: 2 for each in derivation.givens if each.set in ("symmetric", "regular")}
        self.known = {*self.ranks, *self.let}

    def __call__(self, node: ast.expr) -> str:
        return self.write(node)[0]

    def within(self, node: ast.expr, least: int) -> str:
        text, binds = self.write(node)
        return text if binds >= least else _parentheses(text)

    def write(self, node: ast.expr) -> tuple[str, int]:
        kind = type(node).__name__
        method: Callable[..., tuple[str, int]] | None = getattr(self, f"write_{kind}", None)
        if method is None:
            raise TypeError(f"no LaTeX for {ast.unparse(node)}")
        return method(node)

    def write_Constant(self, node: ast.Constant) -> tuple[str, int]:
        if isinstance(node.value, str):
            return rf"\text{{{_escaped(node.value)}}}", _ATOM
        if node.value is None or isinstance(node.value, bool):
            return rf"\texttt{{{node.value}}}", _ATOM
        mantissa, _, exponent = repr(node.value).partition("e")
        if not exponent:
            return mantissa, _ATOM
        power = f"10^{{{int(exponent)}}}"
        return (power, _POWER) if mantissa == "1" else (rf"{mantissa} \cdot {power}", _PRODUCT)

    def write_Name(self, node: ast.Name) -> tuple[str, int]:
        return self.name(node.id), _ATOM

    def name(self, name: str) -> str:
        if name in ("pi", "oo"):
            return {"pi": r"\pi", "oo": r"\infty"}[name]
        if name.startswith("d") and len(name) > 1 and (name[1:] in self.known or len(_plain(name[1:])) == 1):
            return rf"\bar{{{self.name(name[1:])}}}"
        base, *marks = name.split("_")
        text = _letters(base)
        for mark in [mark for mark in marks if mark in ("hat", "tilde", "bar")]:
            text = rf"\{mark}{{{text}}}"
        subscript = ",".join(_letters(mark) for mark in marks if mark not in ("hat", "tilde", "bar", ""))
        return f"{text}_{{{subscript}}}" if subscript else text

    def write_UnaryOp(self, node: ast.UnaryOp) -> tuple[str, int]:
        return f"-{self.within(node.operand, _PRODUCT)}", _SUM

    def write_BinOp(self, node: ast.BinOp) -> tuple[str, int]:
        left, right = node.left, node.right
        match node.op:
            case ast.Add():
                return f"{self.within(left, _SUM)} + {self.within(right, _SUM)}".replace("+ -", "- "), _SUM
            case ast.Sub():
                return f"{self.within(left, _SUM)} - {self.within(right, _PRODUCT)}", _SUM
            case ast.Mult():
                if isinstance(left, ast.UnaryOp):
                    return f"-{self.within(ast.BinOp(left.operand, ast.Mult(), right), _PRODUCT)}", _SUM
                sign = r" \odot " if self.rank(left) and self.rank(right) else r"\, "
                first, second = self.within(left, _PRODUCT), self.within(right, _PRODUCT)
                if sign != r" \odot " and (
                    second[0].isdigit() or (first[-1].isdigit() and second.startswith(r"\frac"))
                ):
                    sign = r" \cdot "
                return first + sign + second, _PRODUCT
            case ast.Div():
                return rf"\frac{{{self(left)}}}{{{self(right)}}}", _PRODUCT
            case ast.FloorDiv():
                return rf"\left\lfloor \frac{{{self(left)}}}{{{self(right)}}} \right\rfloor", _ATOM
            case ast.Mod():
                return rf"{self.within(left, _PRODUCT)} \bmod {self.within(right, _PRODUCT)}", _PRODUCT
            case ast.MatMult():
                return rf"{self.within(left, _PRODUCT)}\, {self.within(right, _POWER)}", _PRODUCT
            case ast.Pow():
                return self.power(left, right), _POWER
        raise TypeError(f"no LaTeX for {ast.unparse(node)}")

    def power(self, base: ast.expr, exponent: ast.expr) -> str:
        if isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and len(base.args) == 1:
            called = base.func.id
            if called in _NAMED - {"exp"} or called in self.let:
                name = rf"\{called}" if called in _NAMED else self.name(called)
                return f"{name}^{{{self(exponent)}}}{_parentheses(self(base.args[0]))}"
        text, binds = self.write(base)
        return (text if binds == _ATOM else _parentheses(text)) + f"^{{{self(exponent)}}}"

    def write_Attribute(self, node: ast.Attribute) -> tuple[str, int]:
        if node.attr == "T":
            return f"{self.within(node.value, _ATOM)}^\\top", _POWER
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id not in self.known:
            return rf"\texttt{{{_escaped(ast.unparse(node))}}}", _ATOM
        return rf"{self.within(node.value, _ATOM)}\texttt{{.{_escaped(node.attr)}}}", _ATOM

    def write_Dict(self, node: ast.Dict) -> tuple[str, int]:
        pairs = zip(node.keys, node.values)
        return rf"\{{{', '.join(f'{self(key)}: {self(value)}' for key, value in pairs if key)}\}}", _ATOM

    def write_Subscript(self, node: ast.Subscript) -> tuple[str, int]:
        entries = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        short = all(isinstance(entry, ast.Name | ast.Constant) for entry in entries)
        index = ("" if short and all(len(ast.unparse(e)) == 1 for e in entries) else ", ").join(map(self, entries))
        text = self.within(node.value, _ATOM)
        return (f"({text})_{{{index}}}" if "_{" in text[-8:] and text.endswith("}") else f"{text}_{{{index}}}"), _ATOM

    def write_Slice(self, node: ast.Slice) -> tuple[str, int]:
        return "{:}".join(self(part) if part else "" for part in (node.lower, node.upper)), _SUM

    def write_Tuple(self, node: ast.Tuple) -> tuple[str, int]:
        return _parentheses(", ".join(map(self, node.elts))), _ATOM

    def write_List(self, node: ast.List) -> tuple[str, int]:
        return rf"\left[{', '.join(map(self, node.elts))}\right]", _ATOM

    def write_Compare(self, node: ast.Compare) -> tuple[str, int]:
        signs = {"Lt": "<", "LtE": r"\le", "Gt": ">", "GtE": r"\ge", "Eq": "=", "NotEq": r"\ne"}
        parts = [self(node.left)]
        for sign, right in zip(node.ops, node.comparators):
            parts += [signs[type(sign).__name__], self(right)]
        return " ".join(parts), 0

    def write_Lambda(self, node: ast.Lambda) -> tuple[str, int]:
        names = ", ".join(self.name(each.arg) for each in node.args.args)
        return rf"{names} \mapsto {self(node.body)}", 0

    def write_Call(self, node: ast.Call) -> tuple[str, int]:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        method = getattr(self, f"call_{name}", None)
        if method is not None:
            return method(node)
        arguments = [*map(self, node.args)]
        arguments += [rf"\text{{{_escaped(k.arg or '')}}}={self(k.value)}" for k in node.keywords]
        if name in _NAMED:
            return rf"\{name}{_parentheses(', '.join(arguments))}", _POWER
        if name is not None and name not in self.known:
            return rf"\operatorname{{{_escaped(name)}}}{_parentheses(', '.join(arguments))}", _ATOM
        return f"{self.within(node.func, _ATOM)}{_parentheses(', '.join(arguments))}", _ATOM

    def call_D(self, node: ast.Call) -> tuple[str, int]:
        of, by, *at = node.args
        free = {each.id for each in ast.walk(of) if isinstance(each, ast.Name)} & self.known
        d = r"\partial" if self.rank(by) or len(self.inputs(free)) > 1 or not isinstance(by, ast.Name) else "d"
        text, binds = self.write(of)
        short = binds == _ATOM and len(text) < 24 and "left" not in text
        variable = self(by)
        if short:
            result = rf"\frac{{{d} {text}}}{{{d} {variable}}}"
        else:
            inner = text if binds >= _PRODUCT else rf"\left[{text}\right]"
            result = rf"\frac{{{d}}}{{{d} {variable}}} {inner}"
        if at:
            return rf"\left.{result}\right|_{{{variable} = {self(at[0])}}}", _ATOM
        return result, _PRODUCT

    def inputs(self, names: set[str]) -> set[str]:
        """What is given that names depend on, by what they are set to."""
        found: set[str] = set()
        for name in names:
            let = self.let.get(name)
            if let is None:
                found.add(name)
            elif let.parameters is None:
                inner = {each.id for each in ast.walk(let.body) if isinstance(each, ast.Name)} & self.known
                found |= self.inputs(inner)
        return found

    def call_Σ(self, node: ast.Call) -> tuple[str, int]:
        return rf"\sum_{{{self(node.args[1])}}} {self.within(node.args[0], _PRODUCT)}", _PRODUCT

    def call_Π(self, node: ast.Call) -> tuple[str, int]:
        return rf"\prod_{{{self(node.args[1])}}} {self.within(node.args[0], _PRODUCT)}", _PRODUCT

    def call_stack(self, node: ast.Call) -> tuple[str, int]:
        return rf"\left[{self(node.args[0])}\right]_{{{self(node.args[1])}}}", _ATOM

    def call_ids(self, node: ast.Call) -> tuple[str, int]:
        return f"({', '.join(map(self, node.args))})", _ATOM

    def call_integral(self, node: ast.Call) -> tuple[str, int]:
        of, by, low, high = node.args
        return rf"\int_{{{self(low)}}}^{{{self(high)}}} {self.within(of, _PRODUCT)}\, d{self(by)}", _PRODUCT

    def call_exp(self, node: ast.Call) -> tuple[str, int]:
        return f"e^{{{self(node.args[0])}}}", _POWER

    def call_sqrt(self, node: ast.Call) -> tuple[str, int]:
        return rf"\sqrt{{{self(node.args[0])}}}", _ATOM

    def call_abs(self, node: ast.Call) -> tuple[str, int]:
        return rf"\left|{self(node.args[0])}\right|", _ATOM

    def call_floor(self, node: ast.Call) -> tuple[str, int]:
        return rf"\left\lfloor {self(node.args[0])} \right\rfloor", _ATOM

    def call_norm(self, node: ast.Call) -> tuple[str, int]:
        return rf"\left\lVert {self(node.args[0])} \right\rVert", _ATOM

    def call_inner(self, node: ast.Call) -> tuple[str, int]:
        return rf"\left\langle {self(node.args[0])},\, {self(node.args[1])} \right\rangle", _ATOM

    def call_outer(self, node: ast.Call) -> tuple[str, int]:
        return rf"{self.within(node.args[0], _POWER)} \otimes {self.within(node.args[1], _POWER)}", _PRODUCT

    def call_inv(self, node: ast.Call) -> tuple[str, int]:
        return f"{self.within(node.args[0], _ATOM)}^{{-1}}", _POWER

    def call_tr(self, node: ast.Call) -> tuple[str, int]:
        return rf"\operatorname{{tr}}{_parentheses(self(node.args[0]))}", _ATOM

    def call_eye(self, node: ast.Call) -> tuple[str, int]:
        return "I", _ATOM

    def call_ones(self, node: ast.Call) -> tuple[str, int]:
        return r"\mathbf 1", _ATOM

    def call_zeros(self, node: ast.Call) -> tuple[str, int]:
        return r"\mathbf 0", _ATOM

    def call_onehot(self, node: ast.Call) -> tuple[str, int]:
        return f"e_{{{self(node.args[0])}}}", _ATOM

    def call_sum(self, node: ast.Call) -> tuple[str, int]:
        return rf"\textstyle\sum{self.axis(node)} {self.within(node.args[0], _PRODUCT)}", _PRODUCT

    def call_mean(self, node: ast.Call) -> tuple[str, int]:
        return rf"\left\langle {self(node.args[0])} \right\rangle{self.axis(node)}", _ATOM

    def axis(self, node: ast.Call) -> str:
        axes = [self(keyword.value) for keyword in node.keywords if keyword.arg == "axis"]
        return rf"_{{\text{{axis }}{axes[0]}}}" if axes else ""

    def call_where(self, node: ast.Call) -> tuple[str, int]:
        test, yes, no = map(self, node.args)
        return rf"\begin{{cases}} {yes} & {test} \\ {no} & \text{{otherwise}} \end{{cases}}", _SUM

    def call_vec(self, node: ast.Call) -> tuple[str, int]:
        return rf"\begin{{bmatrix}} {_BELOW.join(map(self, node.args))} \end{{bmatrix}}", _ATOM

    def call_mat(self, node: ast.Call) -> tuple[str, int]:
        rows = [" & ".join(map(self, row.elts)) for row in node.args if isinstance(row, ast.Tuple | ast.List)]
        return rf"\begin{{bmatrix}} {_BELOW.join(rows)} \end{{bmatrix}}", _ATOM

    def rank(self, node: ast.expr, bound: frozenset[str] = frozenset()) -> int:
        """About how many axes an expression has: enough to tell ⊙ from a product of numbers."""
        match node:
            case ast.Name(id):
                if id in self.ranks:
                    return self.ranks[id]
                let = self.let.get(id)
                return self.rank(let.body) if let and let.parameters is None else 0
            case ast.UnaryOp(_, operand):
                return self.rank(operand)
            case ast.BinOp(left, ast.MatMult(), right):
                return max(0, self.rank(left) + self.rank(right) - 2)
            case ast.BinOp(left, _, right):
                return max(self.rank(left), self.rank(right))
            case ast.Attribute(value, "T"):
                return self.rank(value)
            case ast.Subscript(value, index):
                entries = index.elts if isinstance(index, ast.Tuple) else [index]
                kept = sum(isinstance(entry, ast.Slice) or self.rank(entry) > 0 for entry in entries)
                return max(0, self.rank(value) - len(entries)) + kept
            case ast.Call(ast.Name(id), arguments):
                return self._rank_of_call(id, arguments, node)
        return 0

    def _rank_of_call(self, name: str, arguments: list[ast.expr], node: ast.Call) -> int:
        if name in _SCALARS:
            return 0
        if name in ("sum", "mean"):
            return max(0, self.rank(arguments[0]) - 1) if node.keywords else 0
        if name in ("outer", "mat", "eye"):
            return 2
        if name in ("vec", "onehot", "ones", "zeros"):
            return 1
        if name == "D":
            return self.rank(arguments[0]) + self.rank(arguments[1])
        if name == "stack":
            return self.rank(arguments[0]) + 1
        if name in ("Σ", "Π", "integral"):
            return self.rank(arguments[0])
        let = self.let.get(name)
        if let is not None and let.parameters is not None:
            kept, self.ranks = self.ranks, self.ranks | dict(zip(let.parameters, map(self.rank, arguments)))
            rank = self.rank(let.body)
            self.ranks = kept
            return rank
        return max(map(self.rank, arguments), default=0)


def _plain(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))


def _letters(text: str) -> str:
    """A word of a name: Greek letters by their names, accents as commands, digits at the end as a subscript."""
    stem = text.rstrip("0123456789")
    digits = text[len(stem) :] if stem else ""
    stem = stem or text
    written = "".join(map(_letter, stem))
    if len(stem) > 1 and stem.isascii() and not stem.isdigit():
        written = rf"\mathrm{{{stem}}}"
    return f"{written}_{{{digits}}}" if digits else written


def _letter(letter: str) -> str:
    base, *marks = unicodedata.normalize("NFD", letter)
    text = base
    if "GREEK" in unicodedata.name(base, ""):
        word = unicodedata.name(base).split("LETTER ")[1].split(" WITH")[0].lower().replace("lamda", "lambda")
        capital = "CAPITAL" in unicodedata.name(base)
        text = {"omicron": "o"}.get(word, "\\" + (word.capitalize() if capital else word))
        text = {r"\phi": r"\varphi", r"\epsilon": r"\epsilon"}.get(text, text) + ("" if marks else " ")
        text = text.strip() if not marks else text
    for mark in marks:
        text = rf"{_ACCENTS[mark]}{{{text}}}" if mark in _ACCENTS else text
    return text


def _parentheses(text: str) -> str:
    tall = any(word in text for word in (r"\frac", r"\sum", r"\int", r"\prod", r"\begin", r"\left", r"^{e", r"\sqrt"))
    return rf"\left({text}\right)" if tall else f"({text})"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
