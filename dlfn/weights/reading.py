"""The safetensors format, read with care: nothing that a file says is believed before it is checked, and nothing is
allocated before all of it is.

A file has the length of its header in 8 bytes, the header in JSON, which says dtype, shape and place of each array by
name, and the arrays, one after the other without holes. A large model is divided over several such files, with an index
in JSON that says which array is in which.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from io import BufferedReader
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlfn.core import InputError

__all__ = ["Place", "Stored", "read_header", "read_json"]

_DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    "BF16": np.dtype(jnp.bfloat16),
    "C64": np.dtype("c8"),
}
_LONGEST_JSON = 100_000_000  # bytes, the limit of the format
_MOST_AXES = 64  # of numpy
_MOST_BYTES = 2**63 - 1


class Place(NamedTuple):
    """Where an array is in its file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # from the beginning of the file
    size: int  # in bytes


class Stored(Mapping[str, np.ndarray]):
    """The arrays of open files by name, each of which is read when it is asked for, and not kept.

    Args:
        places: by name, the file and the place in it.
        metadata: the strings in the headers.
    """

    def __init__(self, places: Mapping[str, tuple[BufferedReader, Place]], metadata: Mapping[str, str]):
        self._places, self.metadata = places, metadata

    def __getitem__(self, name: str) -> np.ndarray:
        file, place = self._places[name]
        content = np.empty(place.size, np.uint8)
        try:
            file.seek(place.start)
            count = file.readinto(content.data)
        except OSError as error:
            raise InputError(f"cannot read {name!r} from {file.name!r}: {error.strerror}") from None
        if count != place.size:
            raise InputError(f"cannot read {name!r} from {file.name!r}, which has become shorter since it was opened")
        return content.view(place.dtype).reshape(place.shape)

    def __contains__(self, name: object) -> bool:  # by Mapping's, the array would be read
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape_of(self, name: str) -> jax.ShapeDtypeStruct:
        """Shape and dtype of an array, without reading it."""
        _, place = self._places[name]
        return jax.ShapeDtypeStruct(place.shape, place.dtype)


def read_header(file: BufferedReader) -> tuple[dict[str, Place], dict[str, str]]:
    """The places of the arrays by name, and the metadata.

    Raises:
        ValueError: which says what is wrong.
    """
    size, prefix = os.fstat(file.fileno()).st_size, file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8:
        raise ValueError(f"it has {size} bytes")
    if length > size - 8:
        raise ValueError(f"its header would have {length} bytes, and there are {size - 8} after its length")
    header = read_json(file, length)
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no dictionary of strings")
    places = {name: _place(name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].size)):
        if place.start != end:
            raise ValueError(f"{name!r:.200} begins at byte {place.start} of the file, and must at byte {end}")
        end += place.size
    if end != size:
        raise ValueError(f"its arrays end at byte {end}, and the file has {size}")
    return places, metadata


def _place(name: str, entry: Any, begin: int) -> Place:
    called = f"{name!r:.200}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{called} has not dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(_unknown_dtype(called, dtype))
    if not _are_counts(shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"the shape of {called} is no list of at most {_MOST_AXES} counts")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"the data_offsets of {called} are not two counts")
    # First without axes of length 0, as numpy counts, which makes no (0, 2**62, 2**62).
    size = math.prod(length for length in shape if length) * _DTYPES[dtype].itemsize
    if size > _MOST_BYTES:
        raise ValueError(f"{called} would be larger than any array")
    size = 0 if 0 in shape else size
    start, end = offsets
    if end - start != size:
        raise ValueError(f"{called} is {dtype}{shape}, of {size} bytes, and its data_offsets are {offsets}")
    return Place(_DTYPES[dtype], tuple(shape), begin + start, size)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int for each in value)


def _unknown_dtype(called: str, dtype: Any) -> str:
    if not str(dtype).startswith(("F8", "F6", "F4")):
        return f"{called} has the dtype {dtype!r:.20}, and known are {', '.join(_DTYPES)}"
    return (
        f"{called} is of float{dtype[1]} ({dtype:.20}), a dtype for quantised weights, which is not supported; write "
        "it in bfloat16, multiplied by its scales, which stand beside it in the file"
    )


def read_json(file: BufferedReader, length: int, *, floats: bool = False) -> dict[str, Any]:
    """An object of JSON, strictly: no name twice, and numbers that are counts.

    Args:
        file: at the beginning of the JSON.
        length: of the JSON in bytes.
        floats: whether other numbers may be there.

    Raises:
        ValueError: which says what is wrong.
    """
    if length > _LONGEST_JSON:
        raise ValueError(f"its JSON would have {length} bytes, and may have {_LONGEST_JSON}")
    content = file.read(length)
    if not content.startswith(b"{"):
        raise ValueError("it does not begin with JSON")
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_int=_count,
            parse_float=float if floats else _no_count,
            parse_constant=_no_count,
        )
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("its JSON is not in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its JSON is damaged: {error}") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"its JSON has {twice!r:.200} twice")
    for text in (*found, *found.values()):
        try:
            _ = isinstance(text, str) and text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"its JSON has half a character in {text!r:.200}") from None
    return found


def _count(digits: str) -> int:
    return int(digits) if not digits.startswith("-") and len(digits) < 20 else _no_count(digits)


def _no_count(digits: str) -> int:
    raise ValueError(f"its JSON has the number {digits:.30}, and may have counts of less than 20 digits alone")
