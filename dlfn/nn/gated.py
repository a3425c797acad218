"""Activations with something learned, or with a gate."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Float, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.activations import GATED, Applied, short_for
from dlfn.nn.checks import held
from dlfn.nn.layer import Layer
from dlfn.nn.types import Example, Params, State, Steps

__all__ = ["GEGLU", "GLU", "Gated", "PReLU", "SwiGLU"]


@dataclass(frozen=True)
class PReLU(Layer):
    """``y = x`` where x >= 0, else ``alpha * x``, with ``alpha`` learned.

    Source: He, Zhang, Ren & Sun 2015, *Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
    Classification*.

    Args:
        per_channel: whether each entry of the last axis has its own ``alpha``; otherwise there is one for all.
        initial: where ``alpha`` starts.

    Raises:
        InputError: when the inputs have another number of channels than those that the layer was initialised for.

    >>> import jax, jax.numpy as jnp
    >>> layer = PReLU(per_channel=True)
    >>> params, state = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((8, 3), jnp.float32))
    >>> print(params["alpha"])
    [0.25 0.25 0.25]
    """

    takes = "steps"
    per_channel: bool = False
    initial: float = 0.25

    def init(self, key, x: Shaped[Example, "*shape"]) -> tuple[Params, State]:
        if self.per_channel and x.ndim == 0:
            raise InputError(f"{self} needs inputs with a channel axis, got a scalar; reshape x to (..., channels)")
        shape = x.shape[-1:] if self.per_channel else (1,)
        return {"alpha": jnp.full(shape, self.initial, jnp.result_type(x.dtype, float))}, ()

    def apply(
        self, params, state, x: Float[Steps, "*shape"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*shape"], State]:
        (alpha,) = held(self, "params", params, "alpha")
        if self.per_channel and x.shape[-1:] != alpha.shape:
            raise InputError(
                f"{self} was initialised for {alpha.shape[0]} channels and got x of shape {x.shape}; "
                f"call init with an example of shape {x.shape}"
            )
        return ops.prelu(x, alpha), state


@dataclass(frozen=True, init=False)
class Gated(Applied):
    """``y = function(value, gate, **static)``, the two halves of the last axis of x: the first is the value, the second
    the gate, as in ``torch.nn.GLU``. The output has half as many features.

    The function may be the name of one in :data:`GATED`. ``GLU``, ``GEGLU`` and ``SwiGLU`` are short for those of that
    name. After a ``Linear(2 * features)`` they are the gated layers of transformers:
    ``Serial(Linear(2 * 4 * d), SwiGLU(), Linear(d))`` is a gated feed-forward block.

    Raises:
        InputError: on an odd number of features.

    >>> import jax.numpy as jnp
    >>> print(GLU(), GEGLU(approximate=True))
    glu() geglu(approximate=True)
    >>> print(GLU().apply((), (), jnp.array([2.0, 4.0, 0.0, 100.0]))[0])
    [1. 4.]
    """

    takes = "steps"
    known = GATED
    example = "ops.swiglu"

    def apply(
        self, params, state, x: Float[Steps, "*batch features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch features//2"], State]:
        if x.ndim == 0 or x.shape[-1] % 2:
            raise InputError(
                f"{self} splits the last axis into a value and a gate, and x has the shape {x.shape}; "
                "give it an even number of features"
            )
        value, gate = jnp.split(x, 2, axis=-1)
        return self.function(value, gate, **dict(self.static)), state

    def flops(self, x, y):
        """For each output the activation of the gate, and a multiplication."""
        return 2 * y.size


GLU = short_for(Gated, ops.glu, "GLU")
GEGLU = short_for(Gated, ops.geglu, "GEGLU")
SwiGLU = short_for(Gated, ops.swiglu, "SwiGLU")
