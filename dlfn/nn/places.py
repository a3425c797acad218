"""A part of a layer's params by its path, and another in its place."""

from collections.abc import Callable
from typing import Any

from dlfn.core import InputError
from dlfn.nn.types import Params

__all__ = ["Put", "place"]

Put = Callable[[Any], Params]


def place(owner: Any, what: str, params: Params, path: str) -> tuple[Any, Put]:
    """What is at a path with slashes, and a function that returns the params with something else there.

    Raises:
        InputError: where there is no such path. It says that ``what``, a field of the layer ``owner``, is the path.
    """

    def at(params: Params, names: list[str]) -> tuple[Any, Put]:
        if not names:
            return params, lambda part: part
        is_dict = isinstance(params, dict)
        parts = params if isinstance(params, tuple | list) else ()
        items: dict[str, Any] = params if is_dict else {str(index): part for index, part in enumerate(parts)}
        if names[0] not in items:
            raise InputError(
                f"{type(owner).__name__}: {what} is {path!r}, but there is no {names[0]!r} among "
                f"{', '.join(items) or 'no params'}; give the path of params of the layer inside, such as 'w' or '0/w'"
            )
        found, put = at(items[names[0]], names[1:])

        def replaced(part: Any) -> Params:
            new = {**items, names[0]: put(part)}
            return new if is_dict else tuple(new.values())

        return found, replaced

    return at(params, path.split("/"))
