"""On which devices the arrays of a run are."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dlfn.core import InputError
from dlfn.nn.models.sharding import RULES, Rule, partition_specs

__all__ = ["Placement"]

_BATCH = ("data", "fsdp")


class Placement:
    """A mesh of devices: a batch is divided over its axes ``data`` and ``fsdp``, and the parameters over ``fsdp`` and
    ``model``, by rules; everything else is on every device.

    Args:
        sizes: of the axes by name. One may be -1, for all devices that are left. Without it the first devices are used.
        rules: for the parameters, as :func:`dlfn.nn.models.sharding.partition_specs` takes them.

    Attributes:
        parts: into how many a batch is divided.
        whole: the sharding of what every device has.

    Raises:
        InputError: when there are not so many devices, or other ones are left.

    >>> dict(Placement(data=1).mesh.shape)
    {'data': 1, 'fsdp': 1, 'model': 1}
    """

    def __init__(self, data: int = -1, fsdp: int = 1, model: int = 1, *, rules: Sequence[Rule] = RULES):
        sizes, devices = {"data": data, "fsdp": fsdp, "model": model}, jax.devices()
        for name, size in sizes.items():
            if size < 1 and size != -1:
                raise InputError(f"mesh.{name} = {size}: must be a positive integer, or -1 for what is left")
        free = [name for name, size in sizes.items() if size == -1]
        if len(free) > 1:
            raise InputError(f"mesh.{free[1]} = -1: only one axis can take what is left, and mesh.{free[0]} does")
        taken = math.prod(size for size in sizes.values() if size != -1)
        if free:
            sizes[free[0]] = len(devices) // taken
        count = math.prod(sizes.values())
        if len(devices) < taken or (free and count != len(devices)):
            shown = ", ".join(f"{name} = {size}" for name, size in sizes.items() if name not in free)
            raise InputError(f"mesh: {shown} do not fit the {len(devices)} devices; their product must divide that")
        if jax.process_count() > 1 and count != len(devices):
            raise InputError(f"mesh: {count} devices are used, and several processes must use all {len(devices)}")
        self.mesh = jax.make_mesh(
            tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * 3, devices=devices[:count]
        )
        self._rules = rules
        self.whole = self._sharding(PartitionSpec())
        self.parts = sizes["data"] * sizes["fsdp"]

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Makes the mesh the one at hand."""
        return jax.set_mesh(self.mesh)

    def by_rules(self, tree: Any) -> Any:
        """The shardings of parameters, or of an optimiser's state: the path of a moment ends with its parameter's, so
        that the same rule is for both."""
        specs = partition_specs(tree, self.mesh, self._rules)
        return jax.tree.map(self._sharding, specs, is_leaf=lambda spec: isinstance(spec, PartitionSpec))

    def everywhere(self, tree: Any) -> Any:
        """The same shardings for all leaves: every device has the whole."""
        return jax.tree.map(lambda _: self.whole, tree)

    def fetch(self, tree: Any) -> Any:
        """The arrays in NumPy, whole, on every process."""
        if jax.process_count() > 1:  # where one has only its part of what is divided
            tree = jax.jit(lambda tree: tree, out_shardings=self.everywhere(tree))(tree)
        return jax.device_get(tree)

    def put(self, tree: Any, axis: int | None = None) -> Any:
        """NumPy arrays that every process has alike, on the devices: divided along an axis of examples, if one is given
        and they divide, and as a whole otherwise."""

        def place(array: Any) -> jax.Array:
            array, spec = np.asarray(array), PartitionSpec()
            if axis is not None and array.shape[axis] % self.parts == 0:
                spec = PartitionSpec(*[None] * axis, _BATCH)
            sharding = self._sharding(spec)
            if jax.process_count() == 1:
                return jax.device_put(array, sharding)
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

        return jax.tree.map(place, tree)

    def largest(self, number: int) -> jax.Array:
        """The largest of the numbers that the processes give, for all of them alike. Nobody waits for it here."""
        each = self._sharding(PartitionSpec(self.mesh.axis_names))
        given = jax.make_array_from_callback((self.mesh.size,), each, lambda _: np.full(1, number, np.int32))
        return jax.jit(jnp.max, out_shardings=self.whole)(given)

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)
