"""The types of what layers take and make."""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Key, PyTree, UInt32

__all__ = ["AnyArray", "Carry", "Example", "Params", "RandomKey", "State", "Steps"]

# What a layer is applied to; arrays that are being traced are jax.Arrays too.
AnyArray: TypeAlias = Array | np.ndarray
# What a layer with ``takes = "steps"`` is applied to and what it makes: both arrays, or both Sequences. Type checkers
# are told that it may be anything: the method is given the array, where its caller may have given a Sequence.
Steps: TypeAlias = Any
# What a layer is initialised for: of an example only the shape and the dtype count.
Example: TypeAlias = Array | np.ndarray | jax.ShapeDtypeStruct
# From jax.random.key, or from jax.random.PRNGKey.
RandomKey: TypeAlias = Key[Array, ""] | UInt32[Array, " words"]
# Plain nested containers of arrays.
Params: TypeAlias = PyTree[ArrayLike]
State: TypeAlias = PyTree[ArrayLike]
# What a cell hands on from step to step: an array or a tuple of arrays.
Carry: TypeAlias = PyTree[ArrayLike]
