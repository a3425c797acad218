"""Whether a function computes in the precision of its arguments. Where it does not, no gradients agree to 1e-10."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from dlfn.core import jaxprs

__all__ = ["leaves_float64"]


def leaves_float64(loss: Callable[..., Any], point: list[jax.Array]) -> str | None:
    """Where a function of float64 arrays first computes in a narrower dtype, and the fix; None if nowhere."""

    def narrow(var: Any) -> bool:
        return jnp.issubdtype(var.aval.dtype, jnp.floating) and var.aval.dtype != jnp.float64

    def visit(jaxpr: Any) -> Iterator[str]:
        for eqn in jaxprs.parts(jaxpr)[0].eqns:
            for var in filter(narrow, eqn.outvars):
                where = f"the function computes in {var.aval.dtype} ({jaxprs.source_line(eqn) or eqn.primitive.name})"
                # The arguments are float64: what is narrow before anything was cast is a constant.
                if any(map(narrow, eqn.invars)):
                    yield f"{where}, on an array that is no argument: pass it as one, to be cast, or dtype=None"
                else:
                    yield f"{where}: pass dtype=None"
            for sub in jaxprs.subjaxprs(eqn):
                yield from visit(sub)

    return next(visit(jax.make_jaxpr(loss)(point)), None)
