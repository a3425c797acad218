"""Which files a path stands for: one, that of a folder, or the several of an index."""

import contextlib
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path, PurePosixPath, PureWindowsPath

from dlfn.core import InputError
from dlfn.weights.reading import Place, Stored, read_header, read_json

__all__ = ["member", "opened"]

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# What files of other formats begin with.
_FORMATS = {
    b"PK\x03\x04": "pickle",  # in a ZIP archive, as PyTorch writes it
    b"\x80\x02": "pickle",
    b"\x80\x04": "pickle",
    b"GGUF": "a GGUF file, of llama.cpp; take the safetensors of the same model",
    b"\x89HDF": "an HDF5 file; read it by h5py, and give its arrays to import_state by name",
    b"version https://git-lfs": "a pointer of Git LFS in the place of the file; get that by `git lfs pull`",
}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """The arrays that the path stands for, of files that are open meanwhile, with all headers checked."""
    with contextlib.ExitStack() as files:
        try:
            stored = _opened(path, files)
        except OSError as error:
            raise InputError(f"cannot read {str(path)!r}: {error.strerror}") from None
        yield stored


def _opened(path: Path, files: contextlib.ExitStack) -> Stored:
    shards, index = _shards(path)
    places, metadata = {}, {}
    for shard, expected in shards.items():
        file = files.enter_context(shard.open("rb"))
        found, strings = _header(file, shard)
        if expected is not None:
            _require_as_in_index(path, shard, set(found), expected, index)
        places |= {name: (file, place) for name, place in found.items()}
        metadata |= strings
    return Stored(places, metadata)


def _shards(path: Path) -> tuple[dict[Path, set[str] | None], dict[str, str]]:
    """The files, with the names of the arrays that each has to have, and the index."""
    if path.is_dir():
        one, index = path / _ONE, path / _INDEX
        if not one.is_file() and not index.is_file():
            raise InputError(f"there is no {_ONE} or {_INDEX} in the folder {str(path)!r}{_instead(path)}")
        path = one if one.is_file() else index
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}")
    if path.suffix != ".json":
        return {path: None}, {}
    index = _index(path)
    names: dict[str, set[str]] = {}
    for name, file in index.items():
        names.setdefault(file, set()).add(name)
    shards: dict[Path, set[str] | None] = {member(path, file): names[file] for file in sorted(names)}
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        what = "a file is" if len(missing) == 1 else f"{len(missing)} of {len(shards)} files are"
        few = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(f"{what} missing beside {str(path)!r}, which names them: {few}")
    return shards, index


def _index(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        try:
            weights = read_json(file, os.fstat(file.fileno()).st_size, floats=True).get("weight_map")
        except ValueError as error:
            raise InputError(f"cannot read {str(path)!r}, an index of safetensors files: {error}") from None
    if not isinstance(weights, dict) or not weights or not all(isinstance(each, str) for each in weights.values()):
        raise InputError(
            f"{str(path)!r} is no index of safetensors files: its 'weight_map' must have the name of a file for each "
            "array; pass the folder, an index, or a file of safetensors"
        )
    return weights


def member(index: Path, name: str) -> Path:
    """The file of that name beside a file that names it.

    Raises:
        InputError: where the name leads to another folder, or is that of a link that does. A link into the folder of
            files that the cache of Hugging Face has for all snapshots of a model is none.
    """
    if name in ("", "..") or {PurePosixPath(name).name, PureWindowsPath(name).name} != {name} or "\0" in name:
        raise InputError(f"{str(index)!r} names the file {name!r}, and may only name files in its own folder")
    folder = index.parent.resolve()
    target = Path(os.path.realpath(folder / name))
    blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else folder
    if folder not in target.parents and blobs not in target.parents:
        raise InputError(
            f"{str(index)!r} names the file {name!r}, which is a link to {str(target)!r}, outside of its folder; put "
            "the file itself there"
        )
    return index.parent / name


def _header(file: BufferedReader, path: Path) -> tuple[dict[str, Place], dict[str, str]]:
    try:
        return read_header(file)
    except ValueError as error:
        file.seek(0)
        begin = file.read(32)
        kinds = [kind for magic, kind in _FORMATS.items() if begin.startswith(magic)]
        if path.suffix in _PICKLES or "pickle" in kinds:
            raise InputError(f"{str(path)!r} is {_pickle(path)}") from None
        if kinds:
            raise InputError(f"{str(path)!r} is {kinds[0]}") from None
        raise InputError(f"cannot read {str(path)!r}, which is no safetensors file or damaged: {error}") from None


def _require_as_in_index(path: Path, shard: Path, found: set[str], expected: set[str], index: dict[str, str]) -> None:
    for name in sorted(expected - found):
        raise InputError(f"the index of {str(path)!r} says that {name!r} is in {shard.name!r}, where it is not")
    for name in sorted(found - expected):
        where = f"in {index[name]!r}" if name in index else "nowhere"
        raise InputError(f"{shard.name!r} has {name!r}, which by the index of {str(path)!r} is {where}")


def _instead(folder: Path) -> str:
    """What there is in its place."""
    names = sorted(each.name for each in folder.iterdir())
    for name in names:
        if name.endswith(".safetensors"):
            return f"; there is {name!r}: pass that file itself, or put the index of several beside it"
    for name in names:
        if name.endswith(_PICKLES):
            return f"; there is {name!r}, {_pickle(folder / name)}"
    return ""


def _pickle(path: Path) -> str:
    return (
        "a pickle, which may run any code when it is read, so that dlfn does not read it; write it anew in PyTorch: "
        f"safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), {path.stem + '.safetensors'!r})"
    )
