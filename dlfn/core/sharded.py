"""Running ``shard_map`` backwards. The rules of collectives are in :mod:`dlfn.core.rules.collectives`."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec

from dlfn.core import jaxprs
from dlfn.core.walk import Result, Walk, structural, zeros

__all__: list[str] = []  # imported to register its functions


@structural("shard_map")
def _shard_map(eqn: Any, values: list[Any], needs: list[bool], walk: Walk) -> Result:
    """Backwards, another ``shard_map`` runs the body again and pulls the cotangents back, which are split among the
    devices as the values are.

    With ``check_vma`` the types say which values the devices have in common, and the body's own equations sum the
    cotangents of those over devices. Without it they do not: there each device gets an equal share of the cotangent of
    an output that they have in common, and the cotangents of a common input are summed.
    """
    body, params = eqn.params["jaxpr"], eqn.params
    mesh, axes, checked = params["mesh"], params["newly_manual_axes"], params["check_vma"]
    in_specs, out_specs = params["in_specs"], params["out_specs"]
    outs = jaxprs.bind(eqn, values)
    slots, order = walk.reserve(body), []
    moving = [i for i, needed in enumerate(needs) if needed]

    def back(bars: Sequence[Any]) -> Sequence[Any]:
        present = [i for i, bar in enumerate(bars) if bar is not None]

        def back_body(values: Sequence[Any], given: Sequence[Any]) -> Any:
            out_bars: list[Any] = [None] * len(outs)
            for i, bar in zip(present, given, strict=True):
                out_bars[i] = bar if checked else bar / math.prod(mesh.shape[a] for a in _common(out_specs[i], axes))
            inner = walk.inner()
            found = zeros(inner.pullback(body, values, needs)[1](out_bars), values)
            order[:] = inner.order()
            bars_in = [found[i] if checked else lax.psum(found[i], _common(in_specs[i], axes)) for i in moving]
            return bars_in, jax.tree.map(lambda bar: bar[None], inner.noted())

        pull = jax.shard_map(
            back_body,
            mesh=mesh,
            in_specs=(list(in_specs), [out_specs[i] for i in present]),
            out_specs=([in_specs[i] for i in moving], PartitionSpec(tuple(axes))),
            axis_names=axes,
            check_vma=checked,
        )
        found, record = pull(values, [bars[i] for i in present])
        walk.merge(slots, order, record)
        cotangents: list[Any] = [None] * len(values)
        for i, bar in zip(moving, found, strict=True):
            cotangents[i] = bar
        return cotangents

    return outs, back


def _common(spec: PartitionSpec, axes: Any) -> tuple[Any, ...]:
    """The mesh axes along which devices have the same value."""
    split = {name for entry in spec for name in (entry if isinstance(entry, tuple) else (entry,))}
    return tuple(axis for axis in axes if axis not in split)
