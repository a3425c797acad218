"""Embedding, whose table can be the output head as well."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from dlfn import ops
from dlfn.core import InputError
from dlfn.nn.checks import held, require_sizes
from dlfn.nn.initializers import Initializer, small_normal
from dlfn.nn.layer import Layer
from dlfn.nn.types import AnyArray, Example, Params, State, Steps

__all__ = ["Embedding"]


@dataclass(frozen=True)
class Embedding(Layer):
    r"""Rows of a table by their numbers: integers ``(...)`` to ``(..., features)``.

    Args:
        vocabulary: the number of rows.
        features: the size of a row.
        table_init: by default normal with standard deviation 0.02, as in GPT-2, so that a tied head starts with small
            logits.
        dtype: of the table; None for the default float.

    A **tied** output head has the table for its weights: pass the same params to :meth:`logits`, or to :meth:`loss`,
    which never holds all logits at once. The table gets the sum of the gradients of both uses.

    Raises:
        InputError: when the inputs are not integers.

    >>> import jax, jax.numpy as jnp
    >>> from dlfn import nn
    >>> embedding, body = nn.Embedding(50, 8), nn.Linear(8)
    >>> ids = jnp.array([[3, 1, 4, 1]])
    >>> params = {"embedding": embedding.init(jax.random.key(0), ids)[0]}
    >>> params["body"], _ = body.init(jax.random.key(1), jax.ShapeDtypeStruct((1, 3, 8), jnp.float32))
    >>> def loss(params, ids):
    ...     x, _ = embedding.apply(params["embedding"], (), ids[:, :-1])
    ...     x, _ = body.apply(params["body"], (), x)
    ...     return embedding.loss(params["embedding"], x, ids[:, 1:])
    >>> print(jax.tree.map(jnp.shape, jax.grad(loss)(params, ids)))
    {'body': {'b': (8,), 'w': (8, 8)}, 'embedding': {'table': (50, 8)}}
    """

    takes = "steps"
    vocabulary: int
    features: int
    table_init: Initializer = small_normal
    dtype: DTypeLike | None = None

    def __post_init__(self):
        super().__post_init__()
        require_sizes(self, "vocabulary", "features")

    def init(self, key, x: Integer[Example, "*batch"]) -> tuple[Params, State]:
        self._require_ids(x)
        dtype = jnp.dtype(self.dtype) if self.dtype is not None else jnp.result_type(float)
        return {"table": self.table_init(key, (self.vocabulary, self.features), dtype)}, ()

    def apply(
        self, params, state, x: Integer[Steps, "*batch"], *, key=None, train=False
    ) -> tuple[Float[Steps, "*batch {self.features}"], State]:
        self._require_ids(x)
        (table,) = held(self, "params", params, "table")
        return ops.embedding(x, table), state

    def logits(
        self, params: Params, x: Float[AnyArray, "*batch {self.features}"], *, precision: jax.lax.PrecisionLike = None
    ) -> Float[Array, "*batch {self.vocabulary}"]:
        """The logits of the tied head, ``x @ table.T``: ``(..., features)`` to ``(..., vocabulary)``."""
        return ops.linear(x, params["table"].T, precision=precision)

    def loss(
        self,
        params: Params,
        x: Float[AnyArray, "*batch {self.features}"],
        labels: Integer[AnyArray, "*batch"],
        **options: Any,
    ) -> Float[Array, "..."]:
        """The cross-entropy of those logits, by :func:`dlfn.ops.linear_cross_entropy`, which has the options."""
        return ops.linear_cross_entropy(x, params["table"], labels, classes_first=True, **options)

    def flops(self, x, y):
        """None, as rows are only copied."""
        return 0

    def _require_ids(self, x: Example):
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError(
                f"{self} takes integers, the numbers of the table's rows, and got {x.dtype}{list(x.shape)}"
            )
