"""Whether a function computes in the precision of its arguments. Where it does not, no gradients agree to 1e-10."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.check.rounding import rounds
from dlfn.core import jaxprs

__all__ = ["leaves_float64"]


def leaves_float64(loss: Callable[..., Any], point: list[jax.Array]) -> str | None:
    """Where a function of float64 arrays, or a hand-written backward pass in it, first rounds to a narrower dtype; None
    if nowhere."""

    def narrow(var: Any) -> bool:
        return jnp.issubdtype(var.aval.dtype, jnp.floating) and var.aval.dtype != jnp.float64

    def visit(jaxpr: Any) -> Iterator[str]:
        for eqn in jaxprs.parts(jaxpr)[0].eqns:
            subs = list(jaxprs.subjaxprs(eqn))
            for sub in subs:
                yield from visit(sub)
            for var in filter(narrow, eqn.outvars if rounds(eqn) and not subs else ()):
                where = f"the function computes in {var.aval.dtype} ({jaxprs.source_line(eqn) or eqn.primitive.name})"
                # The arguments are float64: what is narrow before anything was cast is a constant.
                yield f"{where}, on an array that is no argument" if any(map(narrow, eqn.invars)) else where

    return next(visit(jax.make_jaxpr(jax.value_and_grad(loss))(point)), None)
