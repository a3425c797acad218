"""The equation and the backward rule of a step, or the reason why it has none."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from dlfn.check.rules import rule_of
from dlfn.core.primitives import op_p
from dlfn.core.rules import RULES
from dlfn.explain import latex
from dlfn.explain.docstrings import Formulas, formulas, formulas_at
from dlfn.explain.structural import REASONS, STRUCTURAL_FORMULAS

__all__ = ["formulas_of"]

_STILL = "nothing that is differentiated comes here"


def formulas_of(eqn: Any, needs: Sequence[bool]) -> tuple[str | None, str | None, str | None]:
    """Equation, rule and reason; one of the first two may be None where there is a reason."""
    found, reason = _found(eqn, needs)
    if not any(needs):
        return found.equation, None, _STILL if found.equation else f"{reason}; {_STILL}" if reason else _STILL
    if found.equation and found.rule:
        return found.equation, found.rule, None
    return found.equation, found.rule, reason or f"{eqn.primitive.name} has no formula"


def _found(eqn: Any, needs: Sequence[bool]) -> tuple[Formulas, str | None]:
    name = eqn.primitive.name
    rule = rule_of(eqn)
    if rule is not None:
        where = f"the rule of {rule.name}, {rule.defined_at}, whose docstring has no formula"
        is_op = eqn.primitive is op_p
        found = formulas(eqn.params["call"].op.__doc__) if is_op else formulas_at(rule.defined, rule.name)
        return found, where
    if name in STRUCTURAL_FORMULAS:
        return Formulas(*STRUCTURAL_FORMULAS[name]), None
    operands = [_literal(atom) for atom in eqn.invars]
    equation = latex.equation(name, operands, eqn.params)
    if not any(needs):
        return Formulas(equation, None), _reason(name)
    if equation is None or name not in RULES:
        return Formulas(equation, None), _reason(name)
    try:
        which = [i for i, needed in enumerate(needs) if needed]
        return Formulas(equation, latex.rule(name, operands, eqn.params, which)), None
    except (TypeError, ValueError) as error:
        return Formulas(equation, None), f"the rule of {name!r} is no formula of numbers: {error}"


def _reason(name: str) -> str:
    return f"{name!r} {REASONS.get(name, 'is a primitive for which there is no formula')}"


def _literal(atom: Any) -> str | None:
    """What is written for an operand that is a number."""
    if not isinstance(atom, Literal) or np.size(atom.val) != 1:
        return None
    return latex.number(np.asarray(atom.val).reshape(()))
