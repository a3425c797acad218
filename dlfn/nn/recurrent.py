"""Layers over time: a cell run along a sequence, in both directions, and in stacks."""

import abc
import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.cells import Cell, GRUCell, LSTMCell, RNNCell
from dlfn.nn.checks import held, kept, require_layer
from dlfn.nn.layer import Layer, array_of, brief, inside, output_shape, title
from dlfn.nn.sequence import Sequence
from dlfn.nn.types import AnyArray, Carry, Example, Params, RandomKey, State

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional", "Recurrent", "Stacked"]

Output: TypeAlias = Literal["sequence", "last", "both"]


class _OverTime(Layer):
    """What the layers over time share: their inputs, and the choice of their output."""

    output: Output

    def __post_init__(self):
        super().__post_init__()
        if self.output not in ("sequence", "last", "both"):
            raise InputError(
                f"{type(self).__name__}: output is {self.output!r}, and must be 'sequence', 'last' or 'both'"
            )

    @abc.abstractmethod
    def run(
        self, params: Params, state: State, x: Sequence, *, key: RandomKey | None, train: bool
    ) -> tuple[tuple[Array, Array, Carry], State]:
        """``((values, h, final), state)``: the outputs, the last hidden state, and what could be ``initial`` next."""

    def apply(
        self, params, state, x: Float[AnyArray, "*batch steps features"] | Sequence, *, key=None, train=False
    ) -> tuple[PyTree, State]:
        given = _as_sequence(self, x)
        (values, h, final), state = self.run(params, state, given, key=key, train=train)
        if self.output == "last":
            return h, state
        y = Sequence(values, given.lengths) if isinstance(x, Sequence) else values
        return (y if self.output == "sequence" else (y, final)), state

    def flops(self, x, y):
        return 0


@dataclass(frozen=True)
class Recurrent(_OverTime):
    """A cell run over the time axis of x (..., T, features). ``RNN``, ``LSTM`` and ``GRU`` are short for theirs.

    x is an array or a :class:`~dlfn.nn.Sequence`, which has lengths and an initial state besides. With lengths, steps
    beyond a sequence's length keep its state and have output 0.

    Args:
        cell: any :class:`Cell`. :class:`RNNCell`, :class:`LSTMCell` and :class:`GRUCell` run as one op over the whole
            sequence, others step by step, each with a key of its own.
        reverse: run from the last step to the first.
        output: ``"sequence"``: the outputs of all steps, as an array or, if x is a Sequence, as a Sequence with the
            same lengths; ``"last"``: the last hidden state (..., H); ``"both"``: ``(outputs, final)``, of which the
            second is the final state in the form of ``Sequence.initial``.

    Params and state are those of the cell.

    >>> import jax, jax.numpy as jnp, dlfn.nn as nn
    >>> model = nn.Serial(nn.LSTM(16), nn.LSTM(8, output="last"), nn.Linear(3))
    >>> x = nn.Sequence(jnp.ones((2, 5, 4)), lengths=jnp.array([5, 3]))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> y, state = model.apply(params, state, x)
    >>> print(y.shape, jax.tree.map(jnp.shape, params[1]))
    (2, 3) {'b': (32,), 'w_h': (8, 32), 'w_x': (16, 32)}
    """

    cell: Cell
    reverse: bool = False
    output: Output = "sequence"

    def __post_init__(self):
        super().__post_init__()
        require_layer(self, self.cell, Cell, "a cell, such as LSTMCell(64)")

    def init(self, key, x: Shaped[Example, "*batch steps features"] | Sequence) -> tuple[Params, State]:
        return self.cell.init(key, self._step(x))

    def run(self, params, state, x, *, key, train):
        if x.initial is not None:
            expected, _ = self._step(x)
            if jax.tree.structure(x.initial) != jax.tree.structure(expected):
                raise InputError(f"{self}: initial is {brief(x.initial)}, and must be {brief(expected)}")
        (values, final), state = self.cell.sequence(
            params, state, x.values, x.initial, x.lengths, reverse=self.reverse, key=key, train=train
        )
        return (values, jax.tree.leaves(final)[0], final), state

    def flops(self, x, y):
        """Those of the cell, for every step."""
        carry, step = self._step(x)
        return _as_sequence(self, x).values.shape[-2] * self.cell.flops((carry, step), (carry, step))

    def _step(self, x):
        """Shapes of the carry and of one step's x."""
        values = _as_sequence(self, x).values
        if len(values.shape) < 2:
            raise InputError(f"{self} needs x of shape (..., T, features), got {values.shape}; reshape x")
        step = jax.ShapeDtypeStruct((*values.shape[:-2], values.shape[-1]), values.dtype)
        return jax.eval_shape(self.cell.initial, step), step


def RNN(features: int, *, reverse: bool = False, output: Output = "sequence", **settings: Any) -> Recurrent:
    """``Recurrent(RNNCell(features, **settings), reverse, output)``."""
    return Recurrent(RNNCell(features, **settings), reverse, output)


def LSTM(features: int, *, reverse: bool = False, output: Output = "sequence", **settings: Any) -> Recurrent:
    """``Recurrent(LSTMCell(features, **settings), reverse, output)``."""
    return Recurrent(LSTMCell(features, **settings), reverse, output)


def GRU(features: int, *, reverse: bool = False, output: Output = "sequence", **settings: Any) -> Recurrent:
    """``Recurrent(GRUCell(features, **settings), reverse, output)``."""
    return Recurrent(GRUCell(features, **settings), reverse, output)


@dataclass(frozen=True)
class Bidirectional(_OverTime):
    """A layer over time and one in reverse, with their outputs side by side.

    Source: Schuster & Paliwal 1997, *Bidirectional Recurrent Neural Networks*.

    Args:
        forward: such as ``LSTM(64)``.
        backward: such as ``GRU(64, reverse=True)``; None for ``forward`` in reverse, with parameters of its own.
        output: as for :class:`Recurrent`. ``"last"`` joins the last states of the two directions; the final state is
            their pair.

    Params are ``{"forward": ..., "backward": ...}``.

    >>> import jax, jax.numpy as jnp
    >>> layer = Bidirectional(GRU(3))
    >>> params, state = layer.init(jax.random.key(0), jnp.zeros((2, 5, 4)))
    >>> layer.apply(params, state, jnp.zeros((2, 5, 4)))[0].shape
    (2, 5, 6)
    """

    forward: Any
    backward: Any = None
    output: Output = "sequence"

    def __post_init__(self):
        super().__post_init__()
        _require_sequences(self, self.forward)
        if self.backward is None:
            require_layer(self, self.forward, Recurrent, "such as LSTM(64), or be given with a backward layer")
            object.__setattr__(self, "backward", dataclasses.replace(self.forward, reverse=True))
        _require_sequences(self, self.backward)
        for name, layer in self.children().items():
            reverse, parts = name == "backward", layer.layers if isinstance(layer, Stacked) else (layer,)
            if any(isinstance(part, Recurrent) and part.reverse is not reverse for part in parts):
                raise InputError(f"Bidirectional: {name} is {title(layer)}, and must be given with reverse={reverse}")

    def children(self):
        return {"forward": self.forward, "backward": self.backward}

    def with_children(self, children: Mapping[str, Layer]):
        return _with(self, **children)

    def init(self, key, x: Shaped[Example, "*batch steps features"] | Sequence) -> tuple[Params, State]:
        params, states = {}, {}
        for index, (name, layer) in enumerate(self.children().items()):
            with inside(name):
                params[name], states[name] = layer.init(jax.random.fold_in(key, index), x)
        return params, _if_any(states)

    def run(self, params, state, x, *, key, train):
        held(self, "params", params, "forward", "backward")
        if x.initial is not None:
            _require_one_each(self, "initial", x.initial, 2)
        runs, states = [], {}
        for index, (name, layer) in enumerate(self.children().items()):
            given = x._replace(initial=None if x.initial is None else x.initial[index])
            layer_key = None if key is None else jax.random.fold_in(key, index)
            with inside(name):
                layer_state = state[name] if state != () else ()
                run, states[name] = layer.run(params[name], layer_state, given, key=layer_key, train=train)
            runs.append(run)
        values, h, final = zip(*runs)
        return (jnp.concatenate(values, -1), jnp.concatenate(h, -1), final), _if_any(states)


@dataclass(frozen=True, init=False)
class Stacked(_OverTime):
    """Layers over time, each on the outputs of the one before, with the initial and final states of all.

    Args:
        layers: such as ``LSTM(64), LSTM(64)``; :class:`Bidirectional` ones too.
        keep_prob: of the dropout on the outputs of every layer but the last, in training; or ``rate``, 1 minus it.
        output: as for :class:`Recurrent`: the outputs and the last hidden state are those of the last layer, the final
            state is the tuple of all layers'.

    Params are a tuple. Where the states do not matter, ``Serial`` does the same.

    Raises:
        InputError: in training, when ``keep_prob`` is below 1 and no key is given.

    >>> import jax, jax.numpy as jnp
    >>> layer = Stacked(LSTM(3), LSTM(2), output="both")
    >>> params, state = layer.init(jax.random.key(0), jnp.zeros((5, 4)))
    >>> (y, final), _ = layer.apply(params, state, jnp.zeros((5, 4)))
    >>> print(y.shape, jax.tree.map(jnp.shape, final))
    (5, 2) (((3,), (3,)), ((2,), (2,)))
    """

    layers: tuple[Any, ...]
    keep_prob: float
    output: Output

    def __init__(self, *layers: Any, keep_prob: float = 1.0, rate: float | None = None, output: Output = "sequence"):
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "keep_prob", kept("Stacked", keep_prob, rate))
        object.__setattr__(self, "output", output)
        self.__post_init__()
        if not layers:
            raise InputError("Stacked needs at least one layer, as in Stacked(LSTM(64), LSTM(64))")
        for layer in layers:
            _require_sequences(self, layer)

    def children(self):
        return {str(index): layer for index, layer in enumerate(self.layers)}

    def with_children(self, children: Mapping[str, Layer]):
        return _with(self, layers=tuple(children.values()))

    def init(self, key, x: Shaped[Example, "*batch steps features"] | Sequence) -> tuple[Params, State]:
        x = _as_sequence(self, x).values
        params, states = [], []
        for index, layer in enumerate(self.layers):
            with inside(str(index)):
                layer_params, layer_state = layer.init(jax.random.fold_in(key, index), x)
                x = output_shape(layer, layer_params, layer_state, x)
            params.append(layer_params)
            states.append(layer_state)
        return tuple(params), _if_any(tuple(states))

    def run(self, params, state, x, *, key, train):
        _require_one_each(self, "params", params, len(self.layers))
        if x.initial is not None:
            _require_one_each(self, "initial", x.initial, len(self.layers))
        values = h = x.values
        finals, states = [], []
        for index, layer in enumerate(self.layers):
            layer_key = None if key is None else jax.random.fold_in(key, index)
            if index and train and self.keep_prob < 1:
                if layer_key is None:
                    raise InputError(
                        "Stacked with keep_prob needs a key in training; call apply(..., key=..., train=True)"
                    )
                values = ops.dropout(values, jax.random.fold_in(layer_key, 0), keep_prob=self.keep_prob)
                layer_key = jax.random.fold_in(layer_key, 1)
            given = Sequence(values, x.lengths, None if x.initial is None else x.initial[index])
            with inside(str(index)):
                layer_state = state[index] if state != () else ()
                (values, h, final), layer_state = layer.run(
                    params[index], layer_state, given, key=layer_key, train=train
                )
            finals.append(final)
            states.append(layer_state)
        return (values, h, tuple(finals)), _if_any(tuple(states))


def _as_sequence(layer: Layer, x: Any) -> Sequence:
    values = array_of(layer, x)
    if isinstance(x, Sequence) and x.mask is not None:
        raise InputError(
            f"{title(layer)} takes sequences with lengths, and got one with a mask {brief(x.mask)}, which is for "
            "attention; put the padding behind the steps, and give Sequence(values, lengths)"
        )
    return x if isinstance(x, Sequence) else Sequence(values)


def _if_any(states: Any) -> Any:
    """``()`` where no layer has a state."""
    return states if jax.tree.leaves(states) else ()


def _require_one_each(layer: Layer, what: str, values: Any, count: int) -> None:
    if not isinstance(values, tuple | list) or len(values) != count:
        raise InputError(
            f"{title(layer)}: {what} is {brief(values)}, and must be a tuple of {count}, one for each layer"
        )


def _with(layer: Any, **children: Any) -> Any:
    """The layer with others in the place of its children. They are not checked again, as those by which ``summary``
    watches a model are not layers over time."""
    new = copy.copy(layer)
    for name, child in children.items():
        object.__setattr__(new, name, child)
    return new


def _require_sequences(outer: Layer, layer: Any) -> None:
    require_layer(outer, layer, _OverTime, "a layer over time, such as LSTM(64) or Recurrent(cell)")
    if layer.output != "sequence":
        raise InputError(
            f"{type(outer).__name__}: the layer {layer} has output={layer.output!r}; leave it out, and give output to "
            f"{type(outer).__name__} itself"
        )
