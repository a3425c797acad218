"""Sequences of several lengths, as they pass through a model."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Integer, PyTree

from dlfn.core import InputError
from dlfn.nn.types import AnyArray, Carry
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.lengths import within
from dlfn.ops.support.sharding import sharded_along

__all__ = ["Sequence", "on_values", "values_of"]


class Sequence(NamedTuple):
    """The values of sequences, with the length of each and an initial state, as input of a model over time.

    Layers over time, such as ``LSTM``, and attention read the lengths. Layers that treat every step by itself, such as
    ``Embedding``, ``Linear``, ``LayerNorm`` and ``Dropout``, act on the values. Sums of ``Residual`` and what
    ``Parallel`` merges are those of the values. The output of each is a Sequence with the lengths of its input. A layer
    that would mix steps with padding, such as ``Conv`` or ``BatchNorm``, raises an InputError.

    What is past the lengths does not matter, whatever it holds: a nan, an infinity, an integer that is no row of a
    table. No layer reads it, and its gradient is 0. What a layer returns there is 0, and a cotangent that arrives
    there goes nowhere. To this end each layer puts zeros there with :meth:`without_padding`, in its input and in its
    output, and one of your own that takes a Sequence should do the same. A mask on the loss alone would not do: it
    makes the cotangents 0, and 0 times the nan that a layer read is nan.

    Attributes:
        values: (..., T, features), or integers (..., T) for an ``Embedding``.
        lengths: integers (...,) from 0 to T, how many steps of each count, or None for all.
        initial: the state before the first step, or None for zeros: h of an RNN or GRU, ``(h, c)`` of an LSTM, a pair
            for a :class:`Bidirectional` and a tuple with one for each layer for a :class:`Stacked`. The first layer
            over time takes it.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> block = nn.Residual(nn.Serial(nn.LayerNorm(), nn.LSTM(8), nn.Dropout(0.9)))
    >>> model = nn.Serial(nn.Embedding(100, 8), block, nn.GRU(8), nn.Linear(3))
    >>> x = nn.Sequence(jnp.ones((2, 5), int), lengths=jnp.array([5, 3]))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> y, _ = model.apply(params, state, x, key=jax.random.key(1), train=True)
    >>> print(y.values.shape, y.lengths)
    (2, 5, 3) [5 3]
    """

    values: PyTree[ArrayLike]
    lengths: Integer[AnyArray, "*batch"] | None = None
    initial: Carry | None = None

    def without_padding(self) -> "Sequence":
        """The Sequence with zeros past its lengths.

        Raises:
            InputError: when the lengths have another shape than the values have in front of their axis of steps.

        >>> print(Sequence(jnp.array([[3, 1, -1], [2, 4, 6]]), jnp.array([2, 3])).without_padding().values)
        [[3 1 0]
         [2 4 6]]
        """
        if self.lengths is None:
            return self
        return self._replace(values=jax.tree.map(functools.partial(_counting, lengths=self.lengths), self.values))


def _counting(values: jax.Array, lengths: AnyArray) -> jax.Array:
    """The values of the steps within the lengths, with zeros past them."""
    rank, shape = jnp.ndim(lengths), values.shape
    if len(shape) <= rank or shape[:rank] != jnp.shape(lengths):
        raise InputError(
            f"Sequence: lengths is {describe(lengths)} for values {describe(values)}, and must have the shape "
            "that these have in front of their axis of steps"
        )
    return _zeros_past(values, jnp.asarray(lengths))


@functools.partial(jax.checkpoint, prevent_cse=False)
def _zeros_past(values: jax.Array, lengths: jax.Array) -> jax.Array:
    """It is checkpointed, since a loop over blocks would otherwise save the condition of every select, as large as the
    values."""
    rank, shape = lengths.ndim, values.shape
    counts = sharded_along(within(lengths, shape[rank]), values, rank)
    counts = counts.reshape(*counts.shape, *[1] * (len(shape) - rank - 1))
    return jnp.where(counts, values, jnp.zeros_like(values))


def values_of(x: Any) -> Any:
    """The values of a Sequence, or x itself."""
    return x.values if isinstance(x, Sequence) else x


def on_values(function: Callable[..., Any], *xs: Any) -> Any:
    """``function(*xs)``; of Sequences that of their values, as a Sequence with the lengths of the first, and with its
    initial state if no layer over time has taken that from any of them."""
    if not xs or not all(isinstance(x, Sequence) for x in xs):
        return function(*xs)
    taken = any(x.initial is None for x in xs)
    values = function(*(x.without_padding().values for x in xs))
    return Sequence(values, xs[0].lengths, None if taken else xs[0].initial).without_padding()
