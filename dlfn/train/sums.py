"""SHA-256 sums of the files in a folder, written last: they show that it is complete, and any change to it since."""

import hashlib
import os
from pathlib import Path

from dlfn.files import sync, write_text

__all__ = ["damage", "is_sealed", "seal", "unseal"]

# In the format of sha256sum. The last line, a comment to that program, is the sum of the lines above.
_SUMS = "SHA256SUMS"


def seal(folder: Path) -> None:
    """Puts every file of the folder on disk, and then their sums."""
    lines = ""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sync(path)
        lines += f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n"
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync(path)
    write_text(folder / _SUMS, f"{lines}# {hashlib.sha256(lines.encode()).hexdigest()}\n")
    sync(folder.parent)


def is_sealed(folder: Path) -> bool:
    """Whether there are sums, right or wrong."""
    return (folder / _SUMS).is_file()


def unseal(folder: Path) -> None:
    """Removes the sums, before the files go one by one."""
    (folder / _SUMS).unlink(missing_ok=True)


def damage(folder: Path) -> str | None:
    """What is wrong with the folder, naming the first file; None for nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "a.txt").write_text("a")
    ...     seal(Path(folder))
    ...     before = damage(Path(folder))
    ...     (Path(folder) / "a.txt").write_text("b")
    ...     print(before, damage(Path(folder)), sep=", ")
    1
    1
    None, file a.txt was changed
    """
    if not is_sealed(folder):
        return f"it has no {_SUMS}, so that its save was cut short"
    file = _SUMS
    try:
        content = (folder / _SUMS).read_bytes()
        lines, _, own = content.rpartition(b"# ")
        if own != hashlib.sha256(lines).hexdigest().encode() + b"\n":
            return f"file {_SUMS} was changed"
        for line in lines.decode().splitlines():
            expected, file = line.split("  ", 1)
            if _sum(folder / file) != expected:
                return f"file {file} was changed"
    except FileNotFoundError:
        return f"file {file} is missing"
    except OSError as error:
        return f"file {file} cannot be read: {os.strerror(error.errno or 0)}"
    return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
