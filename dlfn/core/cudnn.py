"""cuDNN's attention, as JAX binds it, for any leading axes and under ``vmap``. See :mod:`dlfn.core._jax`."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from dlfn.core import _jax

__all__ = ["attention_backward", "attention_forward", "takes_attention"]

takes_attention = _jax.takes_cudnn_attention


def attention_forward(q: Any, k: Any, v: Any, *, scale: float, causal: bool) -> tuple[Any, Any]:
    """The output, (..., queries, heads, dim), and the logarithm of each row's sum, (..., heads, queries)."""
    return _batched(functools.partial(_jax.cudnn_attention_forward, scale=scale, causal=causal))(q, k, v)


def attention_backward(
    q: Any, k: Any, v: Any, y: Any, logarithms: Any, dy: Any, *, scale: float, causal: bool
) -> tuple[Any, Any, Any]:
    """The cotangents of q, k and v."""
    kernel = functools.partial(_jax.cudnn_attention_backward, scale=scale, causal=causal)
    return _batched(kernel)(q, k, v, y, logarithms, dy)


def _batched(kernel: Callable[..., Any]) -> Any:
    """The kernel for any leading axes, of the arrays and of vmaps. It takes one, so they become one."""

    def flat(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        lead = arrays[0].shape[:-3]
        merged = [x.reshape(math.prod(lead), *x.shape[len(lead) :]) for x in arrays]
        return tuple(x.reshape(*lead, *x.shape[1:]) for x in kernel(*merged))

    mapped = custom_vmap(flat)

    @mapped.def_vmap
    def _(size, batched, *arrays):
        # JAX's own rule fails where only some are batched.
        full = [x if here else jnp.broadcast_to(x, (size, *x.shape)) for x, here in zip(arrays, batched, strict=True)]
        outs = _batched(kernel)(*full)
        return outs, (True,) * len(outs)

    return mapped
