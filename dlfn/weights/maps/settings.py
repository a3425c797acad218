"""What a ``config.json`` says, asked for by name, so that nothing it says is passed over."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dlfn._suggest import suggestion
from dlfn.core import InputError

__all__ = ["Settings"]

T = TypeVar("T")
_MISSING = object()


class Settings:
    """A table of settings, with its name in messages.

    >>> settings = Settings({"hidden_size": 8, "hidden_act": "gleu"}, "config")
    >>> settings.size("hidden_size")
    8
    >>> settings.one_of("hidden_act", {"gelu": "gelu", "relu": "relu"})
    Traceback (most recent call last):
    dlfn.core.errors.InputError: config: hidden_act = 'gleu', and known are 'gelu', 'relu'
    """

    def __init__(self, table: Mapping[str, Any], name: str = "config"):
        if not isinstance(table, Mapping):
            raise InputError(f"{name} is {table!r:.40}, and must be a dictionary, as that of a config.json")
        self._table, self._name = table, name

    def get(self, key: str, default: Any = _MISSING) -> Any:
        """A value; null counts as the default, if there is one."""
        value = self._table.get(key, _MISSING)
        if value is _MISSING and default is _MISSING:
            raise InputError(f"{self._name} has no {key!r}; {suggestion(key, self._table, otherwise='add it')}")
        return default if value is _MISSING or (value is None and default is not _MISSING) else value

    def size(self, key: str, default: Any = _MISSING) -> Any:
        """A positive integer."""
        return self._checked(key, default, "a positive integer", lambda x: isinstance(x, int) and 0 < x < 2**31)

    def number(self, key: str, default: Any = _MISSING) -> Any:
        """A positive number."""
        return self._checked(
            key, default, "a positive number", lambda x: isinstance(x, int | float) and 0 < x < float("inf")
        )

    def flag(self, key: str, default: bool) -> bool:
        return self._checked(key, default, "true or false", lambda x: isinstance(x, bool), booleans=True)

    def one_of(self, key: str, known: Mapping[Any, T], default: Any = _MISSING) -> T:
        """What a value stands for."""
        value = self.get(key, default)
        if not isinstance(value, str | int | float | bool | None) or value not in known:
            raise InputError(f"{self._name}: {key} = {value!r}, and known are {', '.join(map(repr, known))}")
        return known[value]

    def only(self, key: str, *values: Any) -> None:
        """Refuses a setting other than these, the first of which is what a missing one means."""
        self.one_of(key, dict.fromkeys(values), values[0])

    def table(self, key: str) -> "Settings | None":
        value = self.get(key, None)
        return None if value is None else Settings(value, f"{self._name}.{key}")

    def names(self) -> Sequence[str]:
        return list(self._table)

    def _checked(
        self, key: str, default: Any, must_be: str, fits: Callable[[Any], bool], booleans: bool = False
    ) -> Any:
        value = self.get(key, default)
        if value is default:
            return value
        if not fits(value) or (isinstance(value, bool) and not booleans):
            raise InputError(f"{self._name}: {key} = {value!r}, and must be {must_be}")
        return value
