"""What the cases of batch_norm, channel_norm, layer_norm and weight_norm share."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from dlfn.registry.entry import uniform

__all__ = ["evenly", "of_flax", "plain", "size"]

# What plain JAX a good engineer would write: the two-pass formula, which loses two digits on rows far from 0. Flax's
# default is the one-pass formula, which loses all there, so both of its forms are measured.


def plain(over, x, scale, bias):
    mean = jnp.mean(x, over, keepdims=True)
    return (x - mean) * (lax.rsqrt(jnp.var(x, over, keepdims=True) + 1e-5) * scale) + bias


def of_flax(name, **settings):
    """Flax's layer as it comes, and with the two-pass formula."""

    def maker(**form):
        def make():
            from flax import linen  # pyright: ignore[reportMissingImports]

            layer = getattr(linen, name)(**settings, **form)

            def call(x, *params):
                variables: dict[str, Any] = {"params": dict(zip(("scale", "bias"), params))}
                if name == "BatchNorm":
                    variables["batch_stats"] = {"mean": jnp.zeros_like(params[0]), "var": jnp.ones_like(params[0])}
                    return layer.apply(variables, x, mutable=["batch_stats"])[0]
                return layer.apply(variables, x)

            return call

        return make

    return {"flax": maker(), "flax, two-pass": maker(use_fast_variance=False)}


def evenly(*shape):
    """Not normal, as the cotangents are, and from the same seed: x as its own cotangent has a gradient of 0."""
    return uniform(-2.0, 2.0, *shape)


def size(x, *_):
    return x.size
