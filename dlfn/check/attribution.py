"""How much of the error of a whole gradient each wrong rule explains."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from dlfn.check.measures import QUICK, cotangents, projected
from dlfn.core import jaxprs
from dlfn.core.entering import Place, Visitor
from dlfn.core.stripping import strip_equation

__all__ = ["shares"]


def shares(jaxpr: Any, inputs: Sequence[Any], wrong: Sequence[Place], seed: int) -> tuple[list[float], float]:
    r"""The share of each wrong rule in the error of the gradient, and that error relative to the gradient.

    One program has both forms of every wrong rule and takes what a mask says. With the gradient g of the function by
    its definitions at the wrong places, its error e = g(all rules) - g, and that of one rule alone, e_k, the share is
    the projection :math:`\langle e_k, e \rangle / \langle e, e \rangle`. What is left when a rule is mended would not
    add up with two wrong rules; the projections do, to first order.
    """
    number = {place: k for k, place in enumerate(wrong)}
    at = [i for i, x in enumerate(inputs) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]

    def outputs(point: Sequence[Any], mask: Any) -> list[Any]:
        values = list(inputs)
        for i, x in zip(at, point, strict=True):
            values[i] = x

        def visit(place: Place, values: list[Any]) -> tuple[Sequence[Any] | None, None]:
            if place not in number:
                return None, None
            eqn = place.eqn
            chosen: list[Callable[..., Any]] = [
                lambda *values: jaxprs.bind(eqn, values),
                lambda *values: list(strip_equation(eqn, *values)),
            ]
            return lax.cond(mask[number[place]], *chosen, *values), None

        eqns = {id(place.eqn) for place in wrong}
        return Visitor(lambda eqn: id(eqn) in eqns, visit).run(jaxpr, values)[0]

    point = [jnp.asarray(inputs[i]) for i in at]
    everything = jnp.ones(len(wrong), bool)
    loss = projected(lambda both: outputs(*both), cotangents(jax.eval_shape(outputs, point, everything), seed))
    gradient = jax.jit(jax.grad(lambda point, mask: loss((point, mask))), compiler_options=QUICK)

    def by(mask: Any) -> np.ndarray:
        return np.asarray(ravel_pytree(gradient(point, jnp.asarray(mask)))[0])

    with np.errstate(all="ignore"):
        right = by(~everything)
        off = by(everything) - right
        alone = [by(np.arange(len(wrong)) == k) - right for k in range(len(wrong))]
        size = float(off @ off)
        found = [float(e @ off) / size if size else 0.0 for e in alone]
        return found, float(np.linalg.norm(off) / (np.linalg.norm(right) or 1.0))
