"""All entries: importing the cases registers those of dlfn's own ops, and whoever calls ``register`` adds more."""

import importlib
import pkgutil
from collections.abc import Iterator

from dlfn._suggest import suggestion
from dlfn.core import InputError
from dlfn.registry import cases
from dlfn.registry.entry import ENTRIES, Entry

__all__ = ["entries"]

for _module in pkgutil.walk_packages(cases.__path__, f"{cases.__name__}."):
    importlib.import_module(_module.name)


def entries(names: list[str] | None = None) -> Iterator[Entry]:
    """The entries of the named ops, of all by default."""
    for name in names or []:
        if name not in ENTRIES:
            raise InputError(
                f"unknown op {name!r}; {suggestion(name, ENTRIES, otherwise='the ops are those of dlfn.ops')}"
            )
    return (entry for name, entry in list(ENTRIES.items()) if not names or name in names)
