"""Sequences of several lengths, as they pass through a model."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Bool, Integer, PyTree

from dlfn.core import InputError
from dlfn.nn.types import AnyArray, Carry
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.lengths import within
from dlfn.ops.support.sharding import sharded_along

__all__ = ["Sequence", "on_values", "values_of"]


class Sequence(NamedTuple):
    """The values of sequences, with the length of each, a mask and an initial state, as input of a model over time.

    Layers over time, such as ``LSTM``, and attention read the lengths, and attention the mask. Layers that treat every
    step by itself, such as ``Embedding``, ``Linear``, ``LayerNorm`` and ``Dropout``, act on the values. Sums of
    ``Residual`` and what ``Parallel`` merges are those of the values. The output of each is a Sequence with the lengths
    and the mask of its input. A layer that would mix steps with padding, such as ``Conv`` or ``BatchNorm``, raises an
    InputError, and so does one over time on a mask.

    What is past the lengths, or not in a mask of steps, does not matter, whatever it holds: a nan, an infinity, an
    integer that is no row of a table. No layer reads it, and its gradient is 0. What a layer returns there is 0, and a
    cotangent that arrives there goes nowhere. To this end each layer puts zeros there with :meth:`without_padding`, in
    its input and in its output, and one of your own that takes a Sequence should do the same. A mask on the loss alone
    would not do: it makes the cotangents 0, and 0 times the nan that a layer read is nan.

    Attributes:
        values: (..., T, features), or integers (..., T) for an ``Embedding``.
        lengths: integers (...,) from 0 to T, how many steps of each count, or None for all.
        initial: the state before the first step, or None for zeros: h of an RNN or GRU, ``(h, c)`` of an LSTM, a pair
            for a :class:`Bidirectional` and a tuple with one for each layer for a :class:`Stacked`. The first layer
            over time takes it.
        mask: None, or booleans of one of two kinds, which the number of axes tells apart. (..., T): which steps count,
            for padding in any place, such as in front of the steps. (..., heads, T, keys): which step sees which in
            attention, where sizes of 1 broadcast; ``mask[None, None]`` of one that is (T, keys), for a batch. Positions
            that a layer adds are counted without padding; distances in rope and ALiBi with it.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> block = nn.Residual(nn.Serial(nn.LayerNorm(), nn.LSTM(8), nn.Dropout(0.9)))
    >>> model = nn.Serial(nn.Embedding(100, 8), block, nn.GRU(8), nn.Linear(3))
    >>> x = nn.Sequence(jnp.ones((2, 5), int), lengths=jnp.array([5, 3]))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> y, _ = model.apply(params, state, x, key=jax.random.key(1), train=True)
    >>> print(y.values.shape, y.lengths)
    (2, 5, 3) [5 3]
    >>> model = nn.Serial(nn.Embedding(100, 8), nn.TransformerBlock(2, causal=True, positions="rope"))
    >>> x = nn.Sequence(jnp.ones((1, 4), int), mask=jnp.array([[False, False, True, True]]))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> y, _ = model.apply(params, state, x)
    >>> alone, _ = model.apply(params, state, jnp.ones((1, 2), int))
    >>> print(jnp.allclose(y.values[:, 2:], alone, atol=1e-6))
    True
    """

    values: PyTree[ArrayLike]
    lengths: Integer[AnyArray, "*batch"] | None = None
    initial: Carry | None = None
    mask: Bool[AnyArray, "..."] | None = None

    @property
    def steps_mask(self) -> Bool[AnyArray, "*batch steps"] | None:
        """The mask where it says which steps count, and None where there is none, or it is one of pairs of steps.

        Raises:
            InputError: on a mask that is not boolean, or is neither.
        """
        leaves = jax.tree.leaves(self.values)
        if self.mask is None or not leaves:
            return None
        axes = min(jnp.ndim(leaf) for leaf in leaves)
        if self.mask.dtype != bool:
            raise InputError(f"Sequence: mask is {_brief(self.mask)}, and must be boolean; pass mask.astype(bool)")
        if self.mask.ndim > max(axes, 2):
            return None
        if not self.mask.ndim or not all(jnp.shape(leaf)[: self.mask.ndim] == self.mask.shape for leaf in leaves):
            raise InputError(
                f"Sequence: mask is {_brief(self.mask)} for values {_brief(leaves[0])}, and must have their shape up "
                "to the axis of steps, to say which steps count; one of pairs of steps is (..., heads, time, keys): "
                "pass mask[..., None, :, :], or mask[None, None] of one that is (time, keys)"
            )
        return self.mask

    def without_padding(self) -> "Sequence":
        """The Sequence with zeros past its lengths and where a mask of steps is False.

        Raises:
            InputError: when the lengths have another shape than the values have in front of their axis of steps, or the
                mask one that does not fit.

        >>> print(Sequence(jnp.array([[3, 1, -1], [2, 4, 6]]), jnp.array([2, 3])).without_padding().values)
        [[3 1 0]
         [2 4 6]]
        """
        mask = self.steps_mask
        if self.lengths is None and mask is None:
            return self
        counting = functools.partial(_counting, lengths=self.lengths, mask=mask)
        return self._replace(values=jax.tree.map(counting, self.values))

    def counts(self) -> Bool[jax.Array, "*batch steps"] | None:
        """Which steps count: those within the lengths and in a mask of steps; None for all.

        >>> print(Sequence(jnp.ones((2, 3, 1)), jnp.array([2, 3])).counts())
        [[ True  True False]
         [ True  True  True]]
        """
        mask, values = self.steps_mask, jax.tree.leaves(self.values)[0]
        if self.lengths is None:
            return None if mask is None else jnp.asarray(mask)
        inside = within(jnp.asarray(self.lengths), jnp.shape(values)[jnp.ndim(self.lengths)])
        return inside if mask is None else inside & mask


def _counting(values: jax.Array, lengths: AnyArray | None, mask: AnyArray | None) -> jax.Array:
    """The values of the steps that count, with zeros in the place of the others."""
    if lengths is not None:
        rank = jnp.ndim(lengths)
        if values.ndim <= rank or values.shape[:rank] != jnp.shape(lengths):
            raise InputError(
                f"Sequence: lengths is {describe(lengths)} for values {describe(values)}, and must have the shape "
                "that these have in front of their axis of steps"
            )
    return _zeros_elsewhere(values, *(x if x is None else jnp.asarray(x) for x in (lengths, mask)))


@functools.partial(jax.checkpoint, prevent_cse=False)
def _zeros_elsewhere(values: jax.Array, lengths: jax.Array | None, mask: jax.Array | None) -> jax.Array:
    """It is checkpointed, since a loop over blocks would otherwise save the condition of every select, as large as the
    values."""
    for counts in (None if lengths is None else within(lengths, values.shape[lengths.ndim]), mask):
        if counts is not None:
            counts = sharded_along(counts, values, counts.ndim - 1)
            counts = counts.reshape(*counts.shape, *[1] * (values.ndim - counts.ndim))
            values = jnp.where(counts, values, jnp.zeros_like(values))
    return values


def _brief(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


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
    return xs[0]._replace(values=values, initial=None if taken else xs[0].initial).without_padding()
