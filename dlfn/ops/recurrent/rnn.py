r"""The vanilla recurrent network, :math:`h_t = \sigma(x_t w_x + h_{t-1} w_h + b)`: one step, and a whole sequence."""

import functools
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.core import InputError
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

__all__ = ["check_activation", "rnn", "rnn_step"]


@Op
def rnn_step(
    x: Float[ArrayLike, "*batch features"],
    h: Float[ArrayLike, "*batch hidden"] | None,
    w_x: Float[ArrayLike, "features hidden"],
    w_h: Float[ArrayLike, "hidden hidden"],
    b: Float[ArrayLike, " hidden"] | None = None,
    *,
    activation: Literal["tanh", "relu"] = "tanh",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "*batch hidden"]:
    r"""One step of a vanilla RNN, :math:`h' = \sigma(x w_x + h w_h + b)`.

    With :math:`\delta = \bar h' \odot \sigma'`, where :math:`\tanh' = (1 - h')(1 + h')` and relu′ is 1 where h' > 0,

    .. math::
        \bar x = \delta w_x^\top, \quad \bar h = \delta w_h^\top, \quad \bar w_x = \sum x^\top \delta, \quad
        \bar w_h = \sum h^\top \delta, \quad \bar b = \sum \delta.

    The documents multiply columns, :math:`h' = \sigma(W_h h + W_x x + b)`: pass :math:`w = W^\top`. Half types are
    computed in float32, but for matrix products on GPUs and TPUs.

    Args:
        x: (..., in).
        h: (..., H), or None for zeros.
        w_x: (in, H).
        w_h: (H, H).
        b: (H,), or None.
        activation: ``"tanh"`` or ``"relu"``.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        (..., H), in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, shapes that do not fit, and an unknown activation.

    Source: Elman 1990, *Finding Structure in Time*; 002 section 7.1.

    >>> import jax.numpy as jnp
    >>> print(rnn_step(jnp.ones(2), None, jnp.full((2, 3), 0.25), jnp.eye(3)).round(3))
    [0.462 0.462 0.462]
    """
    (h,) = zero_state(x, w_x, w_h, h)
    a = jnp.matmul(x, w_x, precision=precision) + jnp.matmul(h, w_h, precision=precision)
    a = a if b is None else a + b
    return (jnp.tanh(a) if activation == "tanh" else jnp.where(a > 0, a, 0)).astype(h.dtype)


@rnn_step.def_forward
def _rnn_step_forward(x, h, w_x, w_h, b, *, activation, precision):
    (h,), residuals = step_forward(_CELLS[activation], x, (h,), w_x, (w_h,), b, precision=precision)
    return h, residuals


@rnn_step.def_backward
def _rnn_step_backward(residuals, dh, *, activation, precision):
    d_x, (d_h,), d_w_x, d_w_h, d_b = step_backward(_CELLS[activation], residuals, (dh,), precision=precision)
    return d_x, d_h, d_w_x, d_w_h, d_b


@rnn_step.def_check
def _rnn_step_check(x, h, w_x, w_h, b, *, activation):
    check_activation("rnn_step", activation)
    check("rnn_step", 1, x, {"h": h}, w_x, w_h, b, steps=False)


@Op
def rnn(
    x: Float[ArrayLike, "*batch steps features"],
    h0: Float[ArrayLike, "*batch hidden"] | None,
    w_x: Float[ArrayLike, "features hidden"],
    w_h: Float[ArrayLike, "hidden hidden"],
    b: Float[ArrayLike, " hidden"] | None = None,
    lengths: Integer[ArrayLike, "*batch"] | None = None,
    *,
    activation: Literal["tanh", "relu"] = "tanh",
    reverse: bool = False,
    precision: lax.PrecisionLike = None,
) -> tuple[Float[Array, "*batch steps hidden"], Float[Array, "*batch hidden"]]:
    r"""A vanilla RNN over a sequence, :math:`h_t = \sigma(x_t w_x + h_{t-1} w_h + b)` for t = 1 … T.

    Backpropagation through time: from the last step to the first, with :math:`\bar h_t` the cotangent of output t,

    .. math::
        \delta_t = (\bar h_t + \delta_{t+1} w_h^\top) \odot \sigma'_t, \qquad
        \bar w_h = \sum_t h_{t-1}^\top \delta_t, \quad \bar w_x = \sum_t x_t^\top \delta_t, \quad
        \bar b = \sum_t \delta_t, \quad \bar x_t = \delta_t w_x^\top,

    where only :math:`\delta_t` needs a loop. Hence :math:`\partial h_t / \partial h_{t-k}` is a product of k factors
    :math:`w_h \operatorname{diag}(\sigma')`, which vanishes or explodes with k: ``dlfn.check.jacobian_norms`` measures
    it. The backward pass keeps the states, T·H numbers per sequence. With half types the state is carried and kept in
    float32.

    Args:
        x: (..., T, in).
        h0: the state before the first step, (..., H), or None for zeros.
        w_x: (in, H).
        w_h: (H, H).
        b: (H,), or None.
        lengths: integers (...,): how many steps each sequence has; None for T. The steps beyond are padding: they leave
            the state as it is, their output is 0, and x is never read there, so that it may even hold nan.
        activation: ``"tanh"`` or ``"relu"``.
        reverse: run from the last step to the first; with lengths, from the last step of each sequence. Output t still
            belongs to step t, and h_last is the state after the first step, which is the last to run.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        ``(hs, h_last)``: (..., T, H), the state after every step, and (..., H), after the last one.

    Raises:
        InputError: on arguments that are not floating point (lengths: integers), shapes that do not fit, and an
            unknown activation.

    Source: Elman 1990, *Finding Structure in Time*; 002 section 7.1.

    >>> import jax.numpy as jnp
    >>> x, one = jnp.array([[1.0], [1.0], [1.0]]), jnp.ones((1, 1))
    >>> hs, h_last = rnn(x, None, one, one, None, jnp.array(2), activation="relu")
    >>> print(hs[:, 0], h_last)
    [1. 2. 0.] [2.]
    """
    x = jnp.asarray(x)
    step = functools.partial(rnn_step.definition, activation=activation, precision=precision)
    state = zero_state(x[..., 0, :] if x.shape[-2] else jnp.sum(x, -2), w_x, w_h, h0)
    return textbook(lambda x, h: (step(x, h, w_x, w_h, b).astype(h.dtype),), x, state, lengths, reverse)


@rnn.def_forward
def _rnn_forward(x, h0, w_x, w_h, b, lengths, *, activation, reverse, precision):
    cell = _CELLS[activation]
    return sequence_forward(cell, x, (h0,), w_x, (w_h,), b, lengths, reverse=reverse, precision=precision)


@rnn.def_backward
def _rnn_backward(residuals, dy, *, activation, reverse, precision):
    cell = _CELLS[activation]
    d_x, (d_h0,), d_w_x, d_w_h, d_b = sequence_backward(cell, residuals, dy, reverse=reverse, precision=precision)
    return d_x, d_h0, d_w_x, d_w_h, d_b, None


@rnn.def_check
def _rnn_check(x, h0, w_x, w_h, b, lengths, *, activation):
    check_activation("rnn", activation)
    check("rnn", 1, x, {"h0": h0}, w_x, w_h, b, lengths, steps=True)


def check_activation(op, activation):
    if activation not in _CELLS:
        raise InputError(f"{op}: activation is {activation!r}, and must be 'tanh' or 'relu'")


def _cell(activate, slope):
    def forward(weights, dot):
        (w_h,) = weights

        def step(a, before):
            return (activate(a + dot(before[0], w_h)),), ()

        return step

    def backward(weights, dot):
        w_t = weights[0].T

        def step(before, after, saved, d_after):
            delta = d_after[0] * slope(after[0])
            return delta, (dot(delta, w_t),)

        return step

    def gradients(h_before, saved, delta, product):
        return (product(h_before, delta),)

    return Cell(forward, backward, gradients)


_CELLS = {
    "tanh": _cell(lax.tanh, lambda h: (1 - h) * (1 + h)),
    "relu": _cell(lambda a: jnp.maximum(a, 0), lambda h: (h > 0).astype(h.dtype)),
}
