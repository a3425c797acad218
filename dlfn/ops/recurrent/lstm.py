r"""Long short-term memory: one step, and a whole sequence."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

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
def lstm_step(x, h, c, w_x, w_h, b=None, *, precision=None):
    r"""One step of an LSTM.

    .. math::
        a = x w_x + h w_h + b, \quad i = \sigma(a_i), \; f = \sigma(a_f), \; g = \tanh(a_g), \; o = \sigma(a_o), \qquad
        c' = f \odot c + i \odot g, \quad h' = o \odot \tanh c'

    The gates stand in the order i, f, g, o along the last axis of the weights, as in PyTorch; g is the documents'
    :math:`\tilde c`, and their weights for :math:`[h; x]` are :math:`w_h^\top` beside :math:`w_x^\top`. Backwards,

    .. math::
        \bar c' \mathrel{+}= \bar h' \odot o \odot (1 - \tanh^2 c'), \qquad
        \delta = \big(\bar c' g\, i (1 - i),\; \bar c' c\, f (1 - f),\; \bar c' i\, (1 - g^2),\;
        \bar h' \tanh(c')\, o (1 - o)\big), \\
        \bar c = \bar c' \odot f, \quad \bar h = \delta w_h^\top, \quad \bar x = \delta w_x^\top, \quad
        \bar w_h = \sum h^\top \delta, \quad \bar w_x = \sum x^\top \delta, \quad \bar b = \sum \delta.

    Half types compute in float32.

    Args:
        x: (..., in).
        h: (..., H), or None for zeros.
        c: (..., H), or None for zeros.
        w_x: (in, 4 H).
        w_h: (H, 4 H).
        b: (4 H,), or None.
        precision: of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        ``(h', c')``, both (..., H), in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, and shapes that do not fit.

    Source: 002 section 7.2.

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


@Op
def lstm(x, h0, c0, w_x, w_h, b=None, lengths=None, *, reverse=False, precision=None):
    r"""An LSTM over a sequence: :func:`lstm_step` for t = 1 … T, with the gates in the order i, f, g, o.

    Backwards the loop runs from the last step to the first. It carries :math:`\bar h` and :math:`\bar c`, adds to
    :math:`\bar h` the cotangent of output t, and collects the step's :math:`\delta_t`; the gradients of the weights are
    one product each after it, :math:`\sum_t h_{t-1}^\top \delta_t` and :math:`\sum_t x_t^\top \delta_t`. The backward
    pass keeps the gates, h and c: 6·T·H numbers per sequence. Half types carry and keep them in float32.

    PyTorch has two biases, which add up to b, and transposed weights.

    Args:
        x: (..., T, in).
        h0: the state before the first step, (..., H), or None for zeros.
        c0: likewise.
        w_x: (in, 4 H).
        w_h: (H, 4 H).
        b: (4 H,), or None.
        lengths: integers (...,): how many steps each sequence has; None for T. Steps from there on are padding: they
            keep the state, their output is 0, and what x holds there is never read, not even a nan.
        reverse: run from the last step to the first. With lengths, from each sequence's last. Output t remains that of
            step t, and the last state is that of the first.
        precision: of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        ``(hs, h_last, c_last)``: (..., T, H), h after every step, and (..., H) each, after the last one.

    Raises:
        InputError: on arguments that are not floating point (lengths: integers), and shapes that do not fit.

    Source: 002 section 7.2.

    >>> import jax.numpy as jnp
    >>> hs, h, c = lstm(jnp.zeros((2, 5, 3)), None, jnp.ones((2, 1)), jnp.zeros((3, 4)), jnp.zeros((1, 4)))
    >>> print(hs.shape, c[:, 0])
    (2, 5, 1) [0.03125 0.03125]
    """
    step = functools.partial(lstm_step.definition, precision=precision)
    state = zero_state(x[..., 0, :] if x.shape[-2] else jnp.sum(x, -2), w_x, w_h, h0, c0)
    return textbook(lambda x, h, c: step(x, h, c, w_x, w_h, b), x, state, lengths, reverse)


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
        # Joined before they are multiplied, not after: XLA on CPU then needs an array less.
        slopes = jnp.concatenate([i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)], axis=-1)
        delta = slopes * jnp.concatenate([dc * g, dc * before[1], dc * i, dh * t], axis=-1)
        return delta, (dot(delta, w_t), dc * f)

    return step


def _lstm_cell_gradients(h_before, gates, delta, product):
    return (product(h_before, delta),)


_CELL = Cell(_lstm_cell_forward, _lstm_cell_backward, _lstm_cell_gradients)


@lstm_step.def_forward
def _lstm_step_forward(x, h, c, w_x, w_h, b, *, precision):
    return step_forward(_CELL, x, (h, c), w_x, (w_h,), b, precision=precision)


@lstm_step.def_backward
def _lstm_step_backward(residuals, dy, *, precision):
    d_x, d_state, *d_weights = step_backward(_CELL, residuals, dy, precision=precision)
    return d_x, *d_state, *d_weights


@lstm.def_forward
def _lstm_forward(x, h0, c0, w_x, w_h, b, lengths, *, reverse, precision):
    return sequence_forward(_CELL, x, (h0, c0), w_x, (w_h,), b, lengths, reverse=reverse, precision=precision)


@lstm.def_backward
def _lstm_backward(residuals, dy, *, reverse, precision):
    d_x, d_state, *d_weights = sequence_backward(_CELL, residuals, dy, reverse=reverse, precision=precision)
    return d_x, *d_state, *d_weights, None


@lstm_step.def_check
def _lstm_step_check(x, h, c, w_x, w_h, b):
    check("lstm_step", 4, x, {"h": h, "c": c}, w_x, w_h, b, steps=False)


@lstm.def_check
def _lstm_check(x, h0, c0, w_x, w_h, b, lengths):
    check("lstm", 4, x, {"h0": h0, "c0": c0}, w_x, w_h, b, lengths, steps=True)
