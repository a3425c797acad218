"""Leaves of a tree by their paths, as in ``hidden/w``."""

from typing import Any

import jax

from dlfn.core import InputError

__all__ = ["by_path"]


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves by path: dictionary keys, positions and fields, joined by slashes.

    >>> by_path({"hidden": ({"w": 1}, 2)})
    {'hidden/0/w': 1, 'hidden/1': 2}
    """
    found: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in found:
            raise InputError(f"two leaves of the tree have the path {name!r}; rename a key that has a slash in it")
        found[name] = leaf
    return found
