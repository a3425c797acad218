"""Zoneout: a cell around a cell."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dlfn.core import InputError
from dlfn.nn.cells import Cell, needed_key
from dlfn.nn.checks import require_layer
from dlfn.nn.types import Carry, Params, State

__all__ = ["Zoneout"]


@dataclass(frozen=True)
class Zoneout(Cell):
    """A cell whose units sometimes keep their previous state (Krueger et al. 2017, *Zoneout:
    Regularizing RNNs by Randomly Preserving Hidden Activations*).

    In training each entry of the carry stays what it was with probability ``rate``; at inference it becomes the
    expectation, ``rate * before + (1 - rate) * after``. The output is the first array of the carry.
    Masks depend on the key and the step alone, so that the forward and the backward pass have the same.

    Args:
        cell: such as ``LSTMCell(64)``. An LSTM's new h is computed from the new c, kept or not, as in the paper.
        rate: a probability, or one for each array of the carry: ``(h, c)`` for an LSTM.

    Raises:
        InputError: in training, when no key is given; and on rates that do not fit.
    """

    cell: Cell
    rate: float | tuple[float, ...] = 0.1

    def __post_init__(self):
        super().__post_init__()
        require_layer(self, self.cell, Cell, "a cell, such as LSTMCell(64)")
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,)
        if not all(0 <= rate < 1 for rate in rates):
            raise InputError(f"Zoneout: rate is the probability to keep the old state, in [0, 1), got {self.rate}")

    def initial(self, x):
        return self.cell.initial(x)

    def init(self, key, x: tuple[Carry, PyTree]) -> tuple[Params, State]:
        return self.cell.init(key, x)

    def prepare(self, params, *, key, train):
        return self.cell.prepare(params, key=key, train=train)

    def apply(
        self, params, state, x: tuple[Carry, PyTree], *, key=None, train=False
    ) -> tuple[tuple[Carry, PyTree], State]:
        cell_key, key = (None, None) if key is None else jax.random.split(key)
        (after, _), state = self.cell.apply(params, state, x, key=cell_key, train=train)
        old, tree = jax.tree.flatten(x[0])
        new = jax.tree.leaves(after)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * len(new)
        if len(rates) != len(new):
            raise InputError(
                f"Zoneout: rate has {len(rates)} numbers, and the carry {len(new)} arrays; pass one for each"
            )
        if train:
            keys = jax.random.split(needed_key(key, "Zoneout"), len(new))
            masks = [jax.random.bernoulli(k, jnp.float32(rate), n.shape) for k, rate, n in zip(keys, rates, new)]
            mixed = [jnp.where(mask, o.astype(n.dtype), n) for mask, o, n in zip(masks, old, new)]
        else:
            mixed = [rate * o.astype(n.dtype) + (1 - rate) * n for rate, o, n in zip(rates, old, new)]
        return (tree.unflatten(mixed), mixed[0]), state

    def flops(self, x, y):
        """Those of the cell, and three for each element of the carry."""
        return self.cell.flops(x, y) + 3 * super().flops(x, y)
