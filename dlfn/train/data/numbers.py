"""What examples are made of: arrays of numbers with a common leading axis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError

__all__ = ["count_examples", "numbers"]


def numbers(tree: Any, name: str) -> Any:
    """The pytree with NumPy arrays for leaves, of the dtypes that JAX has for them.

    Args:
        tree: arrays, or PyTorch tensors.
        name: what it is called in an error.

    Raises:
        InputError: where a leaf is no array of numbers with a leading axis, or has integers that JAX's dtype does not
            hold.

    >>> numbers({"x": np.ones(2)}, "x")
    {'x': array([1., 1.], dtype=float32)}
    """

    def number(path: Any, leaf: Any) -> np.ndarray:
        def where() -> str:
            return name + jax.tree_util.keystr(path)

        try:  # PyTorch's tensors become arrays only on the host and without a graph
            array = np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf)
        except (TypeError, ValueError) as error:
            raise InputError(f"{where()} cannot be made a NumPy array: {error}") from None
        if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
            raise InputError(f"{where()} is of dtype {array.dtype}, and must be numbers")
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise InputError(
                f"{where()} is of dtype {array.dtype}, and must be real; take its real and imaginary parts"
            )
        if not array.ndim:
            raise InputError(
                f"{where()} is the single number {array}, and must be an array with a leading axis of examples; "
                "a list becomes one by np.asarray"
            )
        kept = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        if array.dtype.kind in "iu" and kept.dtype != array.dtype and not np.array_equal(kept, array):
            raise InputError(f"{where()} is {array.dtype} with numbers that do not fit into {kept.dtype}")
        return kept

    return jax.tree_util.tree_map_with_path(number, tree)


def count_examples(examples: Any, name: str) -> int:
    """How many examples there are, the same in all arrays of the pytree and not none.

    >>> count_examples((np.ones((3, 2)), np.ones(3)), "the data")
    3
    """
    shapes = [leaf.shape for leaf in jax.tree.leaves(examples)]
    counts = {shape[0] for shape in shapes}
    if len(counts) > 1:
        raise InputError(f"{name} has arrays of shapes {', '.join(map(str, shapes))}; the first axes must agree")
    if counts in (set(), {0}):
        raise InputError(f"{name} has no examples; there must be at least one")
    return counts.pop()
