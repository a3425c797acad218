"""Cells: layers of one time step, ``(carry, x) -> (carry, y)``."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, xavier_uniform, zeros
from dlfn.nn.layer import Layer
from dlfn.ops.recurrent.recurrence import check_lengths
from dlfn.ops.recurrent.rnn import check_activation
from dlfn.ops.support.lengths import within

__all__ = ["Cell", "GRUCell", "LSTMCell", "RNNCell", "needed_key"]

Carry = Any


class Cell(Layer):
    """One time step as a layer: ``apply`` takes ``(carry, x)`` and returns ``(carry, y)``, with x (..., features).

    The carry is an array or a tuple of arrays; the first is the hidden state. :class:`~dlfn.nn.Recurrent` runs a cell
    over time. A new cell needs ``initial``, ``init`` and ``apply``:

    >>> import dataclasses, jax, jax.numpy as jnp, dlfn.nn as nn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sum(nn.Cell):
    ...     def initial(self, x):
    ...         return jnp.zeros_like(x)
    ...     def apply(self, params, state, x, *, key=None, train=False):
    ...         carry, x = x
    ...         return (carry + x, carry + x), state
    >>> y, _ = nn.Recurrent(Sum()).apply((), (), jnp.array([[1.0], [2.0], [3.0]]))
    >>> print(y[:, 0])
    [1. 3. 6.]
    """

    @abc.abstractmethod
    def initial(self, x: Any) -> Carry:
        """The carry before the first step, for steps like x. It should be computed from x, as ``jnp.zeros_like`` is: a
        loop inside ``shard_map`` needs a carry that varies over the same devices."""

    def prepare(self, params: Any, *, key: jax.Array | None, train: bool) -> Any:
        """The parameters for all steps of a sequence: here a cell draws what must not change between steps."""
        del key, train
        return params

    def sequence(
        self, params: Any, state: Any, x: jax.Array, carry: Carry, lengths: Any, *, reverse: bool, key: Any, train: bool
    ) -> tuple[tuple[jax.Array, Carry], Any]:
        """``((ys, carry), state)`` for x (..., T, features); ``carry`` None starts from :meth:`initial`. A loop over
        ``apply``, for a cell to replace where an op does it faster. Step t gets a key of its own."""
        valid = None
        if lengths is not None:
            check_lengths(type(self).__name__, lengths, x)
            valid = within(lengths, x.shape[-2])
            # Zeros, since a select that leaves a nan out has 0 for its derivative, which times a nan is nan.
            x = jnp.where(valid[..., None], x, jnp.zeros_like(x))
        prepare_key, key = (None, None) if key is None else jax.random.split(key)
        params = self.prepare(params, key=prepare_key, train=train)
        times = jnp.arange(x.shape[-2])

        def step(before, inputs):
            carry, state = before
            x, t, valid = inputs
            step_key = None if key is None else jax.random.fold_in(key, t)
            (after, y), state = self.apply(params, state, (carry, x), key=step_key, train=train)
            if valid is not None:
                after = jax.tree.map(lambda new, old: jnp.where(_valid(valid, new), new, old), after, carry)
                y = jnp.where(_valid(valid, y), y, jnp.zeros_like(y))
            return (after, state), y

        if carry is None:
            carry = self.initial(jnp.sum(x[..., :1, :], axis=-2))
        xs = jnp.moveaxis(x, -2, 0), times, None if valid is None else jnp.moveaxis(valid, -1, 0)
        # The step may compute in a wider dtype than the carry it is given.
        after = jax.eval_shape(
            step, (carry, state), jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
        )
        carry = jax.tree.map(lambda c, new: c.astype(new.dtype), carry, after[0][0])
        (carry, state), ys = lax.scan(step, (carry, state), xs, reverse=reverse)
        return (jnp.moveaxis(ys, 0, -2), carry), state

    def flops(self, x, y):
        """One for each element of the new carry."""
        return sum(leaf.size for leaf in jax.tree.leaves(y[0]))


def _valid(valid, x):
    return valid.reshape(*valid.shape, *[1] * (x.ndim - valid.ndim))


@dataclass(frozen=True)
class _GatedCell(Cell):
    """What the three cells share: their parameters ``w_x``, ``w_h`` and ``b``, a block of columns for each gate."""

    features: int
    bias: bool = True
    weight_init: Initializer = xavier_uniform
    recurrent_init: Initializer = xavier_uniform
    bias_init: Initializer = zeros
    recurrent_keep_prob: float = 1.0
    precision: Any = None

    gates: ClassVar[int]
    elementwise: ClassVar[int]

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "features")
        if not 0 < self.recurrent_keep_prob <= 1:
            raise InputError(
                f"{type(self).__name__}: recurrent_keep_prob is the fraction kept, in (0, 1], "
                f"got {self.recurrent_keep_prob}"
            )

    def init(self, key, x):
        _, x = x
        dtype = jnp.result_type(x.dtype, float)
        keys = jax.random.split(key, 3)

        def blocks(key, initializer, *shape):
            # Each gate by itself: a fan-out is H, not that of all gates together.
            parts = [initializer(k, (*shape, self.features), dtype) for k in jax.random.split(key, self.gates)]
            return jnp.concatenate(parts, axis=-1)

        params = {
            "w_x": blocks(keys[0], self.weight_init, x.shape[-1]),
            "w_h": blocks(keys[1], self.recurrent_init, self.features),
        }
        if self.bias:
            params["b"] = blocks(keys[2], self.bias_init)
        return params, ()

    def initial(self, x: Any) -> Carry:
        return jnp.broadcast_to(jnp.zeros_like(x[..., :1]), (*x.shape[:-1], self.features))

    def prepare(self, params, *, key, train):
        held(self, "params", params, "w_x", "w_h")
        if not train or self.recurrent_keep_prob == 1:
            return params
        key = needed_key(key, f"{type(self).__name__} with recurrent_keep_prob={self.recurrent_keep_prob}")
        return {**params, "w_h": ops.dropout(params["w_h"], key, keep_prob=self.recurrent_keep_prob)}

    def flops(self, x, y):
        """Two for each weight, and the elementwise operations."""
        _, x = x
        weights = self.gates * self.features * (x.shape[-1] + self.features)
        return x.size // x.shape[-1] * (2 * weights + self.elementwise * self.features)


@dataclass(frozen=True)
class RNNCell(_GatedCell):
    """A step of :func:`dlfn.ops.rnn`. The carry is h (..., features), and so is y.

    Args:
        features: H.
        bias: whether there is ``b``.
        weight_init: of each gate's block of ``w_x``.
        recurrent_init: of each gate's block of ``w_h``.
        bias_init: of each gate's block of ``b``.
        recurrent_keep_prob: in training, keep each entry of ``w_h`` with this probability (Merity et al. 2018,
            *Regularizing and Optimizing LSTM Language Models*): one mask for a whole sequence, drawn by ``prepare``.
        precision: as in :func:`jax.numpy.matmul`.
        activation: ``"tanh"`` or ``"relu"``.
    """

    activation: str = "tanh"

    gates: ClassVar[int] = 1
    elementwise: ClassVar[int] = 1

    def __post_init__(self):
        super().__post_init__()
        check_activation("RNNCell", self.activation)

    def apply(self, params, state, x, *, key=None, train=False):
        h, x = x
        h = ops.rnn_step(
            x, h, params["w_x"], params["w_h"], params.get("b"), activation=self.activation, precision=self.precision
        )
        return (h, h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        p = self.prepare(params, key=key, train=train)
        static = dict(activation=self.activation, reverse=reverse, precision=self.precision)
        return ops.rnn(x, carry, p["w_x"], p["w_h"], p.get("b"), lengths, **static), state


@dataclass(frozen=True)
class LSTMCell(_GatedCell):
    """A step of :func:`dlfn.ops.lstm`. The carry is ``(h, c)``, both (..., features), and y is h.

    Args: those of :class:`RNNCell` but ``activation``, and

        forget_bias: added to the initial bias of the forget gate; 1 lets gradients through from the start
            (Jozefowicz et al. 2015, *An Empirical Exploration of Recurrent Network Architectures*).

    >>> import jax, jax.numpy as jnp
    >>> params, _ = LSTMCell(2).init(jax.random.key(0), (None, jnp.zeros(3)))
    >>> print(params["b"])
    [0. 0. 1. 1. 0. 0. 0. 0.]
    """

    forget_bias: float = 1.0

    gates: ClassVar[int] = 4
    elementwise: ClassVar[int] = 9

    def init(self, key, x):
        params, state = super().init(key, x)
        if self.bias:
            params["b"] = params["b"].at[self.features : 2 * self.features].add(self.forget_bias)
        return params, state

    def initial(self, x):
        return super().initial(x), super().initial(x)

    def apply(self, params, state, x, *, key=None, train=False):
        (h, c), x = x
        h, c = ops.lstm_step(x, h, c, params["w_x"], params["w_h"], params.get("b"), precision=self.precision)
        return ((h, c), h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        p = self.prepare(params, key=key, train=train)
        h, c = (None, None) if carry is None else carry
        static = dict(reverse=reverse, precision=self.precision)
        hs, h, c = ops.lstm(x, h, c, p["w_x"], p["w_h"], p.get("b"), lengths, **static)
        return (hs, (h, c)), state


@dataclass(frozen=True)
class GRUCell(_GatedCell):
    """A step of :func:`dlfn.ops.gru`. The carry is h (..., features), and so is y.

    Args: those of :class:`RNNCell` but ``activation``, and

        reset_after: the form of cuDNN and PyTorch, with a parameter ``b_h`` beside ``b``.
    """

    reset_after: bool = False

    gates: ClassVar[int] = 3
    elementwise: ClassVar[int] = 7

    def init(self, key, x):
        params, state = super().init(key, x)
        if self.bias and self.reset_after:
            params["b_h"] = self.bias_init(jax.random.fold_in(key, 3), (self.features,), params["b"].dtype)
        return params, state

    def apply(self, params, state, x, *, key=None, train=False):
        h, x = x
        static = dict(reset_after=self.reset_after, precision=self.precision)
        h = ops.gru_step(x, h, params["w_x"], params["w_h"], params.get("b"), params.get("b_h"), **static)
        return (h, h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        p = self.prepare(params, key=key, train=train)
        static = dict(reset_after=self.reset_after, reverse=reverse, precision=self.precision)
        return ops.gru(x, carry, p["w_x"], p["w_h"], p.get("b"), p.get("b_h"), lengths, **static), state


def needed_key(key: jax.Array | None, what: str) -> jax.Array:
    """The key, or an InputError that says how to give one."""
    if key is None:
        raise InputError(
            f"{what} needs a key in training; call model.apply(params, state, x, key=jax.random.key(0), train=True)"
        )
    return key
