"""L1 and L2 penalties of trees of parameters."""

import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.registry.entry import Bench, Case, Entry, Trap, normal, register


def _l2(params, *, strength):
    return strength / 2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def _l1(params, *, strength):
    return strength * sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(params))


def _params(rng):
    return {name: {"w": rng.normal(size=(512, 1024)), "b": rng.normal(size=1024)} for name in ("hidden", "logits")}


for op, oracle, baseline, trap in (
    (
        ops.l2_penalty,
        lambda torch, w, strength: strength / 2 * torch.sum(w**2),
        _l2,
        Trap(
            "bfloat16 sums",
            ([1.0] * 4096,),
            {0: [2.0] * 4096},
            value=4096.0,
            static={"strength": 2.0},
            dtype="bfloat16",
        ),
    ),
    (
        ops.l1_penalty,
        lambda torch, w, strength: strength * torch.sum(torch.abs(w)),
        _l1,
        Trap("slope 0 at 0", ([0.0, -3.0],), {0: [0.0, -2.0]}, value=6.0, static={"strength": 2.0}),
    ),
):
    case = Case(lambda lead: (normal(*lead, 5),), {"strength": 0.3}, oracle=oracle, terms=lambda w: w.size)
    bench = Bench("two layers of (512, 1024)", (_params,), {"plain": baseline}, static=case.static)
    register(Entry(op, ("regularisation.l1_l2",), (case,), (trap,), (bench,)))
