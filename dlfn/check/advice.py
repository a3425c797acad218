"""What a comparison of gradients says below its table: which rules it did not test, and why it may have failed."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dlfn.check.measures import NUMERIC
from dlfn.core import jaxprs

__all__ = ["advice", "kept_rules"]


def kept_rules(loss: Callable[..., Any], point: Sequence[jax.Array]) -> Iterator[str]:
    """A note on the rules of ``jax.custom_jvp`` that are not JAX's own, if there are any."""
    names = dict.fromkeys(jaxprs.own_custom_jvp(jax.make_jaxpr(loss)(point)))
    if names:
        yield f"taken as they are: the custom_jvp rules of {', '.join(names)}; custom_jvp=True compares them too"


def advice(result: Any, value: Any, point: dict[str, jax.Array]) -> Iterator[str]:
    """Possible causes of a comparison's failure; ``value`` is the function's, computed by the definitions."""
    if not math.isfinite(value):
        bad = [name for name, x in point.items() if not np.isfinite(x).all()]
        cause = f"{' and '.join(bad)} is not finite" if bad else "look at the definitions, or try another point"
        yield f"the value by the definitions is {float(value)}, and there is nothing to agree with: {cause}"
    elif not result.value_ok:
        error = "not finite" if result.value_error is None else f"{result.value_error:.1e}"
        yield f"the VALUE is not that of the definitions, error {error}: look at the forward"
    elif any(row.linearity is not None and row.linearity > row.bound for row in result.rows):
        yield (
            "a rule is not linear in its cotangent: twice the cotangent must give twice the gradient. A backward that "
            "drops its cotangent, squares it, clips it or takes its absolute value does this"
        )
    elif result.reference == "hand rule" and any(not row.ok for row in result.rows):
        yield "a rule is not the slope of the value, or a step of the finite differences crossed a kink"
    elif any(not row.ok and row.worst.startswith(NUMERIC) for row in result.rows):
        yield (
            "where only finite differences disagree, a step crossed a kink, a rule that is right by its definition is "
            "not the slope of the value (stop_gradient, straight-through), or a custom_jvp rule is wrong"
        )
