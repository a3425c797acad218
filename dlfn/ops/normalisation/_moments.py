"""Mean and variance over parts of an array, and what else the normalisations share."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dlfn.core import InputError
from dlfn.ops.support.arguments import describe, require_float, require_number
from dlfn.ops.support.compiled import capped, made_anew

__all__ = ["Cells", "affine", "check_eps", "check_parameter", "dtypes", "moments"]


class Cells(NamedTuple):
    """Which entries share a mean and a variance.

    Attributes:
        axes: the axes over which a cell extends.
        groups: into how many groups of consecutive entries the last axis is divided, each group being a cell of its
            own; None if it is not divided.
    """

    axes: tuple[int, ...]
    groups: int | None = None

    def average(self, x: jax.Array) -> jax.Array:
        """The mean of each cell. The axes are kept with size 1, and the last axis has one entry per group."""
        return self.pool(jnp.mean(x, self.axes, keepdims=True))

    def pool(self, x: jax.Array) -> jax.Array:
        """The means over the channels of each group, if there are groups."""
        if self.groups is None:
            return x
        return jnp.mean(x.reshape(*x.shape[:-1], self.groups, x.shape[-1] // self.groups), -1)

    def spread(self, means: jax.Array, x: jax.Array) -> jax.Array:
        """The means, of which there is one for each cell, in a shape that broadcasts to that of x."""
        if self.groups is None:
            return means
        size = x.shape[-1] // self.groups
        alike = jnp.broadcast_to(means[..., None], (*means.shape, size))
        return alike.reshape(*means.shape[:-1], x.shape[-1])

    def size(self, x: jax.Array, dtype: Any) -> jax.Array:
        """How many entries there are along the axes, as an array, since sizes may be symbolic and no Python numbers."""
        return jnp.asarray(math.prod(x.shape[axis] for axis in self.axes), dtype)


def moments(x: jax.Array, cells: Cells) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Each cell's mean as a sum of two numbers p + d, and its variance.

    p is the rounded mean. With c = x - p the rest of the mean is :math:`d = \mathrm E\,c`, and
    :math:`\sigma^2 = \mathrm E\,c^2 - d^2`. Where :math:`|\mu| \gg \sigma`, x - p is exact, and :math:`(x - p) - d` has
    the digits that :math:`x - p` lacks because p is rounded. As d is no larger than the rounding error of p, the
    difference of the two squares does not cancel, and both sums of c are computed in one pass.
    """
    # p + d is the mean whatever p is, so that p may count as a constant in derivatives. The cap changes no number. It
    # keeps XLA from fusing the division in p with x - p: one instruction for both would use a p that is not rounded,
    # and d would not be the rest to that p.
    pivot = lax.stop_gradient(capped(cells.average(x)))
    c, again = (x - cells.spread(copy, x) for copy in made_anew(pivot, pivot))
    shift = cells.average(c)
    variance = cells.average(again * again) - shift * shift
    # Not jnp.maximum, whose derivative is halved at a tie: the variance of a constant cell is 0.
    return pivot, shift, jnp.where(variance < 0, jnp.zeros_like(variance), variance)


def dtypes(*arrays: jax.typing.ArrayLike | None) -> tuple[Any, Any]:
    """The common dtype, and the one to compute in."""
    dtype = jnp.result_type(*[array for array in arrays if array is not None])
    return dtype, jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def affine(x: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """scale * x + bias, in the dtype of x."""
    x = x if scale is None else x * scale.astype(x.dtype)
    return x if bias is None else x + bias.astype(x.dtype)


def check_eps(op: str, eps: Any) -> None:
    require_number(op, "eps", eps, "a number >= 0, such as 1e-5", lambda number: number >= 0)


def check_parameter(op: str, name: str, value: jax.Array | None, shape: Sequence[int], x: jax.Array) -> None:
    if value is None:
        return
    require_float(op, name, value)
    if value.shape != tuple(shape):
        raise InputError(
            f"{op}: {name} is {describe(value)}, and must have the shape {list(shape)}, as x is {describe(x)}; "
            f"pass None for no {name}"
        )
