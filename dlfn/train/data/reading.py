"""What the readers of data files have in common: paths that are no files, and files that break off."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlfn._suggest import suggestion
from dlfn.core import InputError

__all__ = ["existing_file", "is_number", "readable", "require_choice"]


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises InputError where the value of a key is none of its choices."""
    if value not in choices:
        raise InputError(f"{key} = {value!r}; {suggestion(value, choices)}")


def existing_file(path: str | Path, key: str = "path") -> Path:
    """The path of a file that is not empty, with ``~`` expanded.

    Raises:
        InputError: where there is none, with the nearest name in its folder, or it is a folder or empty.
    """
    file = Path(path).expanduser()
    with readable(file):
        if file.is_dir():
            raise InputError(f"{key} = {str(path)!r} is a folder, and must be a file")
        if not file.exists():
            others = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
            near = suggestion(file.name, others, otherwise="nor is there one of a similar name in its folder")
            raise InputError(f"{key} = {str(path)!r}: there is no such file; {near}")
        if not file.stat().st_size:
            raise InputError(f"{key} = {str(path)!r} is an empty file")
    return file


def is_number(field: str) -> bool:
    """Whether a field of a table is one."""
    try:
        float(field)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """Makes an :class:`InputError` that names the file of what a reader raises where it cannot go on."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"cannot read {str(file)!r}: {_not_utf_8(file.read_bytes())}; save it as UTF-8") from None
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"cannot read {str(file)!r}: {str(error).splitlines()[0]}; is it damaged or cut short?"
        ) from None


def _not_utf_8(content: bytes) -> str:
    """A reader of text counts bytes from where it last read; this counts them from the start."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start}, 0x{content[error.start]:02x}, is not UTF-8"
    return "it is not UTF-8"
