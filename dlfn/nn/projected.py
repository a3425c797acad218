"""An LSTM with a projection."""

import functools
from dataclasses import dataclass, field
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dlfn import ops
from dlfn.nn.cells import Cell, LSTMCell
from dlfn.nn.checks import require_sizes
from dlfn.nn.types import AnyArray, Carry, Example, Params, State

__all__ = ["ProjectedLSTMCell"]

# h and c before a step, where None is zeros, and after it.
_Before: TypeAlias = tuple[Float[AnyArray, "*batch projection"] | None, Float[AnyArray, "*batch hidden"] | None]
_H: TypeAlias = Float[Array, "*batch projection"]
_After: TypeAlias = tuple[tuple[_H, Float[Array, "*batch hidden"]], _H]


@dataclass(frozen=True)
class ProjectedLSTMCell(LSTMCell):
    r"""A step of an LSTM whose hidden state is a linear map of what an LSTM's would be, :math:`h = (o \odot \tanh c)
    w_p`, as in PyTorch with ``proj_size``. The carry is ``(h, c)``, h (..., projection) and c (..., features); y is h.

    It runs step by step, where :class:`LSTMCell` is one op for all.

    Args: those of :class:`LSTMCell`, and

        projection: P, the width of h.

    Params are ``{"w_x", "w_h", "b", "w_p"}``: (in, 4 H), (P, 4 H), (4 H,), (H, P).

    Source: Sak, Senior & Beaufays 2014, *Long Short-Term Memory Based Recurrent Neural Network Architectures for Large
    Scale Acoustic Modeling*.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Recurrent(ProjectedLSTMCell(8, projection=3))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 5, 4)))
    >>> print(model.apply(params, state, jnp.ones((2, 5, 4)))[0].shape, params["w_p"].shape)
    (2, 5, 3) (8, 3)
    """

    projection: int = field(kw_only=True)

    @property
    def _hidden(self) -> int:
        return self.projection

    def __post_init__(self, recurrent_rate):
        super().__post_init__(recurrent_rate)
        require_sizes(self, "projection")

    def init(self, key, x: tuple[Carry, Shaped[Example, "*batch features"]]) -> tuple[Params, State]:
        params, state = super().init(key, x)
        shape = self.features, self.projection
        w_p = self.weight_init(jax.random.fold_in(key, 3), shape, params["w_x"].dtype)
        return {**params, "w_p": w_p}, state

    def initial(self, x):
        h, c = super().initial(x)
        return jnp.broadcast_to(h[..., :1], (*h.shape[:-1], self.projection)), c

    def apply(
        self, params, state, x: tuple[_Before, Float[AnyArray, "*batch features"]], *, key=None, train=False
    ) -> tuple[_After, State]:
        before, step = x
        h, c = (zero if given is None else given for given, zero in zip(before, self.initial(step)))
        product = functools.partial(ops.linear, precision=self.precision)
        a = product(step, params["w_x"], params.get("b")) + product(h, params["w_h"])
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = product(ops.sigmoid(o) * ops.tanh(c), params["w_p"])
        return ((h, c), h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        return Cell.sequence(self, params, state, x, carry, lengths, reverse=reverse, key=key, train=train)

    def flops(self, x, y):
        _, x = x
        weights = self.gates * self.features * (x.shape[-1] + self.projection) + self.features * self.projection
        return x.size // x.shape[-1] * (2 * weights + self.elementwise * self.features)
