"""A step of training, explained."""

from typing import Any

import jax

from dlfn import explain
from dlfn.explain import Explanation
from dlfn.train.step import Learner

__all__ = ["EXAMPLES", "explained"]

EXAMPLES = 4  # more make a page larger, and no clearer


def explained(
    learner: Learner, params: Any, state: Any, batch: Any, key: jax.Array, title: str, examples: int = EXAMPLES
) -> Explanation:
    """The loss of the first few examples of a batch, and its gradient, step by step."""
    few = jax.tree.map(lambda a: a[:examples], learner.augmented(batch, key))

    def loss(params: Any) -> tuple[jax.Array, Any]:
        return learner.loss(params, state, few, key)

    return explain(loss, has_aux=True, title=title)(params)
