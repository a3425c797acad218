"""Entries of the ops in :mod:`dlfn.ops.normalisation.channel_norm`."""

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.cases.normalisation._shared import evenly, of_flax, plain, size
from dlfn.registry.entry import Bench, Case, Entry, Trap, absent, normal, register


def _plain_instance(x, scale, bias):
    return plain((-3, -2), x, scale, bias)


def _plain_group(x, scale, bias, *, groups):
    parts = x.reshape(*x.shape[:-1], groups, -1)
    one = jnp.ones((), x.dtype)
    return plain((-4, -3, -1), parts, one, 0 * one).reshape(x.shape) * scale + bias


def _equinox_group():
    import equinox  # pyright: ignore[reportMissingImports]

    def call(x, scale, bias):
        layer = equinox.nn.GroupNorm(8, x.shape[-1])
        layer = equinox.tree_at(lambda m: (m.weight, m.bias), layer, (scale, bias))
        return jnp.moveaxis(jax.vmap(layer)(jnp.moveaxis(x, -1, 1)), 1, -1)

    return call


def _in_torch_layout(function, spatial):
    """``function`` of (N, C, *space), called with (..., *space, C)."""

    def call(x):
        flat = x.reshape(-1, *x.shape[x.ndim - 1 - spatial :])
        return function(flat.movedim(-1, 1)).movedim(1, -1).reshape(x.shape)

    return call


def _instance_oracle(torch, x, scale=None, bias=None, *, spatial=2):
    norm = torch.nn.functional.instance_norm
    return _in_torch_layout(lambda x: norm(x, weight=scale, bias=bias), spatial)(x)


def _group_oracle(torch, x, scale=None, bias=None, *, groups, spatial=2):
    return _in_torch_layout(lambda x: torch.nn.functional.group_norm(x, groups, scale, bias), spatial)(x)


_IMAGES = (normal(16, 28, 28, 64), normal(64), normal(64))

register(
    Entry(
        ops.instance_norm,
        ("norm.instance_group",),
        (
            Case(lambda lead: (evenly(*lead, 2, 3, 4), normal(4), normal(4)), oracle=_instance_oracle, terms=size),
            Case(lambda lead: (evenly(*lead, 5, 4), absent, absent), {"spatial": 1}, "sequences", _instance_oracle,
                 size),
        ),
        (
            Trap("a constant channel", ([[0.1, 1.0], [0.1, 3.0], [0.1, 2.0]], [1.0, 1.0], [5.0, 0.0]),
                 {0: [[0.0] * 2] * 3, 2: [3.0, 3.0]}, static={"spatial": 1}),
        ),
        (
            Bench("(16, 28, 28, 64)", _IMAGES, {"plain": _plain_instance}, memory=1.05,
                  peers=of_flax("InstanceNorm", epsilon=1e-5)),
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip

register(
    Entry(
        ops.group_norm,
        ("norm.instance_group",),
        (
            Case(lambda lead: (evenly(*lead, 2, 3, 6), normal(6), normal(6)), {"groups": 2}, oracle=_group_oracle,
                 terms=size),
            Case(lambda lead: (evenly(*lead, 6), absent, absent), {"groups": 2, "spatial": 0}, "no space",
                 _group_oracle, size),
        ),
        (
            Trap("a constant group", ([0.1, 0.1, 1.0, 3.0], [1.0] * 4, [5.0, 5.0, 0.0, 0.0]),
                 {2: [1.0] * 4}, static={"groups": 2, "spatial": 0}, value=[5.0, 5.0, -0.999995, 0.999995]),
        ),
        (
            Bench("(16, 28, 28, 64), 8 groups", _IMAGES, {"plain": _plain_group}, static={"groups": 8}, memory=1.05,
                  peers={**of_flax("GroupNorm", num_groups=8, epsilon=1e-5), "equinox": _equinox_group}),
        ),
        homogeneous=(0, {"eps": 0.0}),
    )
)  # fmt: skip
