"""The hand-written rules that a function meets: which equations have one, whose it is, what it does."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dlfn.core import jaxprs
from dlfn.core.primitives import op_p

__all__ = ["Rule", "has_rule", "moving", "rule_of"]

_KINDS = {"custom_vjp_call": "custom_vjp", "custom_jvp_call": "custom_jvp", op_p.name: "Op", jaxprs.HIJAX: "hijax"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Attributes:
    name: of the function.
    kind: ``"custom_vjp"``, ``"custom_jvp"``, ``"Op"`` or ``"hijax"``.
    defined, derived: where the function and its derivative are written, ``model.py:12``; empty where that is unknown.
    """

    name: str
    kind: str
    defined: str
    derived: str

    @property
    def of_jax(self) -> bool:
        """Whether it is one of JAX's own."""
        places = list(filter(None, (self.defined, self.derived)))
        return bool(places) and all(map(jaxprs.of_jax, places))

    @property
    def defined_at(self) -> str:
        return shortened(self.defined) or "an unknown place"

    @property
    def derived_at(self) -> str:
        return shortened(self.derived) or "an unknown place"


def rule_of(eqn: Any) -> Rule | None:
    """The rule of an equation, if it has one that is still to be applied."""
    kind = _KINDS.get(eqn.primitive.name)
    if kind is None or eqn.params.get("residuals"):
        return None
    if kind != "Op":
        name, defined, derived = jaxprs.rule_sources(eqn)
        return Rule(name, kind, defined, derived)
    op = eqn.params["call"].op
    return Rule(op.name, kind, *op.places)


def has_rule(eqn: Any) -> bool:
    """Whether an equation has a rule that is not JAX's own."""
    rule = rule_of(eqn)
    return rule is not None and not rule.of_jax


def moving(eqn: Any, values: Sequence[Any]) -> list[int]:
    """The operands of an equation in which its rule is differentiated: the floating-point ones, but for what the
    function closes over."""
    first = eqn.params.get("num_consts", 0)
    return [i for i, x in enumerate(values) if i >= first and jnp.issubdtype(jnp.result_type(x), jnp.floating)]


def shortened(place: str) -> str:
    """A place as one reads it best: relative to the current folder where it is below that, and without the folders of a
    package's installation."""
    path, _, line = place.rpartition(":")
    if not path:
        return place
    try:
        return f"{Path(path).relative_to(Path.cwd())}:{line}"
    except ValueError:
        return f"{path.rpartition(f'site-packages{os.sep}')[2]}:{line}"
