"""What the readers of data files have in common: paths that are no files, and files that break off."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from dlfn._suggest import suggestion
from dlfn.core import InputError

__all__ = ["existing_file", "readable"]


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


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """Makes an :class:`InputError` that names the file of what a reader raises where it cannot go on."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.start}, 0x{error.object[error.start]:02x}, is not UTF-8"
        raise InputError(f"cannot read {str(file)!r}: {byte}; save it as UTF-8") from None
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"cannot read {str(file)!r}: {str(error).splitlines()[0]}; is it damaged or cut short?"
        ) from None
