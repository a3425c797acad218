import jax
import jax.numpy as jnp

from dlfn import ops
from dlfn.check.registry import Bench, Case, Entry, key, normal, register


def _plain(x, key, *, keep_prob):
    return jnp.where(jax.random.bernoulli(key, keep_prob, x.shape), x / keep_prob, 0)


register(
    Entry(
        ops.dropout,
        ("dropout.standard",),
        tuple(
            Case(lambda lead: (normal(*lead, 5), key()), {"keep_prob": keep_prob}, f"keep_prob={keep_prob}")
            for keep_prob in (0.7, 1.0)
        ),
        benches=(Bench("(1024, 1024)", (normal(1024, 1024), key()), {"plain": _plain}, static={"keep_prob": 0.9}),),
    )
)
