r"""Connectionist temporal classification: the loss of a sequence of labels whose alignment in time is unknown."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Integer

from dlfn.core import InputError
from dlfn.ops.losses._class_ids import cut
from dlfn.ops.losses._reductions import Reduction, check_reduction, reduce, weight_of_each
from dlfn.ops.support.arguments import describe, require_float, require_int
from dlfn.ops.support.compiled import capped, peak
from dlfn.ops.support.dtypes import Static, upcast
from dlfn.ops.support.lengths import wide, within
from dlfn.ops.support.op import Op
from dlfn.ops.support.sharding import is_explicit, like, sharded_along

__all__ = ["ctc_loss"]

# Stands for log(0), since the difference of two -inf is nan. Sums of log-probabilities stay far above half of it.
_NEVER = -1e30


@Op
def ctc_loss(
    logits: Float[ArrayLike, "*batch frames classes"],
    logit_lengths: Integer[ArrayLike, "*batch"],
    labels: Integer[ArrayLike, "*batch slots"],
    label_lengths: Integer[ArrayLike, "*batch"],
    *,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Float[Array, ""] | Float[Array, "*batch"]:
    r"""CTC: :math:`-\log P`, P being the probability of all paths through the frames that spell the labels.

    A path gives each frame a class. It spells what is left when repetitions are merged, then blanks removed. Such paths
    run through states s, which alternate between blanks and labels: from frame to frame they stay, advance by one, or
    by two over a blank between different labels. With :math:`c_s` the class of a state and :math:`y_t =
    \operatorname{softmax}(z_t)`,

    .. math::
        \alpha_t(s) = y_t(c_s) \sum_{s' \to s} \alpha_{t-1}(s'), \qquad
        \beta_t(s) = \sum_{s \to s'} y_{t+1}(c_{s'})\, \beta_{t+1}(s'), \qquad
        P = \sum_s \alpha_t(s) \beta_t(s) \text{ for every } t .

    Since :math:`\log P` has the derivative :math:`\gamma_t(s) = \alpha_t(s) \beta_t(s) / P` in
    :math:`\log y_t(c_s)`, and the :math:`\gamma_t` sum to 1,

    .. math:: \frac{\partial L}{\partial z_{tk}} = y_{tk} - \sum_{s :\, c_s = k} \gamma_t(s).

    Both recursions run on logarithms, from which each frame's largest is subtracted, and every :math:`\gamma_t` is
    normalised by itself. So the error does not grow with the number of frames, as that of
    :math:`\log \alpha + \log \beta - \log P` does. At a class more likely than all others together, the gradient is
    minus the sum of the others', which has digits where both terms of the formula round to 1. The forward pass computes
    the gradient of every sequence, which is the only residual, and the backward pass scales it.

    Args:
        logits: (..., T, K).
        logit_lengths: (...), integers: the number of frames that count.
        labels: (..., L), class ids other than the blank, integers. Neither labels nor frames past their lengths matter,
            whatever they hold.
        label_lengths: (...), integers: the number of labels that count.
        blank: the class of no label.
        reduction: "mean" over the sequences (each not divided by its length), "sum" or "none".

    Returns:
        A scalar, or with "none" (...). Labels that need more frames than there are, or another class where a logit is
        +inf, have loss inf and gradient 0. A label or length out of range gives nan in loss and gradient.

    Raises:
        InputError: on arguments of other shapes or dtypes, a blank that is not a class, an unknown reduction, and a
            mean over nothing.

    Source: Graves, Fernández, Gomez & Schmidhuber 2006, *Connectionist Temporal Classification: Labelling
    Unsegmented Sequence Data with Recurrent Neural Networks*.

    >>> import jax, jax.numpy as jnp
    >>> logits = jnp.zeros((1, 2, 3))  # of the nine paths in two frames three spell "1": 11, 1_ and _1
    >>> loss = ctc_loss(logits, jnp.array([2]), jnp.array([[1]]), jnp.array([1]))
    >>> print(f"{jnp.exp(-loss):.6f}")
    0.333333
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    logit_lengths, label_lengths = jnp.asarray(logit_lengths), jnp.asarray(label_lengths)
    p = jax.nn.softmax(logits, axis=-1)
    length, classes = logits.shape[-2:]
    wrong = _wrong(logits, logit_lengths, labels, label_lengths, blank)
    blanks = jnp.full_like(labels, blank)
    states = jnp.stack([blanks, labels], axis=-1).reshape(*labels.shape[:-1], -1)
    states = jnp.concatenate([states, jnp.full_like(label_lengths, blank)[..., None]], axis=-1).clip(0, classes - 1)
    emitted = jnp.take_along_axis(p, states[..., None, :], axis=-1)
    s = jnp.arange(states.shape[-1])
    jumps = (s % 2 == 1) & (s > 1) & (states != jnp.roll(states, 2, axis=-1))
    alpha = jnp.zeros_like(emitted[..., 0, :]).at[..., 0].set(1)
    for t in range(length):
        one = jnp.where(s > 0, jnp.roll(alpha, 1, axis=-1), 0)
        two = jnp.where(jumps, jnp.roll(alpha, 2, axis=-1), 0)
        alpha = jnp.where(t < logit_lengths[..., None], emitted[..., t, :] * (alpha + one + two), alpha)
    last = 2 * wide(label_lengths)[..., None]
    ends = (s == last) | (s == last - 1)
    losses = -jnp.log(jnp.sum(jnp.where(ends, alpha, 0), axis=-1))
    return reduce(jnp.where(wrong, jnp.nan, losses), reduction)


@ctc_loss.def_forward
def _ctc_loss_forward(logits, logit_lengths, labels, label_lengths, *, blank, reduction):
    z = upcast(logits)
    logit_lengths, labels, label_lengths = (
        sharded_along(a, z, z.ndim - 2) for a in (wide(logit_lengths), labels, wide(label_lengths))
    )
    wrong = _wrong(z, logit_lengths, labels, label_lengths, blank)
    # Labels past the length take part in the recursions, too, and would change how results are rounded.
    labels = jnp.where(within(label_lengths, labels.shape[-1]), labels, blank)
    labels = jnp.clip(labels, 0, z.shape[-1] - 1).astype(jnp.int32)
    classes = jnp.concatenate([labels, jnp.full_like(label_lengths, blank, dtype=jnp.int32)[..., None]], axis=-1)

    counts = within(logit_lengths, z.shape[-2])[..., None]
    # Maximum first, select afterwards: XLA on CPU would write the selected frames to memory to take their maximum.
    m = jnp.where(counts, cut(peak(z, -1))[..., None], jnp.zeros_like(z[..., :1]))
    z = jnp.where(counts, capped(z), jnp.zeros_like(z))
    e = jnp.exp(z - m)
    s = jnp.sum(e, axis=-1, keepdims=True)
    s = jnp.where(s == 0, jnp.ones_like(s), s)
    log_p = _in_order(_gather(z, classes) - m - jnp.log(s), _NEVER)[1]
    frames = _Frame(*(jnp.moveaxis(a, -2, 0) for a in (log_p[..., -1:], log_p[..., :-1], counts)))

    jumps = jnp.concatenate([jnp.zeros_like(labels[..., :1], dtype=bool), labels[..., 1:] != labels[..., :-1]], axis=-1)
    zero, slot, last = (
        jnp.zeros_like(z[..., 0, :1]),
        jnp.arange(labels.shape[-1] + 1, dtype=label_lengths.dtype),
        label_lengths[..., None],
    )
    start = tuple(jnp.where(at, zero, _NEVER) for at in (slot == 0, slot[:-1] < 0))
    ends = tuple(jnp.where(at, zero, _NEVER) for at in (slot == last, slot[:-1] == last - 1))

    def step(carry, frames):
        alpha, total, beta = carry
        forwards, backwards = frames
        alpha, scale = _normalised(_into(alpha, forwards, jumps), alpha, forwards.counts)
        before, _ = _normalised(_out_of(beta, backwards, jumps), beta, backwards.counts)
        return (alpha, total + scale, before), (alpha, beta)

    def mirrored(arrays):
        return jax.tree.map(lambda a: jnp.flip(a, 0), arrays)

    # Both recursions step together: alpha from the first frame on, beta from the last one back.
    (alpha, total, _), (alphas, betas) = lax.scan(step, (start, zero, ends), (frames, mirrored(frames)))
    _, paths, largest = _exponentials([a + b for a, b in zip(alpha, ends)])
    log_likelihood = (total + largest + jnp.log(paths))[..., 0]
    possible = log_likelihood > _NEVER / 2
    losses = jnp.where(wrong, jnp.nan, jnp.where(possible, -log_likelihood, jnp.inf))

    (blanks, at_labels), paths, _ = _exponentials([a + b for a, b in zip(alphas, mirrored(betas))])
    gamma = jnp.concatenate([at_labels, jnp.sum(blanks, axis=-1, keepdims=True)], axis=-1) / paths
    gamma = jnp.moveaxis(gamma, 0, -2)
    p = e / s
    dz = _scatter_add(p, classes, -gamma)
    # At a class of more than half the probability, the gradient is minus the sum of the rest of the row.
    likely = (z == m) & (p > 0.5)
    dz = jnp.where(likely, jnp.zeros_like(dz), dz)
    dz = jnp.where(likely, -jnp.sum(dz, axis=-1, keepdims=True), dz)
    dz = jnp.where(counts & possible[..., None, None], dz, jnp.zeros_like(dz))
    dz = jnp.where(wrong[..., None, None], jnp.nan, dz)
    return reduce(losses, reduction).astype(logits.dtype), (dz, Static(jax.typeof(logits)))


@ctc_loss.def_backward
def _ctc_loss_backward(residuals, dy, *, reduction):
    dz, kind = residuals
    dy = jnp.broadcast_to(weight_of_each(dy, reduction, dz.shape[:-2], dz.dtype), dz.shape[:-2])
    return like(dz * dy[..., None, None], kind.value), None, None, None


@ctc_loss.def_check
def _ctc_loss_check(logits, logit_lengths, labels, label_lengths, *, blank, reduction):
    require_float("ctc_loss", "logits", logits)
    if logits.ndim < 2 or logits.shape[-2] == 0:
        raise InputError(f"ctc_loss: logits is {describe(logits)}, and must be (..., frames, classes), with a frame")
    lead, classes = logits.shape[:-2], logits.shape[-1]
    for name, value, shape in (
        ("logit_lengths", logit_lengths, lead),
        ("labels", labels, (*lead, *jnp.shape(labels)[-1:])),
        ("label_lengths", label_lengths, lead),
    ):
        if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jnp.integer):
            raise InputError(f"ctc_loss: {name} is {describe(value)}, and must be an array of integers")
        if value.shape != shape or (name == "labels" and value.ndim != len(lead) + 1):
            wanted = f"{[*lead]} and one more" if name == "labels" else f"{[*lead]}"
            raise InputError(
                f"ctc_loss: {name} is {describe(value)} for logits {describe(logits)}, and must have the axes {wanted}"
            )
    require_int("ctc_loss", "blank", blank, f"a class, from 0 to {classes - 1}", lambda k: 0 <= k < classes)
    check_reduction("ctc_loss", reduction, lead)


def _gather(z, classes):
    """(..., T, K) at (..., n) classes: (..., T, n)."""
    if is_explicit(z):
        chosen = classes[..., None, :, None] == jnp.arange(z.shape[-1], dtype=classes.dtype)
        return jnp.sum(jnp.where(chosen, z[..., None, :], jnp.zeros_like(z[..., None, :])), axis=-1)
    return jnp.take_along_axis(z, classes[..., None, :], axis=-1, mode="promise_in_bounds")


def _scatter_add(z, classes, values):
    """Adds (..., T, n) values at (..., n) classes to (..., T, K)."""
    classes = jnp.broadcast_to(classes[..., None, :], values.shape)
    if is_explicit(z):
        chosen = classes[..., None] == jnp.arange(z.shape[-1], dtype=classes.dtype)
        return z + jnp.sum(jnp.where(chosen, values[..., None], jnp.zeros_like(values[..., None])), axis=-2)
    batch = tuple(range(z.ndim - 1))
    numbers = lax.ScatterDimensionNumbers((), (z.ndim - 1,), (z.ndim - 1,), batch, batch)
    return lax.scatter_add(z, classes[..., None], values, numbers, mode="promise_in_bounds")


def _wrong(logits, logit_lengths, labels, label_lengths, blank):
    """Which sequences have labels or lengths out of range."""
    logit_lengths, label_lengths = wide(logit_lengths), wide(label_lengths)
    frames, classes = logits.shape[-2:]
    no_label = (labels < 0) | (labels >= classes) | (labels == blank)
    wrong = jnp.any(within(label_lengths, labels.shape[-1]) & no_label, axis=-1)
    wrong |= (logit_lengths < 0) | (logit_lengths > frames)
    return wrong | (label_lengths < 0) | (label_lengths > labels.shape[-1])


class _Frame(NamedTuple):
    """The log-probabilities of a frame; those of all frames have an axis of time in front."""

    blank: jax.Array  # (..., 1)
    labels: jax.Array  # (..., L)
    counts: jax.Array  # (..., 1), whether the frame counts


def _into(state, frame, jumps):
    """A step of the recursion of alpha, into the states of ``frame``.

    Here and below, a number for every state is a pair: (..., L + 1) for the blanks, and (..., L) for the labels between
    them.
    """
    blanks, labels = state
    before = jnp.concatenate([jnp.full_like(blanks[..., :1], _NEVER), labels], axis=-1)
    from_label = jnp.where(jumps, before[..., :-1], _NEVER)
    return (
        frame.blank + _log_sum(blanks, before),
        frame.labels + _log_sum(labels, blanks[..., :-1], from_label),
    )


def _out_of(state, frame, jumps):
    """A step of the recursion of beta, out of the states of ``frame``, back to the frame before it."""
    blanks, labels = frame.blank + state[0], frame.labels + state[1]
    never = jnp.full_like(blanks[..., :1], _NEVER)
    after = jnp.concatenate([labels, never], axis=-1)
    to_label = jnp.concatenate([jnp.where(jumps, labels, _NEVER), never], axis=-1)[..., 1:]
    return _log_sum(blanks, after), _log_sum(labels, blanks[..., 1:], to_label)


def _log_sum(a, b, c=None):
    """log(exp(a) + exp(b) + exp(c)), all finite."""
    low, high = _in_order(a, b)
    if c is None:
        return high + jnp.log(1 + jnp.exp(low - high))
    c, high = _in_order(c, high)
    low, middle = _in_order(low, c)
    return high + jnp.log(1 + jnp.exp(middle - high) + jnp.exp(low - high))


def _in_order(a, b):
    """The smaller and the larger of two numbers.

    They are selected, since the derivative of a maximum compares it with the arguments, which XLA may have computed
    again with another last digit.
    """
    return jnp.where(a < b, a, b), jnp.where(a < b, b, a)


def _exponentials(state):
    """exp(state - m), their sum, and the largest entry m."""
    m = lax.stop_gradient(jnp.max(jnp.concatenate(state, axis=-1), axis=-1, keepdims=True))
    e = tuple(jnp.exp(part - m) for part in state)
    return e, sum(jnp.sum(part, axis=-1, keepdims=True) for part in e), m


def _normalised(new, old, counts):
    """The new state less its largest entry, where the frame counts, and else the old one; and what was subtracted."""
    m = peak(jnp.concatenate(new, axis=-1), -1)[..., None]
    state = tuple(jnp.where(counts, a - m, b) for a, b in zip(new, old))
    return state, jnp.where(counts, m, jnp.zeros_like(m))
