"""Linear and Flatten."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, xavier_uniform, zeros
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Example, Params, State, Steps

__all__ = ["Flatten", "Linear"]


@dataclass(frozen=True)
class Linear(Layer):
    """``y = x @ w + b`` over the last axis, with ``w`` of shape (in, out).

    Args:
        features: the number of outputs. The number of inputs is taken from the example that ``init`` is given.
        bias: whether to add ``b``.
        precision: as in ``jax.lax.dot_general``.

    Parameters have the dtype of the example if that is floating point, and otherwise the default float dtype.

    Raises:
        InputError: when the inputs have another number of features than those that the layer was initialised for.

    >>> import jax, jax.numpy as jnp
    >>> layer = Linear(2)
    >>> params, state = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((8, 3), jnp.float32))
    >>> print(jax.tree.map(jnp.shape, params))
    {'b': (2,), 'w': (3, 2)}
    """

    takes = "steps"
    features: int
    bias: bool = True
    weight_init: Initializer = xavier_uniform
    bias_init: Initializer = zeros
    precision: jax.lax.PrecisionLike = None

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "features")

    def init(self, key, x: Shaped[Example, "*batch features"]) -> tuple[Params, State]:
        if x.ndim == 0:
            raise InputError(f"{self} needs inputs with a feature axis, got a scalar; reshape x to (..., features)")
        dtype = jnp.result_type(x.dtype, float)
        w_key, b_key = jax.random.split(key)
        params = {"w": self.weight_init(w_key, (x.shape[-1], self.features), dtype)}
        if self.bias:
            params["b"] = self.bias_init(b_key, (self.features,), dtype)
        return params, ()

    def apply(
        self, params, state, x: Float[Steps, "*batch features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch {self.features}"], State]:
        (w,) = held(self, "params", params, "w")
        inputs = w.shape[0]
        if x.shape[-1:] != (inputs,):
            fix = f"call init with an example of shape {x.shape}, or give it x of shape (..., {inputs})"
            if math.prod(x.shape) == inputs:
                fix = "if it is one example without the axis of a batch, give the model x[None]"
            raise InputError(f"{self} was initialised for {inputs} features and got x of shape {x.shape}; {fix}")
        return ops.linear(x, w, params.get("b"), precision=self.precision), state

    def flops(self, x, y):
        """Each output sums ``in`` products and the bias, which is ``in`` multiplications and ``in`` additions."""
        return 2 * x.shape[-1] * y.size


@dataclass(frozen=True)
class Flatten(Layer):
    """``(N, ...)`` to ``(N, features)``: all axes but the first become one."""

    takes = "array"

    def apply(
        self, params, state, x: Shaped[AnyArray, " batch *shape"], *, key=None, train=False
    ) -> tuple[Shaped[AnyArray, "batch features"], State]:
        if x.ndim == 0:
            raise InputError("Flatten keeps the first axis and flattens the others, but x is a scalar")
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), state

    def flops(self, x, y):
        return 0
