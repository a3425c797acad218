"""Layers that put a step in front, take one out, and turn axes."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dlfn.core import InputError
from dlfn.nn.checks import held
from dlfn.nn.initializers import Initializer, zeros
from dlfn.nn.layer import Layer, brief, steps_of
from dlfn.nn.sequence import Sequence
from dlfn.nn.types import AnyArray, Example, Params, State, Steps
from dlfn.ops.support.arguments import is_int

__all__ = ["ClassToken", "Permute", "TakeStep"]


@dataclass(frozen=True)
class ClassToken(Layer):
    """A learned step in front of the others: (..., time, features) to (..., time + 1, features).

    Of a :class:`~dlfn.nn.Sequence` it is in front of what counts and of the padding, and counts itself.

    Params are ``{"token"}``, of (features,).

    Raises:
        InputError: on fewer than two axes, and on a mask of pairs, which has no entry for the step.

    Source: Devlin et al. 2019, *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding*;
    learned on its own: Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words*.

    >>> import jax, jax.numpy as jnp
    >>> layer = ClassToken()
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((2, 3, 4)))
    >>> print(layer.apply(params, state, jnp.ones((2, 3, 4)))[0][0, :, 0])
    [0. 1. 1. 1.]
    """

    token_init: Initializer = zeros

    def init(self, key, x: Shaped[Example, "*batch time features"] | Sequence) -> tuple[Params, State]:
        values = steps_of(self, x)
        return {"token": self.token_init(key, values.shape[-1:], jnp.result_type(values.dtype, float))}, ()

    def apply(
        self, params, state, x: Float[Steps, "*batch time features"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch more features"], State]:
        steps_of(self, x)
        (token,) = held(self, "params", params, "token")
        if not isinstance(x, Sequence):
            return _behind(token, x), state
        mask = x.steps_mask
        if mask is None and x.mask is not None:
            raise InputError(
                f"{self}: the Sequence has a mask of pairs {brief(x.mask)}, which has no entry for the step in front; "
                "give it behind this layer, or a mask of steps"
            )
        x = x.without_padding()
        return Sequence(
            _behind(token, x.values),
            None if x.lengths is None else x.lengths + 1,
            x.initial,
            None if mask is None else jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(1, 0)], constant_values=True),
        ), state

    def flops(self, x, y):
        return 0


@dataclass(frozen=True)
class TakeStep(Layer):
    """One step of each sequence, by its number: (..., time, features) to (..., features).

    Of a :class:`~dlfn.nn.Sequence` only steps that count are counted, so that ``TakeStep(-1)`` is the last within the
    length; where there are fewer, the result is 0.

    Args:
        index: 0 for the first, -1 for the last.

    Raises:
        InputError: on an index that is no integer, fewer than two axes, and an array with fewer steps.

    >>> import jax.numpy as jnp, dlfn.nn as nn
    >>> x = jnp.arange(6.0).reshape(2, 3, 1)
    >>> print(TakeStep(-1).apply((), (), nn.Sequence(x, lengths=jnp.array([2, 3])))[0].ravel())
    [1. 5.]
    """

    index: int

    def __post_init__(self):
        super().__post_init__()
        if not is_int(self.index):
            raise InputError(f"TakeStep: index is {self.index!r}, and must be an integer, such as 0 or -1")

    def apply(
        self, params, state, x: Float[AnyArray, "*batch time features"] | Sequence, *, key=None, train=False
    ) -> tuple[Float[Array, "*batch features"], State]:
        values, counts = steps_of(self, x), None
        if isinstance(x, Sequence):
            counts, values = x.counts(), x.without_padding().values
        if not -values.shape[-2] <= self.index < values.shape[-2]:
            raise InputError(f"{self}: there are {values.shape[-2]} steps, as x is {brief(values)}")
        if counts is None:
            return values[..., self.index, :], state
        number = jnp.cumsum(counts, -1) - 1
        wanted = self.index if self.index >= 0 else number[..., -1:] + 1 + self.index
        at = counts & (number == wanted)
        return jnp.sum(jnp.where(at[..., None], values, jnp.zeros_like(values)), -2), state

    def flops(self, x, y):
        return 0


@dataclass(frozen=True)
class Permute(Layer):
    """The axes of an array in another order, as by :func:`jax.numpy.transpose`.

    Args:
        axes: for each axis of the output that of the input, the batch's included: ``(0, 2, 1)`` turns (N, time,
            features) to (N, features, time).

    Raises:
        InputError: on axes that are no order of 0, 1, …, and on an array with another number of them.

    >>> import jax.numpy as jnp
    >>> print(Permute((0, 2, 1)).apply((), (), jnp.ones((2, 3, 4)))[0].shape)
    (2, 4, 3)
    """

    takes = "array"
    axes: tuple[int, ...]

    def __post_init__(self):
        super().__post_init__()
        axes = self.axes
        if not isinstance(axes, tuple) or not all(map(is_int, axes)) or sorted(axes) != list(range(len(axes))):
            raise InputError(f"Permute: axes is {axes!r}, and must be a tuple of 0, 1, … in any order, as (0, 2, 1)")

    def apply(
        self, params, state, x: Shaped[AnyArray, "*shape"], *, key=None, train=False
    ) -> tuple[Shaped[AnyArray, "..."], State]:
        if x.ndim != len(self.axes):
            raise InputError(f"{self}: x is {brief(x)}, and must have {len(self.axes)} axes")
        return jnp.transpose(x, self.axes), state

    def flops(self, x, y):
        return 0


def _behind(token: Any, x: Any) -> Any:
    first = jnp.broadcast_to(token, (*x.shape[:-2], 1, x.shape[-1]))
    return jnp.concatenate([first.astype(x.dtype), x], axis=-2)
