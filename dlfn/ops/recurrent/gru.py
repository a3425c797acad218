r"""The gated recurrent unit, in the documents' form and in that of cuDNN: one step, and a whole sequence."""

import functools

import jax
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
from dlfn.ops.support.arguments import describe
from dlfn.ops.support.op import Op

__all__ = ["gru", "gru_step"]


@Op
def gru_step(
    x: Float[ArrayLike, "*batch features"],
    h: Float[ArrayLike, "*batch hidden"] | None,
    w_x: Float[ArrayLike, "features gates"],
    w_h: Float[ArrayLike, "hidden gates"],
    b: Float[ArrayLike, " gates"] | None = None,
    b_h: Float[ArrayLike, " hidden"] | None = None,
    *,
    reset_after: bool = False,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "*batch hidden"]:
    r"""One step of a GRU, :math:`h' = (1 - z) \odot h + z \odot n`.

    .. math::
        a = x w_x + b, \quad z = \sigma(a_z + h u_z), \quad r = \sigma(a_r + h u_r), \quad
        n = \tanh(a_n + (r \odot h) u_n)

    The gates stand in the order z, r, n along the last axis of the weights, :math:`w_h = (u_z, u_r, u_n)`; n is the
    documents' :math:`\tilde h`. With ``reset_after`` the reset gate acts after the product, as in cuDNN and PyTorch:

    .. math::
        n = \tanh(a_n + r \odot q), \qquad q = h u_n + b_h

    PyTorch's z is 1 minus the documents', as there :math:`h' = (1 - z) n + z h`, and its order is r, z, n. To import
    its weights, swap the first two blocks and negate the weights and the bias of z, as
    :math:`1 - \sigma(a) = \sigma(-a)`; its recurrent biases of r and z are added to b. Backwards,

    .. math::
        \delta_n = \bar h' z (1 - n^2), \qquad \delta_z = \bar h' (n - h) z (1 - z), \qquad
        \delta_r = (\delta_n u_n^\top) h\, r (1 - r), \\
        \bar h = \bar h' (1 - z) + (\delta_n u_n^\top) r + \delta_z u_z^\top + \delta_r u_r^\top, \qquad
        \bar u_n = \sum (r \odot h)^\top \delta_n,

    and with ``reset_after``, where :math:`\bar q = \delta_n r` takes the place of :math:`\delta_n` in the products,
    :math:`\delta_r = \delta_n q\, r (1 - r)`, :math:`\bar h = \bar h' (1 - z) + (\delta_z, \delta_r, \bar q) w_h^\top`
    and :math:`\bar b_h = \sum \bar q`. Half types are computed in float32, but for matrix products on GPUs and
    TPUs.

    Args:
        x: (..., in).
        h: (..., H), or None for zeros.
        w_x: (in, 3 H).
        w_h: (H, 3 H).
        b: (3 H,), or None.
        b_h: (H,), or None; with ``reset_after`` only.
        reset_after: whether the reset gate acts after the product with :math:`u_n`.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        (..., H), in the common dtype of the arguments.

    Raises:
        InputError: on arguments that are not floating point, shapes that do not fit, and a b_h without
            ``reset_after``.

    Source: Cho et al. 2014, *Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine
    Translation*, of which the first version, arXiv:1406.1078v1, has the form of ``reset_after``; 002 section 7.3.

    >>> import jax.numpy as jnp
    >>> gru_step(jnp.zeros(2), jnp.ones(3), jnp.zeros((2, 9)), jnp.zeros((3, 9)))
    Array([0.5, 0.5, 0.5], dtype=float32)
    """
    (h,) = zero_state(x, w_x, w_h, h)
    product = functools.partial(jnp.matmul, precision=precision)
    a_z, a_r, a_n = jnp.split(product(x, w_x) if b is None else product(x, w_x) + b, 3, axis=-1)
    u_z, u_r, u_n = jnp.split(w_h, 3, axis=1)
    z, r = jax.nn.sigmoid(a_z + product(h, u_z)), jax.nn.sigmoid(a_r + product(h, u_r))
    if reset_after:
        q = product(h, u_n) if b_h is None else product(h, u_n) + b_h
        n = jnp.tanh(a_n + r * q)
    else:
        n = jnp.tanh(a_n + product(r * h, u_n))
    return (1 - z) * h + z * n


@gru_step.def_forward
def _gru_step_forward(x, h, w_x, w_h, b, b_h, *, reset_after, precision):
    (h,), residuals = step_forward(_CELLS[reset_after], x, (h,), w_x, (w_h, b_h), b, precision=precision)
    return h, residuals


@gru_step.def_backward
def _gru_step_backward(residuals, dh, *, reset_after, precision):
    d_x, (d_h,), d_w_x, d_w_h, d_b_h, d_b = step_backward(_CELLS[reset_after], residuals, (dh,), precision=precision)
    return d_x, d_h, d_w_x, d_w_h, d_b, d_b_h


@gru_step.def_check
def _gru_step_check(x, h, w_x, w_h, b, b_h, *, reset_after):
    _check_reset("gru_step", b_h, reset_after)
    check("gru_step", 3, x, {"h": h}, w_x, w_h, b, steps=False, b_h=b_h)


@Op
def gru(
    x: Float[ArrayLike, "*batch steps features"],
    h0: Float[ArrayLike, "*batch hidden"] | None,
    w_x: Float[ArrayLike, "features gates"],
    w_h: Float[ArrayLike, "hidden gates"],
    b: Float[ArrayLike, " gates"] | None = None,
    b_h: Float[ArrayLike, " hidden"] | None = None,
    lengths: Integer[ArrayLike, "*batch"] | None = None,
    *,
    reset_after: bool = False,
    reverse: bool = False,
    precision: lax.PrecisionLike = None,
) -> tuple[Float[Array, "*batch steps hidden"], Float[Array, "*batch hidden"]]:
    r"""A GRU over a sequence: :func:`gru_step` for t = 1 … T, with the gates in the order z, r, n.

    .. math:: h_t = (1 - z_t) \odot h_{t-1} + z_t \odot n_t

    Backwards the loop runs from the last step to the first. It carries :math:`\bar h`, adds the cotangent of output t,
    and collects the step's :math:`\delta_t`. After the loop the gradients of the weights are matrix products that sum
    over all steps. The backward pass keeps the gates and h, 4·T·H numbers per sequence, and with ``reset_after`` q as
    well. With half types these are carried and kept in float32.

    Args:
        x: (..., T, in).
        h0: the state before the first step, (..., H), or None for zeros.
        w_x: (in, 3 H).
        w_h: (H, 3 H).
        b: (3 H,), or None.
        b_h: (H,), or None; with ``reset_after`` only.
        lengths: integers (...,): how many steps each sequence has; None for T. The steps beyond are padding: they leave
            the state as it is, their output is 0, and x is never read there, so that it may even hold nan.
        reset_after: the form of cuDNN and PyTorch; :func:`gru_step` says how their z differs.
        reverse: run from the last step to the first; with lengths, from the last step of each sequence. Output t still
            belongs to step t, and h_last is the state after the first step, which is the last to run.
        precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
        ``(hs, h_last)``: (..., T, H), the state after every step, and (..., H), after the last one.

    Raises:
        InputError: on arguments that are not floating point (lengths: integers), shapes that do not fit, and a b_h
            without ``reset_after``.

    Source: Cho et al. 2014, *Learning Phrase Representations using RNN Encoder–Decoder for Statistical Machine
    Translation*; 002 section 7.3.

    >>> import jax.numpy as jnp
    >>> hs, h_last = gru(jnp.zeros((4, 2)), jnp.ones(1), jnp.zeros((2, 3)), jnp.zeros((1, 3)))
    >>> print(hs[:, 0], h_last)
    [0.5    0.25   0.125  0.0625] [0.0625]
    """
    x = jnp.asarray(x)
    step = functools.partial(gru_step.definition, reset_after=reset_after, precision=precision)
    state = zero_state(x[..., 0, :] if x.shape[-2] else jnp.sum(x, -2), w_x, w_h, h0)
    return textbook(lambda x, h: (step(x, h, w_x, w_h, b, b_h),), x, state, lengths, reverse)


@gru.def_forward
def _gru_forward(x, h0, w_x, w_h, b, b_h, lengths, *, reset_after, reverse, precision):
    cell = _CELLS[reset_after]
    return sequence_forward(cell, x, (h0,), w_x, (w_h, b_h), b, lengths, reverse=reverse, precision=precision)


@gru.def_backward
def _gru_backward(residuals, dy, *, reset_after, reverse, precision):
    cotangents = sequence_backward(_CELLS[reset_after], residuals, dy, reverse=reverse, precision=precision)
    d_x, (d_h0,), d_w_x, d_w_h, d_b_h, d_b = cotangents
    return d_x, d_h0, d_w_x, d_w_h, d_b, d_b_h, None


@gru.def_check
def _gru_check(x, h0, w_x, w_h, b, b_h, lengths, *, reset_after):
    _check_reset("gru", b_h, reset_after)
    check("gru", 3, x, {"h0": h0}, w_x, w_h, b, lengths, steps=True, b_h=b_h)


def _check_reset(op, b_h, reset_after):
    if not isinstance(reset_after, bool):
        raise InputError(f"{op}: reset_after is {reset_after!r}, and must be True or False")
    if b_h is not None and not reset_after:
        raise InputError(
            f"{op}: b_h is {describe(b_h)}, and must be None without reset_after=True, as the bias of n is in b"
        )


def _gru_cell_forward(weights, dot):
    u_zr, u_n = _blocks(weights[0])

    def step(a, before):
        (h,) = before
        a_zr, a_n = _blocks(a)
        zr = lax.logistic(a_zr + dot(h, u_zr))
        z, r = jnp.split(zr, 2, axis=-1)
        n = lax.tanh(a_n + dot(r * h, u_n))
        return (h + z * (n - h),), (zr, n)

    return step


def _gru_cell_backward(weights, dot):
    u_zr, u_n = (u.T for u in _blocks(weights[0]))

    def step(before, after, saved, d_after):
        (h,), (zr, n), (dh,) = before, saved, d_after
        z, r = jnp.split(zr, 2, axis=-1)
        d_n = dh * z * (1 - n * n)
        d_rh = dot(d_n, u_n)
        d_zr = jnp.concatenate([dh * (n - h) * z * (1 - z), d_rh * h * r * (1 - r)], axis=-1)
        return jnp.concatenate([d_zr, d_n], axis=-1), (dh * (1 - z) + d_rh * r + dot(d_zr, u_zr),)

    return step


def _gru_cell_gradients(h, saved, delta, product):
    d_zr, d_n = _blocks(delta)
    _, r = jnp.split(saved[0], 2, axis=-1)
    return jnp.concatenate([product(h, d_zr), product(r * h, d_n)], axis=1), None


def _gru_after_forward(weights, dot):
    w_h, b_h = weights

    def step(a, before):
        (h,) = before
        a_zr, a_n = _blocks(a)
        p_zr, q = _blocks(dot(h, w_h))
        q = q if b_h is None else q + b_h
        zr = lax.logistic(a_zr + p_zr)
        z, r = jnp.split(zr, 2, axis=-1)
        n = lax.tanh(a_n + r * q)
        return (h + z * (n - h),), (zr, n, q)

    return step


def _gru_after_backward(weights, dot):
    w_t = weights[0].T

    def step(before, after, saved, d_after):
        (h,), (zr, n, q), (dh,) = before, saved, d_after
        z, r = jnp.split(zr, 2, axis=-1)
        d_n = dh * z * (1 - n * n)
        d_zr = jnp.concatenate([dh * (n - h) * z * (1 - z), d_n * q * r * (1 - r)], axis=-1)
        d_h = dh * (1 - z) + dot(jnp.concatenate([d_zr, d_n * r], axis=-1), w_t)
        return jnp.concatenate([d_zr, d_n], axis=-1), (d_h,)

    return step


def _gru_after_gradients(h, saved, delta, product):
    d_zr, d_n = _blocks(delta)
    _, r = jnp.split(saved[0], 2, axis=-1)
    d_q = d_n * r
    return product(h, jnp.concatenate([d_zr, d_q], axis=-1)), jnp.sum(d_q, axis=range(d_q.ndim - 1))


_CELLS = {
    False: Cell(_gru_cell_forward, _gru_cell_backward, _gru_cell_gradients),
    True: Cell(_gru_after_forward, _gru_after_backward, _gru_after_gradients),
}


def _blocks(gates):
    """The columns of z and r, and those of n."""
    at = gates.shape[-1] // 3 * 2
    return gates[..., :at], gates[..., at:]
