"""Code that is not ours: what a user's function raises, in one line that says where."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from dlfn.core import InputError

__all__ = ["foreign"]

_PACKAGE = str(Path(__file__).resolve().parents[1])


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Makes an :class:`dlfn.InputError` of what code in this block raises, in one line with its kind and place. What it
    was stays its cause, which Python prints above it; the command prints the line alone.

    >>> with foreign("[model] mine:build"):
    ...     {}["width"]
    Traceback (most recent call last):
    dlfn.core.errors.InputError: [model] mine:build: KeyError: 'width' (..., line 2)
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines()
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        theirs = [f for f in frames if not f.filename.startswith(_PACKAGE) and "site-packages" not in f.filename]
        frame = (theirs or frames)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        message = ": ".join([what, type(error).__name__, *said[:1]])
        raise InputError(f"{message} ({place})") from error
