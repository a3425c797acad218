"""Words of the derivations that are loops: sums over all paths, windows and samples, in the plainest form there is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import nn, ops

__all__ = ["after", "count_windows", "gelu_error", "layer", "parameters"]


def after(optimizer: Any, parameters: Any, gradients: list[Any]) -> Any:
    """The parameters after a step of an optimiser for each of the gradients."""
    state = optimizer.init(parameters)
    for gradient in gradients:
        update, state = optimizer.update(gradient, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, update)
    return parameters


def count_windows(cells: int, window: int, stride: int, padding: int) -> int:
    """How many windows there are, by putting one after the other."""
    count = start = 0
    while start + window <= cells + 2 * padding:
        count, start = count + 1, start + stride
    return count


def gelu_error(constant: float) -> Any:
    """The largest distance of GELU's tanh form from the exact one."""
    x = np.linspace(-6, 6, 200_001)
    tanh_form = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + constant * x**3)))
    return np.abs(tanh_form - ops.gelu(x)).max()


def layer(module: nn.Layer, params: Any, x: Any, **options: Any) -> Any:
    """The output of a layer without state."""
    return module.apply(params, (), x, **options)[0]


def parameters(module: nn.Layer, *shape: int) -> int:
    """How many parameters a layer has for an input of a shape."""
    params, _ = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return nn.count_parameters(params)
