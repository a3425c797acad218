"""What the linear models take: examples with features, and one target of each."""

import jax.numpy as jnp

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float
from dlfn.ops.support.dtypes import sum_dtype

__all__ = ["as_examples"]


def as_examples(name, x, y=None, y_name="y"):
    """Both as arrays, x in the dtype to compute in."""
    x = jnp.asarray(x)
    require_float(name, "x", x)
    if x.ndim != 2 or 0 in x.shape:
        raise InputError(f"{name}: x is {describe(x)}, and must be (examples, features), one of each at least")
    if y is not None:
        y = jnp.asarray(y)
        if y.shape != x.shape[:1]:
            raise InputError(f"{name}: {y_name} is {describe(y)} for x {describe(x)}, and must be ({x.shape[0]},)")
    return x.astype(sum_dtype(x.dtype)), y
