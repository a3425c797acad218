"""The end of an error about an unknown name: the nearest valid one."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["suggestion"]


def suggestion(name: object, valid: Iterable[str], prefix: str = "", otherwise: str = "") -> str:
    """``did you mean 'gelu'?``, with the prefix. Where none is near, ``otherwise``, or all the valid names. Of a dotted
    name the last part is enough.

    >>> suggestion("gleu", ["gelu", "relu"]), suggestion("x", ["gelu", "relu"])
    ("did you mean 'gelu'?", 'expected one of gelu, relu')
    >>> suggestion("gelu", ["linear.softmax", "activation.gelu"]), suggestion("x", ["gelu"], otherwise="see --help")
    ("did you mean 'activation.gelu'?", 'see --help')
    """
    names = {full: full for full in valid}
    spellings = {full.rpartition(".")[2]: full for full in names} | names
    for near in get_close_matches(str(name), spellings, 1):
        return f"did you mean {prefix + spellings[near]!r}?"
    return otherwise or f"expected one of {', '.join(prefix + full for full in names)}"
