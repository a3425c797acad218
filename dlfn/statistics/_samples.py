"""What the tests of a hypothesis share: checks of their arguments, and the comparison of two means."""

from typing import Any

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.core import InputError
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.dtypes import upcast
from dlfn.ops.support.scaled import or_one

__all__ = ["check_alternative", "numbers", "welch"]


def numbers(op: str, name: str, x: Any, least: int = 1) -> jax.Array:
    """x as floating point, with so many observations along its last axis."""
    x = jnp.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise InputError(f"{op}: {name} is {describe(x)}, and must be numbers")
    if x.ndim == 0:
        raise InputError(
            f"{op}: {name} is the scalar {describe(x)}, and must have at least {least} along an axis of observations; "
            f"pass [{name}] for one observation"
        )
    if x.shape[-1] < least:
        count = "no" if x.size == 0 else "one"
        why = "; the spread of one is not known" if least > 1 else ""
        raise InputError(
            f"{op}: {name} is {describe(x)} and has {count} observation{'s' * (count == 'no')}, and must have at least "
            f"{least} along its last axis{why}"
        )
    return upcast(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def check_alternative(op: str, alternative: str) -> None:
    if alternative not in ("two-sided", "less", "greater"):
        raise InputError(f"{op}: alternative is {alternative!r}, and must be 'two-sided', 'less' or 'greater'")


@jax.jit
def welch(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The difference of the means, its standard error, and the degrees of freedom."""
    # From the first observation, as ops.std does, so that equal ones have no spread at all.
    ma, mb = (jnp.mean(x - x[..., :1], axis=-1) for x in (a, b))
    # Not variances, which overflow sooner.
    ea, eb = (ops.std(x, axis=-1, ddof=1) / x.shape[-1] ** 0.5 for x in (a, b))
    error = ops.hypot(ea, eb)
    share = jnp.where(error > 0, ea / or_one(error), 0.5**0.5) ** 2
    df = 1 / (share**2 / (a.shape[-1] - 1) + (1 - share) ** 2 / (b.shape[-1] - 1))
    return (a[..., 0] - b[..., 0]) + (ma - mb), error, df
