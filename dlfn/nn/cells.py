"""Cells: layers of one time step, ``(carry, x) -> (carry, y)``."""

import abc
from dataclasses import InitVar, dataclass, field
from typing import ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer, PyTree, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, kept, require_sizes
from dlfn.nn.initializers import Initializer, xavier_uniform, zeros
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Carry, Example, Params, RandomKey, State
from dlfn.ops.recurrent.recurrence import check_lengths
from dlfn.ops.recurrent.rnn import check_activation
from dlfn.ops.support.lengths import within

__all__ = ["Cell", "GRUCell", "LSTMCell", "RNNCell", "needed_key"]

# A step of the three cells goes from one hidden state, where None is zeros, and an input to another hidden state.
_Before: TypeAlias = Float[AnyArray, "*batch hidden"] | None
_Inputs: TypeAlias = Float[AnyArray, "*batch features"]
_After: TypeAlias = Float[Array, "*batch hidden"]


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
    def initial(self, x: PyTree) -> Carry:
        """The carry before the first step, for steps like x. It should be computed from x, as by ``jnp.zeros_like``: a
        loop inside ``shard_map`` needs a carry that varies over the same devices as x."""

    def prepare(self, params: Params, *, key: RandomKey | None, train: bool) -> Params:
        """The parameters for all steps of a sequence: here a cell draws what must not change between steps."""
        del key, train
        return params

    def sequence(
        self,
        params: Params,
        state: State,
        x: Float[AnyArray, "*batch steps features"],
        carry: Carry | None,
        lengths: Integer[AnyArray, "*batch"] | None,
        *,
        reverse: bool,
        key: RandomKey | None,
        train: bool,
    ) -> tuple[tuple[Float[Array, "*batch steps outputs"], Carry], State]:
        """``((ys, carry), state)`` for x (..., T, features), from ``carry``, or from :meth:`initial` where that is
        None. Here it is a loop over ``apply``, in which step t gets a key of its own; a cell may replace it by an op
        that does the same faster."""
        valid = None
        if lengths is not None:
            check_lengths(type(self).__name__, lengths, x)
            valid = within(jnp.asarray(lengths), x.shape[-2])
            # Padding is replaced by zeros. To select the valid outputs is not enough: the cotangent 0 of what a select
            # leaves out, times a nan that the step computed with, is nan.
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
        # The carry starts in the dtype of what the step returns, which may be wider than that of ``carry``.
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
    """What the three cells share: their parameters ``w_x``, ``w_h`` and ``b``, each a block of columns per gate."""

    features: int
    bias: bool = True
    weight_init: Initializer = xavier_uniform
    recurrent_init: Initializer = xavier_uniform
    bias_init: Initializer = zeros
    recurrent_keep_prob: float = 1.0
    recurrent_rate: InitVar[float | None] = field(default=None, kw_only=True)
    precision: jax.lax.PrecisionLike = None

    gates: ClassVar[int]
    elementwise: ClassVar[int]

    @property
    def _hidden(self) -> int:
        """The width of h."""
        return self.features

    def __post_init__(self, recurrent_rate):
        super().__post_init__()
        require_sizes(self, "features")
        keep_prob = kept(type(self).__name__, self.recurrent_keep_prob, recurrent_rate, prefix="recurrent_")
        object.__setattr__(self, "recurrent_keep_prob", keep_prob)

    def init(self, key, x: tuple[Carry, Shaped[Example, "*batch features"]]) -> tuple[Params, State]:
        _, step = x
        dtype = jnp.result_type(step.dtype, float)
        keys = jax.random.split(key, 3)

        def blocks(key, initializer, *shape):
            # Each gate's block by itself, as the fan-out of a gate is H and not that of all gates together.
            parts = [initializer(k, (*shape, self.features), dtype) for k in jax.random.split(key, self.gates)]
            return jnp.concatenate(parts, axis=-1)

        params = {
            "w_x": blocks(keys[0], self.weight_init, step.shape[-1]),
            "w_h": blocks(keys[1], self.recurrent_init, self._hidden),
        }
        if self.bias:
            params["b"] = blocks(keys[2], self.bias_init)
        return params, ()

    def initial(self, x: PyTree) -> Carry:
        return jnp.broadcast_to(jnp.zeros_like(x[..., :1]), (*x.shape[:-1], self.features))

    def prepare(self, params, *, key, train):
        held(self, "params", params, "w_x", "w_h")
        if not train or self.recurrent_keep_prob == 1:
            return params
        key = needed_key(key, f"{type(self).__name__} with recurrent_keep_prob={self.recurrent_keep_prob}")
        return {**params, "w_h": ops.dropout(params["w_h"], key, keep_prob=self.recurrent_keep_prob)}

    def flops(self, x, y):
        """Two for each weight and step, and the elementwise operations."""
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
            *Regularizing and Optimizing LSTM Language Models*). ``prepare`` draws one mask for a whole sequence.
            Or ``recurrent_rate``, 1 minus it.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.
        activation: ``"tanh"`` or ``"relu"``.
    """

    activation: Literal["tanh", "relu"] = "tanh"

    gates: ClassVar[int] = 1
    elementwise: ClassVar[int] = 1

    def __post_init__(self, recurrent_rate):
        super().__post_init__(recurrent_rate)
        check_activation("RNNCell", self.activation)

    def apply(
        self, params, state, x: tuple[_Before, _Inputs], *, key=None, train=False
    ) -> tuple[tuple[_After, _After], State]:
        h, step = x
        h = ops.rnn_step(
            step, h, params["w_x"], params["w_h"], params.get("b"), activation=self.activation, precision=self.precision
        )
        return (h, h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        p = self.prepare(params, key=key, train=train)
        y = ops.rnn(
            x, carry, p["w_x"], p["w_h"], p.get("b"), lengths, activation=self.activation, reverse=reverse,
            precision=self.precision,
        )  # fmt: skip
        return y, state


@dataclass(frozen=True)
class LSTMCell(_GatedCell):
    """A step of :func:`dlfn.ops.lstm`. The carry is ``(h, c)``, both (..., features), and y is h.

    Args: those of :class:`RNNCell` without ``activation``, and

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

    def init(self, key, x: tuple[Carry, Shaped[Example, "*batch features"]]) -> tuple[Params, State]:
        params, state = super().init(key, x)
        if self.bias:
            params["b"] = params["b"].at[self.features : 2 * self.features].add(self.forget_bias)
        return params, state

    def initial(self, x):
        return super().initial(x), super().initial(x)

    def apply(
        self, params, state, x: tuple[tuple[_Before, _Before], _Inputs], *, key=None, train=False
    ) -> tuple[tuple[tuple[_After, _After], _After], State]:
        (h, c), step = x
        h, c = ops.lstm_step(step, h, c, params["w_x"], params["w_h"], params.get("b"), precision=self.precision)
        return ((h, c), h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        p = self.prepare(params, key=key, train=train)
        h, c = (None, None) if carry is None else carry
        hs, h, c = ops.lstm(x, h, c, p["w_x"], p["w_h"], p.get("b"), lengths, reverse=reverse, precision=self.precision)
        return (hs, (h, c)), state


@dataclass(frozen=True)
class GRUCell(_GatedCell):
    """A step of :func:`dlfn.ops.gru`. The carry is h (..., features), and so is y.

    Args: those of :class:`RNNCell` without ``activation``, and

        reset_after: the form of cuDNN and PyTorch, with a parameter ``b_h`` beside ``b``.
    """

    reset_after: bool = False

    gates: ClassVar[int] = 3
    elementwise: ClassVar[int] = 7

    def init(self, key, x: tuple[Carry, Shaped[Example, "*batch features"]]) -> tuple[Params, State]:
        params, state = super().init(key, x)
        if self.bias and self.reset_after:
            params["b_h"] = self.bias_init(jax.random.fold_in(key, 3), (self.features,), params["b"].dtype)
        return params, state

    def apply(
        self, params, state, x: tuple[_Before, _Inputs], *, key=None, train=False
    ) -> tuple[tuple[_After, _After], State]:
        h, step = x
        biases = params.get("b"), params.get("b_h")
        h = ops.gru_step(
            step, h, params["w_x"], params["w_h"], *biases, reset_after=self.reset_after, precision=self.precision
        )
        return (h, h), state

    def sequence(self, params, state, x, carry, lengths, *, reverse, key, train):
        p = self.prepare(params, key=key, train=train)
        y = ops.gru(
            x, carry, p["w_x"], p["w_h"], p.get("b"), p.get("b_h"), lengths, reset_after=self.reset_after,
            reverse=reverse, precision=self.precision,
        )  # fmt: skip
        return y, state


def needed_key(key: RandomKey | None, what: str) -> RandomKey:
    """The key, or an InputError that says how to give one."""
    if key is None:
        raise InputError(
            f"{what} needs a key in training; call model.apply(params, state, x, key=jax.random.key(0), train=True)"
        )
    return key
