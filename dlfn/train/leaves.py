"""The leaves of a saved tree: their types, by which a tree fits or does not, and keys as the data that they are."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError

__all__ = ["as_data", "as_leaf", "describe", "is_host", "require_fit", "sharding"]

# The shape, the dtype, and of keys the implementation, as JSON has them.
Types = Mapping[str, list[Any]]


def describe(leaves: Mapping[str, Any]) -> Types:
    """The types of arrays by path.

    Raises:
        InputError: on what is no array, and a dtype that cannot be saved.
    """
    for path, leaf in leaves.items():
        if not hasattr(leaf, "dtype"):
            raise InputError(f"save: leaf {path!r} is {leaf!r:.40}, and must be an array; jnp.asarray makes one")
        if not (_is_key(leaf) or _is_storable(str(leaf.dtype))):
            raise InputError(
                f"save: leaf {path!r} is {leaf.dtype}, which Orbax does not store; cast it to another type"
            )
    return {
        path: [*_type(leaf), str(jax.random.key_impl(leaf)) if _is_key(leaf) else None] for path, leaf in leaves.items()
    }


def require_fit(name: str, saved: Types, leaves: Mapping[str, Any]) -> None:
    """Compares what was saved with what is wanted.

    Raises:
        InputError: naming the first leaf that differs, what it is on either side, and the likely cause.
    """
    for path in [*saved, *(path for path in leaves if path not in saved)]:
        there = saved[path][:2] if path in saved else None
        here = _type(leaves[path]) if path in leaves else None
        if there == here:
            continue
        message = f"restore: in {name} leaf {path!r} is {_shown(there)}, and here it is {_shown(here)}"
        if there and here and there[1].startswith("key<") and here[1].startswith("key<") and there[0] == here[0]:
            implementation = saved[path][2]
            raise InputError(
                f"{message}; make keys as it was done there: jax.random.key(seed, impl={implementation!r})"
            )
        raise InputError(
            f"{message}; it is likely of another model or optimizer: go on with the configuration that it was saved "
            "with, or choose another folder"
        )


def as_data(leaf: Any) -> Any:
    """What is saved of a leaf."""
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return np.asarray(leaf) if is_host(leaf) else leaf


def as_leaf(data: Any, implementation: str | None) -> Any:
    """The leaf of which :func:`as_data` was saved."""
    return jax.random.wrap_key_data(data, impl=implementation) if implementation else data


def is_host(leaf: Any) -> bool:
    """Whether this is NumPy's."""
    return isinstance(leaf, (np.ndarray, np.generic))


def sharding(leaf: Any) -> jax.sharding.Sharding:
    """That of an array or :class:`jax.ShapeDtypeStruct`; the first device for one without."""
    return leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _type(leaf: Any) -> list[Any]:
    return [list(leaf.shape), str(leaf.dtype)] if hasattr(leaf, "dtype") else [[], type(leaf).__name__]


def _shown(kind: list[Any] | None) -> str:
    return f"{kind[1]}{kind[0]}" if kind else "missing"


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@functools.cache
def _is_storable(dtype: str) -> bool:
    import tensorstore  # which comes with Orbax

    try:
        tensorstore.dtype(dtype)
    except (TypeError, ValueError):
        return False
    return True
