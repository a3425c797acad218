"""Wrong gradients of recurrences."""

import jax
import jax.numpy as jnp
from jax import lax

from museum.exhibit import Exhibit, normal, ruled

__all__ = ["EXHIBITS"]

BLOCK = 4


def states_of(decay, x):
    """h_t = decay_t h_{t-1} + x_t, from 0."""

    def step(h, inputs):
        h = inputs[0] * h + inputs[1]
        return h, h

    return lax.scan(step, jnp.zeros_like(x[0]), (decay, x))[1]


def shifted(decay, h):
    """The decay of the next step, and the state of the last."""
    zero = jnp.zeros_like(h[:1])
    return jnp.concatenate([decay[1:], zero]), jnp.concatenate([zero, h[:-1]])


# Steps are softplus(a), and the last block is filled with a = 0, where softplus is not 0: what flows back from the last
# state decays once for every step that is none.


def selective_scan(a, x):
    """All states, and the last."""
    h = states_of(jnp.exp(-jax.nn.softplus(a)), x)
    return h, h[-1]


def selective_scan_forward(a, x):
    h, last = selective_scan(a, x)
    return (h, last), (a, h)


def selective_scan_backward(filled, residuals, dy):
    a, h = residuals
    dh, dlast = dy
    decay = jnp.exp(-jax.nn.softplus(a))
    following, before = shifted(decay, h)
    dlast = dlast * filled ** (-len(a) % BLOCK)
    dx = states_of(following[::-1], (dh + jnp.zeros_like(h).at[-1].set(dlast))[::-1])[::-1]
    return -dx * before * decay * jax.nn.sigmoid(a), dx


def selective_scan_right(residuals, dy):
    return selective_scan_backward(1.0, residuals, dy)


def selective_scan_wrong(residuals, dy):
    return selective_scan_backward(0.5, residuals, dy)  # exp(-softplus(0))


# Between two blocks the backward pass multiplies the inner sums by the gates, where it should add the carry times them.


def gated_scan(gates, x):
    return states_of(gates, x)


def gated_scan_forward(gates, x):
    h = states_of(gates, x)
    return h, (gates, h)


def gated_scan_right(residuals, dy):
    gates, h = residuals
    following, before = shifted(gates, h)
    dx = states_of(following[::-1], dy[::-1])[::-1]
    return dx * before, dx


def gated_scan_wrong(residuals, dy):
    gates, h = residuals
    following, before = shifted(gates, h)
    inner = [states_of(following[i : i + BLOCK][::-1], dy[i : i + BLOCK][::-1])[::-1] for i in range(0, len(dy), BLOCK)]
    for i in reversed(range(len(inner) - 1)):
        carry = jnp.zeros_like(inner[i]).at[-1].set(following[(i + 1) * BLOCK - 1] * inner[i + 1][0])
        inner[i] = inner[i] + carry  # and not through the gates of the block itself
    dx = jnp.concatenate(inner)
    return dx * before, dx


# The state after a sequence shorter than the filter still has some of the state before it.

WIDTH = 4


def causal_conv(x, weight, state):
    """Outputs, and the last inputs, which are the next state."""
    line = jnp.concatenate([state, x])
    y = sum(weight[i] * line[i : i + len(x)] for i in range(WIDTH))
    return y, line[len(line) - (WIDTH - 1) :]


def causal_conv_forward(x, weight, state):
    return causal_conv(x, weight, state), (x, weight, state)


def causal_conv_backward(slots, residuals, dy):
    x, weight, state = residuals
    dy, dnext = dy
    line = jnp.concatenate([state, x])
    dline = jnp.zeros_like(line)
    for i in range(WIDTH):
        dline = dline.at[i : i + len(x)].add(weight[i] * dy)
    dweight = jnp.stack([jnp.sum(line[i : i + len(x)] * dy, 0) for i in range(WIDTH)])
    start, first = slots(len(x), len(line))
    dline = dline.at[start:].add(dnext[first : first + len(line) - start])
    return dline[len(state) :], dweight, dline[: len(state)]


def causal_conv_right(residuals, dy):
    return causal_conv_backward(lambda steps, length: (length - (WIDTH - 1), 0), residuals, dy)


def causal_conv_wrong(residuals, dy):
    """The state's gradient goes to inputs alone, from the first slot on."""
    return causal_conv_backward(lambda steps, length: (max(length - steps, length - WIDTH + 1), 0), residuals, dy)


EXHIBITS = (
    Exhibit(
        "Mamba: steps behind the end",
        "https://github.com/state-spaces/mamba/issues/368",
        "The last block is filled with zeros before softplus, which makes steps of them that decay what flows back.",
        selective_scan,
        ruled(selective_scan, selective_scan_forward, selective_scan_right),
        ruled(selective_scan, selective_scan_forward, selective_scan_wrong),
        selective_scan_wrong,
        (normal(4, 2), normal(4, 2, seed=1)),
        "a",
        "size 9 for 4",
    ),
    Exhibit(
        "accelerated-scan: the carry between blocks",
        "https://github.com/proger/accelerated-scan/pull/15",
        "What flows back from a later block stops at the end of the one before: not seen with decays near 0.",
        gated_scan,
        ruled(gated_scan, gated_scan_forward, gated_scan_right),
        ruled(gated_scan, gated_scan_forward, gated_scan_wrong),
        gated_scan_wrong,
        (1e-4 * abs(normal(6, 2)), normal(6, 2, seed=1)),
        "x",
    ),
    Exhibit(
        "flash-linear-attention: a sequence shorter than its filter",
        "https://github.com/fla-org/flash-linear-attention/issues/1140",
        "The gradient of the state after it goes to the wrong inputs, and to the state before it not at all.",
        causal_conv,
        ruled(causal_conv, causal_conv_forward, causal_conv_right),
        ruled(causal_conv, causal_conv_forward, causal_conv_wrong),
        causal_conv_wrong,
        (normal(5, 2), normal(4, 2, seed=1), normal(3, 2, seed=2)),
        "x",
        "size 1 for 5",
    ),
)
