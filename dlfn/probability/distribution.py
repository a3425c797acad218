"""What a distribution is: a frozen dataclass of its parameters, and a pytree.

It goes through ``jit`` and ``vmap``, and :func:`jax.grad` in a distribution gives one that holds the gradients of its
parameters. Parameters broadcast against each other, and observations against them.

Parameters that belong to no distribution are refused where their values are known. Under ``jit`` they give nan.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from dlfn.ops.support.arguments import require_broadcast

__all__ = ["Distribution", "as_real", "pytree"]

T = TypeVar("T", bound="type[Distribution]")


def as_real(value: Any) -> Any:
    """The value, where a Python integer means a real number."""
    return float(value) if isinstance(value, int) else value


class Distribution(abc.ABC):
    """What the distributions have in common."""

    def __post_init__(self) -> None:
        for name, value in self._parameters().items():
            object.__setattr__(self, name, jnp.asarray(value if name == "trials" else as_real(value)))
        require_broadcast(type(self).__name__, **self._parameters())
        self._check()

    def _parameters(self) -> dict[str, Any]:
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
        return {field.name: value for field in fields if (value := getattr(self, field.name)) is not None}

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape that the parameters broadcast to."""
        return jnp.broadcast_shapes(*(jnp.shape(value) for value in self._parameters().values()))

    def _of_batch(self, value: jax.Array) -> jax.Array:
        return jnp.broadcast_to(value, self.batch_shape)

    @abc.abstractmethod
    def _check(self) -> None:
        """Raises on parameters that are none."""

    @abc.abstractmethod
    def log_prob(self, x: Any) -> jax.Array:
        """The logarithm of the density, or of the probability, of each observation."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        """Independent draws, (*shape, *batch_shape)."""

    @property
    @abc.abstractmethod
    def mean(self) -> jax.Array:
        """The expectation, of the batch's shape."""

    @property
    @abc.abstractmethod
    def variance(self) -> jax.Array:
        """The expected squared distance from the mean, of the batch's shape."""


def pytree(cls: T) -> T:
    """Registers a dataclass of arrays. Rebuilt from other leaves, such as gradients, it checks nothing."""
    names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]

    def flatten(distribution: Any) -> Any:
        return [(jax.tree_util.GetAttrKey(name), getattr(distribution, name)) for name in names], None

    def unflatten(_: None, leaves: Any) -> Any:
        made = object.__new__(cls)
        for name, leaf in zip(names, leaves, strict=True):
            object.__setattr__(made, name, leaf)
        return made

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
