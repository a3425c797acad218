"""The end of an error about an unknown name: the nearest valid one."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["suggestion"]


def suggestion(name: object, valid: Iterable[str], prefix: str = "") -> str:
    """``did you mean 'gelu'?``, or all the valid names where none is near; each with the prefix.

    >>> suggestion("gleu", ["gelu", "relu"]), suggestion("x", ["gelu", "relu"])
    ("did you mean 'gelu'?", 'expected one of gelu, relu')
    """
    valid = list(valid)
    near = get_close_matches(str(name), valid, 1)
    return f"did you mean {prefix + near[0]!r}?" if near else f"expected one of {', '.join(prefix + v for v in valid)}"
