"""The dtypes of the cotangents that hand-written rules return, which JAX does not check."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import jaxprs

__all__ = ["wrong_types"]


def wrong_types(f: Callable[..., Any], point: list[jax.Array]) -> Iterator[str]:
    """A sentence for each ``custom_vjp`` function that is called in ``f`` whose backward returns a cotangent of another
    floating-point dtype than its argument's."""

    def visit(jaxpr: Any) -> Iterator[str]:
        for eqn in jaxprs.parts(jaxpr)[0].eqns:
            if eqn.primitive.name == "custom_vjp_call":
                yield from _of_rule(eqn)
            for sub in jaxprs.subjaxprs(eqn):
                yield from visit(sub)

    yield from dict.fromkeys(visit(jax.make_jaxpr(f)(point)))


def _of_rule(eqn: Any) -> Iterator[str]:
    avals = [atom.aval for atom in eqn.invars]
    forward, backward = jaxprs.custom_vjp_rules(eqn)

    def cotangents(*values: Any) -> list[Any]:
        outs, residuals = forward(values, [True] * len(values))
        return backward(residuals, [_ones(y) for y in outs])

    try:
        found = jax.eval_shape(cotangents, *(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals))
    except Exception:  # a rule that raises is what the hand rule's own opinion says
        return
    for i, (aval, bar) in enumerate(zip(avals, found, strict=True)):
        if bar is not None and jnp.issubdtype(aval.dtype, jnp.inexact) and bar.dtype != aval.dtype:
            rule = jaxprs.custom_vjp_source(eqn)
            yield (
                f"the backward of {rule} returns a {bar.dtype} cotangent for its argument {i}, "
                f"which is {aval.dtype}: cast it; JAX does not, and goes on in {bar.dtype}"
            )


def _ones(y: Any) -> Any:
    inexact = jnp.issubdtype(y.dtype, jnp.inexact)
    return jnp.ones(y.shape, y.dtype) if inexact else np.zeros(y.shape, jax.dtypes.float0)
