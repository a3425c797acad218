r"""Long short-term memory: one step, and a whole sequence."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.ops.recurrent.recurrence import (
    Cell,
    check,
    sequence_backward,
    sequence_forward,
    step_backward,
    step_forward,
    textbook,
    zero_state,
)
from dlfn.ops.support.op import Op

__all__ = ["lstm", "lstm_step"]


@Op
def lstm_step(
    x: Float[ArrayLike, "*batch features"],
    h: Float[ArrayLike, "*batch hidden"] | None,
    c: Float[ArrayLike, "*batch hidden"] | None,
    w_x: Float[ArrayLike, "features gates"],
    w_h: Float[ArrayLike, "hidden gates"],
    b: Float[ArrayLike, " gates"] | None = None,
    *,
    precision: lax.PrecisionLike = None,
) -> tuple[Float[Array, "*batch hidden"], Float[Array, "*batch hidden"]]:
    r"""One step of an LSTM.

    .. math::
        a = x w_x + h w_h + b, \quad i = \sigma(a_i), \; f = \sigma(a_f), \; g = \tanh(a_g), \; o = \sigma(a_o), \qquad
        c' = f \odot c + i \odot g, \quad h' = o \odot \tanh c'

    The gates stand in the order i, f, g, o along the last axis of the weights, as in PyTorch. The documents call g
    :math:`\tilde c`, and have one matrix for :math:`[h; x]`, which is :math:`w_h^\top` beside :math:`w_x^\top`.
    Backwards,

    .. math::
        \bar c' \mathrel{+}= \bar h' \odot o \odot (1 - \tanh^2 c'), \qquad
        \delta = \big(\bar c' g\, i (1 - i),\; \bar c' c\, f (1 - f),\; \bar c' i\, (1 - g^2),\;
        \bar h' \tanh(c')\, o (1 - o)\big), \\
        \bar c = \bar c' \odot f, \quad \bar h = \delta w_h^\top, \quad \bar x = \delta w_x^\top, \quad
        \bar w_h = \sum h^\top \delta, \quad \bar w_x = \sum x^\top \delta, \quad \bar b = \sum \delta.

    Half types are computed in float32, but for matrix products on GPUs and TPUs.

    Args:
        x: (..., in).
        h: (..., H), or None for zeros.
        c: (..., H), or None for zeros.
        w_x: (in, 4 H).
        w_h: (H, 4 H).
        b: (4 H,), or None.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        ``(h', c')``, both (..., H), in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, and shapes that do not fit.

    Source: Hochreiter & Schmidhuber 1997, *Long Short-Term Memory*; the forget gate: Gers, Schmidhuber & Cummins 2000,
    *Learning to Forget: Continual Prediction with LSTM*; 002 section 7.2.

    >>> import jax.numpy as jnp
    >>> h, c = lstm_step(jnp.zeros(2), None, jnp.ones(3), jnp.zeros((2, 12)), jnp.zeros((3, 12)))
    >>> print(c, h.round(3))
    [0.5 0.5 0.5] [0.231 0.231 0.231]
    """
    h, c = zero_state(x, w_x, w_h, h, c)
    a = jnp.matmul(x, w_x, precision=precision) + jnp.matmul(h, w_h, precision=precision)
    i, f, g, o = jnp.split(a if b is None else a + b, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


@lstm_step.def_forward
def _lstm_step_forward(x, h, c, w_x, w_h, b, *, precision):
    return step_forward(_CELL, x, (h, c), w_x, (w_h,), b, precision=precision)


@lstm_step.def_backward
def _lstm_step_backward(residuals, dy, *, precision):
    d_x, d_state, *d_weights = step_backward(_CELL, residuals, dy, precision=precision)
    return d_x, *d_state, *d_weights


@lstm_step.def_check
def _lstm_step_check(x, h, c, w_x, w_h, b):
    check("lstm_step", 4, x, {"h": h, "c": c}, w_x, w_h, b, steps=False)


@Op
def lstm(
    x: Float[ArrayLike, "*batch steps features"],
    h0: Float[ArrayLike, "*batch hidden"] | None,
    c0: Float[ArrayLike, "*batch hidden"] | None,
    w_x: Float[ArrayLike, "features gates"],
    w_h: Float[ArrayLike, "hidden gates"],
    b: Float[ArrayLike, " gates"] | None = None,
    lengths: Integer[ArrayLike, "*batch"] | None = None,
    *,
    reverse: bool = False,
    precision: lax.PrecisionLike = None,
) -> tuple[Float[Array, "*batch steps hidden"], Float[Array, "*batch hidden"], Float[Array, "*batch hidden"]]:
    r"""An LSTM over a sequence: :func:`lstm_step` for t = 1 … T, with the gates in the order i, f, g, o.

    .. math:: c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh c_t

    Backwards the loop runs from the last step to the first. It carries :math:`\bar h` and :math:`\bar c`, adds to
    :math:`\bar h` the cotangent of output t, and collects the step's :math:`\delta_t`. After the loop the gradients
    of the weights are one matrix product each, :math:`\sum_t h_{t-1}^\top \delta_t` and
    :math:`\sum_t x_t^\top \delta_t`. The backward pass keeps the gates, h and c: 6·T·H numbers per sequence. With half
    types these are carried and kept in float32.

    PyTorch's weights are the transposes of these, and it has two biases, whose sum is b.

    Args:
        x: (..., T, in).
        h0: the state before the first step, (..., H), or None for zeros.
        c0: the cell state before the first step, (..., H), or None for zeros.
        w_x: (in, 4 H).
        w_h: (H, 4 H).
        b: (4 H,), or None.
        lengths: integers (...,): how many steps each sequence has; None for T. The steps beyond are padding: they leave
            the state as it is, their output is 0, and x is never read there, so that it may even hold nan.
        reverse: run from the last step to the first; with lengths, from the last step of each sequence. Output t still
            belongs to step t, and the last states are those after the first step, which is the last to run.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        ``(hs, h_last, c_last)``: (..., T, H), h after every step, and (..., H) each, after the last one.

    Raises:
        InputError: on arguments that are not floating point (lengths: integers), and shapes that do not fit.

    Source: Hochreiter & Schmidhuber 1997, *Long Short-Term Memory*; the forget gate: Gers, Schmidhuber & Cummins 2000,
    *Learning to Forget: Continual Prediction with LSTM*; 002 section 7.2.

    >>> import jax.numpy as jnp
    >>> hs, h, c = lstm(jnp.zeros((2, 5, 3)), None, jnp.ones((2, 1)), jnp.zeros((3, 4)), jnp.zeros((1, 4)))
    >>> print(hs.shape, c[:, 0])
    (2, 5, 1) [0.03125 0.03125]
    """
    x = jnp.asarray(x)
    step = functools.partial(lstm_step.definition, precision=precision)
    state = zero_state(x[..., 0, :] if x.shape[-2] else jnp.sum(x, -2), w_x, w_h, h0, c0)
    return textbook(lambda x, h, c: step(x, h, c, w_x, w_h, b), x, state, lengths, reverse)


@lstm.def_forward
def _lstm_forward(x, h0, c0, w_x, w_h, b, lengths, *, reverse, precision):
    return sequence_forward(_CELL, x, (h0, c0), w_x, (w_h,), b, lengths, reverse=reverse, precision=precision)


@lstm.def_backward
def _lstm_backward(residuals, dy, *, reverse, precision):
    d_x, d_state, *d_weights = sequence_backward(_CELL, residuals, dy, reverse=reverse, precision=precision)
    return d_x, *d_state, *d_weights, None


@lstm.def_check
def _lstm_check(x, h0, c0, w_x, w_h, b, lengths):
    check("lstm", 4, x, {"h0": h0, "c0": c0}, w_x, w_h, b, lengths, steps=True)


def _lstm_cell_forward(weights, dot):
    (w_h,) = weights

    def step(a, before):
        h, c = before
        i, f, g, o = jnp.split(a + dot(h, w_h), 4, axis=-1)
        i, f, g, o = lax.logistic(i), lax.logistic(f), lax.tanh(g), lax.logistic(o)
        c = f * c + i * g
        return (o * lax.tanh(c), c), jnp.concatenate([i, f, g, o], axis=-1)

    return step


def _lstm_cell_backward(weights, dot):
    w_t = weights[0].T

    def step(before, after, gates, d_after):
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        dh, dc = d_after
        t = lax.tanh(after[1])
        dc = dc + dh * o * (1 - t * t)
        # The parts are joined before the multiplication and not after it, as XLA on CPU then needs one array less.
        slopes = jnp.concatenate([i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)], axis=-1)
        delta = slopes * jnp.concatenate([dc * g, dc * before[1], dc * i, dh * t], axis=-1)
        return delta, (dot(delta, w_t), dc * f)

    return step


def _lstm_cell_gradients(h_before, gates, delta, product):
    return (product(h_before, delta),)


_CELL = Cell(_lstm_cell_forward, _lstm_cell_backward, _lstm_cell_gradients)
