"""How the parameters of the packaged models are divided over a mesh of devices."""

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh, PartitionSpec

__all__ = ["RULES", "Rule", "partition_specs"]

# A regular expression that is found in a parameter's path, and the mesh axes of its last dimensions, in their order.
Rule: TypeAlias = tuple[str, tuple[str | None, ...]]

# Tensor parallelism over "model" as in Megatron-LM (Shoeybi et al. 2019): maps out of the residual stream are divided
# by their columns, those back into it by their rows, so that a block needs one sum over devices for attention and one
# for the MLP. Embeddings are divided over the vocabulary. "fsdp" takes the other dimension of each matrix, so that it
# divides what is left. An LSTM's gates stand side by side in the columns and are not divided.
RULES: tuple[Rule, ...] = (
    (r"(^|/)embedding/table$", ("model", "fsdp")),
    (r"(^|/)(positions|types)(/table)?$", (None, "fsdp")),
    (r"(^|/)(q|k|v|up)/w$", ("fsdp", "model")),
    (r"(^|/)(q|k|v|up)/b$", ("model",)),
    (r"(^|/)(o|down)/w$", ("model", "fsdp")),
    (r"(^|/)head/w$", ("fsdp", "model")),
    (r"(^|/)head/b$", ("model",)),
    (r"(^|/)(w_x|w_h)$", ("fsdp", None)),
    (r"(^|/)kernel$", (None, "fsdp")),
    (r"(^|/)w$", ("fsdp", None)),
)


def partition_specs(params: Any, mesh: Mesh, rules: Sequence[Rule] = RULES) -> Any:
    """A ``PartitionSpec`` for each parameter, by the first rule that fits its path.

    A path is as in ``"body/blocks/0/mlp/mlp/up/w"``. A rule speaks of the last dimensions, so that it holds for the
    stacked params of :class:`~dlfn.nn.Repeat` too, and for an optimiser's moments, whose paths end alike. An axis that
    the mesh does not have, or whose size does not divide the dimension, is left out. What no rule fits is on every
    device as a whole.

    Args:
        params: a tree of arrays or ``jax.ShapeDtypeStruct``.
        mesh: with some of the axes that the rules name.
        rules: pairs of a regular expression and the mesh axes of the last dimensions.

    Returns:
        The tree of specs.

    Source: Shoeybi et al. 2019, *Megatron-LM: Training Multi-Billion Parameter Language Models Using Model
    Parallelism*.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn.nn.models import gpt
    >>> mesh = jax.sharding.AbstractMesh((4, 2), ("fsdp", "model"))
    >>> model = gpt(65, context=8, layers=1, heads=2, width=16)
    >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8), int))
    >>> specs = partition_specs(params, mesh)
    >>> print(*specs["body"]["blocks"][0]["mlp"]["mlp"]["down"]["w"], "and", *specs["embedding"]["table"])
    model fsdp and None fsdp
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _spec(path, leaf, mesh, rules), params)


def _spec(path: Any, leaf: Any, mesh: Mesh, rules: Sequence[Rule]) -> PartitionSpec:
    name, shape = jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape
    for pattern, axes in rules:
        if len(axes) <= len(shape) and re.search(pattern, name):
            sizes = shape[len(shape) - len(axes) :]
            fitting = [a if a in mesh.shape and size % mesh.shape[a] == 0 else None for a, size in zip(axes, sizes)]
            return PartitionSpec(*[None] * (len(shape) - len(axes)), *fitting)
    return PartitionSpec()
